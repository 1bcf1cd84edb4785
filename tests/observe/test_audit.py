"""The audit chain: what is written holds, and every way of touching it afterwards is found and named."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.observe import audit, audit_verify
from proxy.observe.audit import ALLOWED_KEYS, MIN_MAX_BYTES, AuditChain, AuditUnwritable
from proxy.observe.audit_verify import MAX_LINE, AuditUnreadable, ChainReport, Head, heads, verify

BIG = 1 << 30
CURRENT = "worker-0.jsonl"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "audit"


def opened(directory: Path, max_bytes: int = BIG, slot: int = 0) -> AuditChain:
    return AuditChain.open(directory, slot, max_bytes=max_bytes)


def filled(directory: Path, records: int, max_bytes: int = BIG, slot: int = 0) -> Head:
    chain = opened(directory, max_bytes, slot)
    for number in range(records):
        chain.append({"event": "exchange", "at": 1700000000.5 + number, "route": "wechat", "values_protected": number})
    chain.close()
    return chain.head()


def judged(directory: Path, exported: dict[int, Head] | None = None, *, pruned: bool = False) -> ChainReport:
    (report,) = verify(directory, exported, pruned=pruned)
    return report


def intact(directory: Path) -> ChainReport:
    report = judged(directory)
    assert report.finding is None, report.finding
    return report


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def child(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)


# --- writing ---


def test_lines_follow_the_published_recipe(directory: Path) -> None:
    head = filled(directory, 3)
    prev = hashlib.sha256(b"wxgate audit chain v1 worker-0").hexdigest()
    for number, line in enumerate((directory / CURRENT).read_text().splitlines(), 1):
        body, own = line[:-75] + "}", line[-66:-2]
        assert json.loads(line)["n"] == number
        assert json.loads(line)["prev"] == prev
        assert hashlib.sha256((prev + body).encode()).hexdigest() == own == json.loads(line)["hash"]
        prev = own
    assert head == Head(0, 4, prev)


def test_files_are_private(directory: Path) -> None:
    filled(directory, 1)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_sequence_continues_over_restarts(directory: Path) -> None:
    assert [filled(directory, 2).n for _ in range(3)] == [3, 5, 7]
    assert intact(directory).records == 7


@pytest.mark.parametrize("key", ["content", "openid", "n", "prev", "hash", "torn_bytes", ""])
def test_keys_outside_the_allow_list_raise_and_are_not_repeated(directory: Path, key: str) -> None:
    chain = opened(directory)
    with pytest.raises(ValueError, match="ALLOWED_KEYS") as error:
        chain.append({"event": "exchange", key: "hello"})
    assert f"{key!r}" not in str(error.value)
    assert "hello" not in str(error.value)
    chain.close()
    assert intact(directory).records == 1


def test_usual_items_are_members_like_any_other_and_come_right_after_the_event(directory: Path) -> None:
    chain = opened(directory)
    for number in range(2):
        chain.append({"event": "exchange", "values_allowed": number}, ("route", 'é "x', "role", "crm"))
    chain.append({"event": "exchange", "values_allowed": 2, "route": 'é "x', "role": "crm"})
    chain.close()
    lines = [json.loads(line) for line in lines_of(directory / CURRENT)[1:]]
    assert [list(line) for line in lines[:2]] == [["n", "event", "route", "role", "values_allowed", "prev", "hash"]] * 2
    told = [{key: line[key] for key in ("event", "route", "role")} for line in lines]
    assert told == [{"event": "exchange", "route": 'é "x', "role": "crm"}] * 3
    assert [line["values_allowed"] for line in lines] == [0, 1, 2]


@pytest.mark.parametrize(
    "names",
    [
        ("content", "hello"),
        ("route",),
        ("route", "hello", "role"),
        ("route", "hello", "route", "hello"),
        ("event", "hello"),
        ("at", "hello"),
        ("n", "hello"),
        ("hello", "route"),
    ],
)
def test_usual_items_that_are_no_members_or_stand_twice_raise(directory: Path, names: tuple[str, ...]) -> None:
    chain = opened(directory)
    with pytest.raises(ValueError, match="ALLOWED_KEYS") as error:
        chain.append({"event": "exchange", "at": 1}, names)
    assert "hello" not in str(error.value)
    chain.close()
    assert intact(directory).records == 1


@pytest.mark.parametrize("value", [1.0, True, None])
def test_what_equals_another_value_is_not_remembered_as_it(directory: Path, value: Any) -> None:
    chain = opened(directory)
    audit._usual.cache_clear()
    with pytest.raises(ValueError, match="put it into the record"):
        chain.append({"event": "exchange"}, ("status", value))
    chain.append({"event": "exchange"}, ("status", 1))
    chain.close()
    assert b'"status":1,' in lines_of(directory / CURRENT)[-1]


@pytest.mark.parametrize("value", ["x" * 257, "two\nlines", "\ud800"])
def test_usual_items_are_as_plain_as_other_values(directory: Path, value: str) -> None:
    chain = opened(directory)
    for _ in range(2):  # what was refused once is refused again
        with pytest.raises(ValueError, match="route is not"):
            chain.append({"event": "exchange"}, ("route", value))
    chain.close()


@pytest.mark.parametrize(
    "value",
    ["x" * 257, "two\nlines", "\x1b[31m", "\ud800", "\u202e", float("nan"), float("inf"), 1 << 63, b"bytes", ["list"]],
)
def test_values_that_are_not_plain_metadata_raise(directory: Path, value: object) -> None:
    chain = opened(directory)
    with pytest.raises(ValueError, match="reason is not"):
        chain.append({"event": "exchange", "reason": value})  # type: ignore[dict-item]
    chain.close()
    assert intact(directory).records == 1


@pytest.mark.parametrize("event", [None, "", "rotated", "torn", "begin", "continued", 'a"b', "two words", "x" * 65, 7])
def test_events_must_be_plain_and_not_the_chains_own(directory: Path, event: str | int | None) -> None:
    chain = opened(directory)
    with pytest.raises(ValueError, match="event"):
        chain.append({"event": event})
    with pytest.raises(ValueError, match="event"):
        chain.append({"reason": "no event"})
    chain.close()


def test_a_record_longer_than_a_line_may_be_raises(directory: Path) -> None:
    chain = opened(directory)
    with pytest.raises(ValueError, match="longer"):
        chain.append(dict.fromkeys(ALLOWED_KEYS, "\U00020000" * 256) | {"event": "exchange"})
    chain.append(dict.fromkeys(ALLOWED_KEYS, "x" * 256) | {"event": "exchange"})
    chain.close()
    assert intact(directory).records == 2


@given(
    st.dictionaries(
        st.sampled_from(sorted(ALLOWED_KEYS - {"event"})),
        st.none()
        | st.booleans()
        | st.integers(-(1 << 63), (1 << 63) - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=20).filter(str.isprintable),
        max_size=6,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
def test_whatever_is_accepted_is_read_back(tmp_path: Path, record: dict[str, str | int | float | bool | None]) -> None:
    directory = tmp_path / "many"
    chain = opened(directory)
    chain.append({**record, "event": "exchange"})
    chain.close()
    line = json.loads(lines_of(directory / CURRENT)[-1])
    assert {key: line[key] for key in line if key not in {"n", "prev", "hash"}} == {**record, "event": "exchange"}
    assert judged(directory).finding is None


def test_two_writers_never_share_a_chain(directory: Path) -> None:
    chain = opened(directory)
    script = (
        "import sys, pathlib\nfrom proxy.observe.audit import *\n"
        "try: AuditChain.open(pathlib.Path(sys.argv[1]), 0, max_bytes=1<<30)\nexcept AuditUnwritable as e: print(e)"
    )
    with child(script, str(directory)) as process:
        assert "in use by another writer" in process.communicate()[0]
    (directory / "worker-0.lock").unlink()  # the chain's own file is locked as well
    with pytest.raises(AuditUnwritable, match="in use"):
        opened(directory)
    opened(directory, slot=1).close()
    chain.close()
    opened(directory).close()


@pytest.mark.parametrize("name", [CURRENT, "worker-0.lock"])
@pytest.mark.parametrize("plant", ["link", "mode", "pipe", "directory"])
def test_planted_files_are_refused(directory: Path, name: str, plant: str) -> None:
    directory.mkdir(mode=0o700)
    match plant:
        case "link":
            (directory / "elsewhere").touch(mode=0o600)
            (directory / name).symlink_to("elsewhere")
        case "mode":
            (directory / name).touch()
            (directory / name).chmod(0o640)
        case "pipe":
            os.mkfifo(directory / name, 0o600)
        case _:
            (directory / name).mkdir(mode=0o700)
    with pytest.raises(AuditUnwritable):
        opened(directory)


def test_a_directory_open_to_others_or_reached_by_a_link_is_refused(directory: Path, tmp_path: Path) -> None:
    filled(directory, 1)
    (tmp_path / "link").symlink_to(directory)
    with pytest.raises(AuditUnwritable):
        opened(tmp_path / "link")
    directory.chmod(0o750)
    with pytest.raises(AuditUnwritable, match="chmod 700"):
        opened(directory)
    with pytest.raises(ValueError, match="max_bytes"):
        opened(directory, max_bytes=MIN_MAX_BYTES - 1)


def test_a_closed_chain_refuses_everything(directory: Path) -> None:
    chain = opened(directory)
    chain.close()
    chain.close()
    for call in (lambda: chain.append({"event": "exchange"}), chain.sync, chain.reopen):
        with pytest.raises(AuditUnwritable, match="closed"):
            call()


# --- failing disks ---

_FULL = """
import pathlib, resource, sys
from proxy.observe.audit import AuditChain, AuditUnwritable
chain = AuditChain.open(pathlib.Path(sys.argv[1]), 0, max_bytes=1 << 30)
def fill():
    for count in range(1 << 20):
        try: chain.append({"event": "exchange", "reason": "r" * 100})
        except AuditUnwritable: return count
"""
_LIMITED = (
    _FULL
    + """
resource.setrlimit(resource.RLIMIT_FSIZE, (10_001, resource.RLIM_INFINITY))
print(fill(), fill(), chain.broken)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_001, resource.RLIM_INFINITY))
print(fill())
"""
)
_TMPFS = (
    _FULL
    + """
ballast = pathlib.Path(sys.argv[1]) / "ballast"
ballast.write_bytes(bytes(20_000))
print(fill(), fill(), chain.broken)
ballast.unlink()
print(fill())
"""
)


def _assert_full_and_on_again(directory: Path, output: str) -> None:
    first, again, broken, more = output.split()
    assert int(first) > 10
    assert (again, broken) == ("0", "False")
    assert int(more) > 10
    report = intact(directory)
    assert report.records == 1 + int(first) + int(more)
    assert not any("torn" in note for note in report.notes)
    assert filled(directory, 1).n == report.records + 1


def test_a_file_that_may_not_grow_raises_and_stays_whole(directory: Path) -> None:
    with child(_LIMITED, str(directory)) as process:
        output, _ = process.communicate()
    _assert_full_and_on_again(directory, output)


def test_a_full_disk_raises_and_stays_whole(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "script.py").write_text(_TMPFS)
    script = 'mount -t tmpfs -o size=64k none disk && "$0" script.py disk/audit && cp -r disk/audit audit'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, sys.executable],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no private mount here; the test above covers the same with a size limit")
    assert done.returncode == 0, done.stderr
    directory.chmod(0o700)
    _assert_full_and_on_again(directory, done.stdout)


def test_a_write_that_can_neither_finish_nor_be_taken_back_breaks_the_chain(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = opened(directory)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:40]))
    monkeypatch.setattr(os, "ftruncate", _raise(OSError(errno.EIO, "input/output error")))
    with pytest.raises(AuditUnwritable, match="only part"):
        chain.append({"event": "exchange"})
    monkeypatch.undo()
    assert chain.broken
    with pytest.raises(AuditUnwritable, match="broken"):
        chain.append({"event": "exchange"})
    chain.reopen()
    chain.append({"event": "exchange"})
    chain.close()
    assert [json.loads(line)["event"] for line in lines_of(directory / CURRENT)] == ["begin", "torn", "exchange"]
    intact(directory)


def test_a_failed_write_to_a_file_someone_else_shortened_breaks_the_chain(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = opened(directory)
    chain.append({"event": "exchange"})
    os.truncate(directory / CURRENT, 0)
    monkeypatch.setattr(os, "write", _raise(OSError(errno.ENOSPC, "no space left on device")))
    with pytest.raises(AuditUnwritable, match="no space left"):
        chain.append({"event": "exchange"})
    monkeypatch.undo()
    assert chain.broken
    chain.close()


def _raise(error: BaseException) -> Callable[..., int]:
    def call(*_: object) -> int:
        raise error

    return call


def test_an_interrupt_between_write_and_knowing_is_mended(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = opened(directory)
    real = os.write

    def interrupted(fd: int, data: bytes) -> int:
        real(fd, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chain.append({"event": "exchange"})
    monkeypatch.undo()
    with pytest.raises(AuditUnwritable):
        chain.append({"event": "exchange"})
    chain.reopen()
    chain.append({"event": "exchange"})
    chain.close()
    assert intact(directory).records == 3


def test_a_failed_sync_breaks_the_chain_until_reopened(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = opened(directory)
    monkeypatch.setattr(os, "fsync", _raise(OSError(errno.EIO, "input/output error")))
    with pytest.raises(AuditUnwritable):
        chain.sync()
    monkeypatch.undo()
    with pytest.raises(AuditUnwritable, match="broken"):
        chain.append({"event": "exchange"})
    chain.reopen()
    chain.append({"event": "exchange"})
    chain.close()
    assert intact(directory).records == 2


def test_sync_sees_a_deleted_file_and_verify_what_it_held(directory: Path) -> None:
    chain = opened(directory)
    chain.append({"event": "exchange"})
    (directory / CURRENT).unlink()
    with pytest.raises(AuditUnwritable, match="deleted"):
        chain.sync()
    with pytest.raises(AuditUnwritable):
        chain.append({"event": "exchange"})
    chain.reopen()
    chain.close()
    finding = judged(directory).finding
    assert finding and (finding.kind, finding.where) == ("removed", f"{CURRENT}:1")


# --- crashes ---

_WRITER = """
import pathlib, sys
from proxy.observe.audit import AuditChain
chain = AuditChain.open(pathlib.Path(sys.argv[1]), 0, max_bytes=1 << 16)
while True: chain.append({"event": "exchange", "reason": "r" * 200})
"""


def test_kill_9_in_mid_stream(directory: Path) -> None:
    for _ in range(3):
        before = heads(directory)[0].n if directory.exists() else 0
        with child(_WRITER, str(directory)) as process:
            _until(lambda before=before: directory.exists() and any(h.n > before + 500 for h in heads(directory)))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert judged(directory).finding is None
    head = filled(directory, 1, 1 << 16)
    assert intact(directory).head == head
    assert head.n > 1500


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_verify_of_a_chain_that_is_being_written_and_rotated(directory: Path) -> None:
    rounds = 0
    with child(_WRITER.replace("while True:", "for _ in range(20_000):"), str(directory)) as process:
        _until(lambda: directory.exists() and bool(heads(directory)))
        while process.poll() is None:
            rounds += 1
            assert judged(directory).finding is None
    assert rounds > 1
    report = intact(directory)
    assert len(report.files) > 100
    assert not any("not here" in note for note in report.notes)


def test_a_line_that_is_finished_while_it_is_read_is_no_edit(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(directory, 3)
    path, judge = directory / CURRENT, audit_verify._Walk._tail
    data = path.read_bytes()
    path.write_bytes(data[:-20])

    def finish(walk: audit_verify._Walk, where: str, raw: bytes) -> None:
        judge(walk, where, raw)
        with path.open("ab") as file:
            file.write(data[-20:])

    monkeypatch.setattr(audit_verify._Walk, "_tail", finish)
    assert judged(directory).finding is None
    assert path.read_bytes() == data


def test_every_cut_of_the_last_line_is_torn_and_mended(tmp_path: Path) -> None:
    filled(tmp_path / "whole", 3)
    data = (tmp_path / "whole" / CURRENT).read_bytes()
    last = lines_of(tmp_path / "whole" / CURRENT)[-1]
    for cut in range(1, len(last)):
        for tail in (b"", b"\0" * 7) if cut > 1 else (b"",):
            directory = tmp_path / f"cut{cut}-{len(tail)}"
            directory.mkdir(mode=0o700)
            (directory / CURRENT).write_bytes(data[:-cut] + tail)
            (directory / CURRENT).chmod(0o600)
            torn = last[:-cut] + tail
            assert any(f"{CURRENT}:4: torn: {len(torn)} bytes" in note for note in intact(directory).notes)
            assert filled(directory, 1).n == 5
            record = json.loads(lines_of(directory / CURRENT)[3])
            assert (record["event"], record["torn_bytes"]) == ("torn", len(torn))
            assert record["torn_sha256"] == hashlib.sha256(torn).hexdigest()
            assert (directory / "worker-0.torn-4").read_bytes() == torn
            assert intact(directory).records == 5
            shutil.rmtree(directory)


def test_a_torn_first_line(directory: Path) -> None:
    filled(directory, 0)
    os.truncate(directory / CURRENT, 30)
    assert "torn" in intact(directory).notes[0]
    filled(directory, 1)
    events = [json.loads(line)["event"] for line in lines_of(directory / CURRENT)]
    assert events == ["begin", "torn", "exchange"]
    intact(directory)


@pytest.mark.parametrize("tail", [b"x", b'{"n":9,"event":"exch', b'{"n":4,"event":"\xff', b"\0" * (MAX_LINE + 1)])
def test_a_tail_no_crash_leaves_is_tampering_and_not_continued(directory: Path, tail: bytes) -> None:
    filled(directory, 2)
    with (directory / CURRENT).open("ab") as stream:
        stream.write(tail)
    finding = judged(directory).finding
    assert finding and (finding.kind, finding.where) == ("edited", f"{CURRENT}:4")
    with pytest.raises(AuditUnwritable, match="wxgate audit verify"):
        opened(directory)


def test_an_edited_last_line_is_not_continued(directory: Path) -> None:
    filled(directory, 2)
    data = (directory / CURRENT).read_bytes()
    (directory / CURRENT).write_bytes(data.replace(b'"values_protected":1', b'"values_protected":2'))
    with pytest.raises(AuditUnwritable, match="does not match its hash"):
        opened(directory)


# --- rotation ---


def test_rotation_carries_the_chain_through_the_files(directory: Path) -> None:
    chain = opened(directory, MIN_MAX_BYTES)
    for number in range(600):
        chain.append({"event": "exchange", "values_protected": number})
        assert (directory / CURRENT).stat().st_size <= MIN_MAX_BYTES
    chain.close()
    files = sorted(path.name for path in directory.glob("*.jsonl"))
    assert len(files) > 3
    for name in files:
        first, *_, last = (json.loads(line) for line in lines_of(directory / name))
        if name != CURRENT:
            assert name == f"worker-0.{first['n']:020d}.jsonl"
            assert last["event"] == "rotated"
        assert first["event"] == ("begin" if first["n"] == 1 else "continued")
    report = intact(directory)
    assert report.files[-1] == CURRENT
    assert report.head == chain.head()
    assert report.records == chain.head().n


@pytest.mark.parametrize("failing", ["rename", "fsync", "stat", "open"])
@pytest.mark.parametrize("restart", [True, False])
def test_a_rotation_that_fails_half_way_is_finished_later(
    directory: Path, monkeypatch: pytest.MonkeyPatch, failing: str, restart: bool
) -> None:
    chain = opened(directory, MIN_MAX_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, _raise_with_keywords(OSError(errno.EIO, "input/output error")))
        with pytest.raises(AuditUnwritable):
            for _ in range(600):
                chain.append({"event": "exchange"})
    with pytest.raises(AuditUnwritable, match="broken"):
        chain.append({"event": "exchange"})
    assert judged(directory).finding is None
    if restart:
        chain.close()
        chain = opened(directory, MIN_MAX_BYTES)
    chain.reopen()
    chain.append({"event": "exchange"})
    chain.close()
    closed, current = intact(directory).files
    assert [line.count(b'"event":"rotated"') for line in lines_of(directory / closed)[-2:]] == [0, 1]
    assert b"rotated" not in (directory / current).read_bytes()


def _raise_with_keywords(error: BaseException) -> Callable[..., int]:
    def call(*_: object, **__: object) -> int:
        raise error

    return call


def test_an_interrupt_in_a_rotation_breaks_the_chain_until_reopened(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = opened(directory, MIN_MAX_BYTES)
    monkeypatch.setattr(os, "rename", _raise_with_keywords(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        for _ in range(600):
            chain.append({"event": "exchange"})
    monkeypatch.undo()
    with pytest.raises(AuditUnwritable, match="broken"):
        chain.append({"event": "exchange"})
    chain.reopen()
    chain.close()
    assert len(intact(directory).files) == 2


def test_a_rotation_between_opening_and_listing_is_no_tampering(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = opened(directory, MIN_MAX_BYTES)
    real = os.listdir

    def rotating(fd: int) -> list[str]:
        for _ in range(300):
            chain.append({"event": "exchange"})
        return real(fd)

    monkeypatch.setattr(os, "listdir", rotating)
    report = intact(directory)
    monkeypatch.undo()
    chain.close()
    assert report.notes == ("no exported head was given: a cut tail or a rewritten chain cannot be seen",)
    assert report.records < intact(directory).records


def test_rotation_never_replaces_a_file(directory: Path) -> None:
    chain = opened(directory, MIN_MAX_BYTES)
    kept = directory / f"worker-0.{1:020d}.jsonl"
    kept.write_text("kept")
    with pytest.raises(AuditUnwritable, match="exists already"):
        for _ in range(600):
            chain.append({"event": "exchange"})
    assert kept.read_text() == "kept"
    kept.unlink()
    chain.reopen()
    chain.close()
    intact(directory)


@pytest.mark.parametrize("name", ["worker-0.jsonl.1", "worker-0.jsonl-20260101", f"worker-0.{1:020d}.jsonl"])
def test_an_external_rename_is_noticed_by_reopen(directory: Path, name: str) -> None:
    chain = opened(directory)
    chain.append({"event": "exchange"})
    chain.reopen()
    assert not (directory / name).exists()
    (directory / CURRENT).rename(directory / name)
    chain.append({"event": "exchange"})  # still the old file
    chain.reopen()
    chain.append({"event": "exchange"})
    chain.close()
    report = intact(directory)
    assert (report.files, report.records) == ((name, CURRENT), 5)
    assert json.loads(lines_of(directory / CURRENT)[0])["event"] == "continued"


def test_a_restart_after_an_external_rename_goes_on_with_the_chain(directory: Path) -> None:
    filled(directory, 2)
    (directory / CURRENT).rename(directory / "worker-0.jsonl.2")
    filled(directory, 2)
    (directory / CURRENT).rename(directory / "worker-0.jsonl.1")
    assert filled(directory, 2).n == 9
    assert intact(directory).files == ("worker-0.jsonl.2", "worker-0.jsonl.1", CURRENT)


def test_reopen_does_not_go_on_in_a_file_someone_else_wrote(directory: Path, tmp_path: Path) -> None:
    chain = opened(directory)
    filled(tmp_path / "other", 3)
    (directory / CURRENT).rename(directory / "worker-0.jsonl.1")
    shutil.copy(tmp_path / "other" / CURRENT, directory / CURRENT)
    with pytest.raises(AuditUnwritable, match="written last"):
        chain.reopen()
    with pytest.raises(AuditUnwritable):
        chain.append({"event": "exchange"})
    chain.close()


# --- tampering ---


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pristine") / "audit"
    filled(directory, 200, MIN_MAX_BYTES)
    assert len(intact(directory).files) >= 2
    return directory


@pytest.fixture
def copied(pristine: Path, directory: Path) -> Path:
    shutil.copytree(pristine, directory)
    return directory


def _changed(path: Path, offset: int, byte: int) -> ChainReport:
    with path.open("r+b") as stream:
        stream.seek(offset)
        before = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte]))
    try:
        return judged(path.parent)
    finally:
        with path.open("r+b") as stream:
            stream.seek(offset)
            stream.write(before)


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_single_byte_change_is_found_at_its_line(pristine: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(pristine.glob("*.jsonl"))))
    content = path.read_bytes()
    offset = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != content[offset]))
    finding = _changed(path, offset, byte).finding
    assert finding is not None
    assert (finding.kind, finding.where) == ("edited", f"{path.name}:{content[:offset].count(b'\n') + 1}")


def test_every_byte_of_the_last_line_matters(pristine: Path) -> None:
    path = pristine / CURRENT
    content = path.read_bytes()
    for offset in range(len(content) - len(lines_of(path)[-1]), len(content)):
        for byte in {content[offset] ^ 1, content[offset] ^ 0x20, 0, 10, 0xFF} - {content[offset]}:
            finding = _changed(path, offset, byte).finding
            assert finding and finding.kind == "edited"


def _rewrite(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(lines_of(path))))


@pytest.mark.parametrize(
    ("change", "kind", "line"),
    [
        (lambda lines: lines[:4] + lines[5:], "removed", 5),
        (lambda lines: lines[1:], "removed", 1),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], "removed", 5),
        (lambda lines: [*lines[:4], lines[2], *lines[4:]], "inserted", 5),
        (lambda lines: [*lines[:4], lines[3], *lines[4:]], "inserted", 5),
        (lambda lines: [*lines[:4], b"\n", *lines[4:]], "edited", 5),
        (lambda lines: [*lines[:4], b"x" * (MAX_LINE + 1), *lines[4:]], "edited", 5),
    ],
)
@pytest.mark.parametrize("current", [True, False])
def test_lines_removed_moved_or_inserted(
    copied: Path, change: Callable[[list[bytes]], list[bytes]], kind: str, line: int, current: bool
) -> None:
    path = copied / CURRENT if current else sorted(copied.glob("*.jsonl"))[0]
    _rewrite(path, change)
    finding = judged(copied).finding
    assert finding and (finding.kind, finding.where) == (kind, f"{path.name}:{line}")
    assert (kind == "edited") != ("was due" in finding.detail)


def test_a_line_forged_with_its_own_hash_right_breaks_the_next(copied: Path) -> None:
    def forge(lines: list[bytes]) -> list[bytes]:
        return [*lines[:4], _resealed(lines[4].replace(b"wechat", b"forged")), *lines[5:]]

    _rewrite(copied / CURRENT, forge)
    finding = judged(copied).finding
    assert finding and (finding.kind, finding.where) == ("inserted", f"{CURRENT}:6")


def _resealed(line: bytes) -> bytes:
    body = line[:-76] + b"}"
    own = hashlib.sha256(json.loads(line)["prev"].encode() + body).hexdigest().encode()
    return body[:-1] + b',"hash":"' + own + b'"}\n'


def test_a_whole_file_removed(copied: Path) -> None:
    first, second, *_ = intact(copied).files
    (copied / first).unlink()
    finding = judged(copied).finding
    assert finding and (finding.kind, finding.where) == ("removed", f"{second}:1")
    assert "--pruned" in finding.detail
    report = judged(copied, pruned=True)
    assert report.finding is None
    assert "what came before is not here" in report.notes[0]
    (copied / first).write_bytes(b"")
    assert judged(copied).finding


def test_pruned_means_whole_files(directory: Path) -> None:
    filled(directory, 3)
    lines = lines_of(directory / CURRENT)
    (directory / CURRENT).write_bytes(b"".join(lines[1:]))
    assert judged(directory, pruned=True).finding
    forged = lines[0].replace(b"begin", b"continued").replace(json.loads(lines[0])["prev"].encode(), b"0" * 64)
    (directory / CURRENT).write_bytes(_resealed(forged))
    assert judged(directory, pruned=True).finding


def test_the_newest_file_removed_is_noted(copied: Path) -> None:
    (copied / CURRENT).unlink()
    assert any("the next file is not here" in note for note in intact(copied).notes)


def test_chains_of_two_workers_cannot_be_swapped(directory: Path) -> None:
    filled(directory, 2, slot=0)
    filled(directory, 2, slot=1)
    assert [report.finding for report in verify(directory, None)] == [None, None]
    (directory / CURRENT).rename(directory / "x")
    (directory / "worker-1.jsonl").rename(directory / CURRENT)
    (directory / "x").rename(directory / "worker-1.jsonl")
    assert all(report.finding for report in verify(directory, None))


def test_a_cut_tail_is_found_against_an_exported_head_only(copied: Path) -> None:
    exported = {head.slot: head for head in heads(copied)}
    assert judged(copied, exported).notes == ()
    _rewrite(copied / CURRENT, lambda lines: lines[:-1])
    assert any("no exported head" in note for note in intact(copied).notes)
    finding = judged(copied, exported).finding
    assert finding and finding.kind == "cut"


def test_a_rewritten_chain_is_found_against_an_exported_head_only(directory: Path) -> None:
    exported = {0: filled(directory, 2)}
    shutil.rmtree(directory)
    chain = opened(directory)
    for _ in range(5):
        chain.append({"event": "harmless"})
    chain.close()
    intact(directory)
    finding = judged(directory, exported).finding
    assert finding and (finding.kind, finding.where) == ("rewritten", f"{CURRENT}:3")


def test_an_exported_chain_that_is_gone_or_pruned_past_its_head_is_found(copied: Path) -> None:
    gone = verify(copied, {7: Head(7, 1, "0" * 64), **{head.slot: head for head in heads(copied)}})
    assert [(report.slot, report.finding and report.finding.kind) for report in gone] == [(0, None), (7, "cut")]
    exported = {0: Head(0, 3, "0" * 64)}
    (copied / intact(copied).files[0]).unlink()
    finding = judged(copied, exported, pruned=True).finding
    assert finding and finding.kind == "removed"


@pytest.mark.parametrize("name", [CURRENT, f"worker-0.{1:020d}.jsonl"])
def test_what_cannot_be_read_is_no_verdict(directory: Path, tmp_path: Path, name: str) -> None:
    filled(directory, 1)
    (directory / CURRENT).rename(directory / "elsewhere")
    (directory / name).symlink_to("elsewhere")
    with pytest.raises(AuditUnreadable, match="check the path"):
        verify(directory, None)
    with pytest.raises(AuditUnreadable, match="check the path"):
        heads(directory)
    with pytest.raises(AuditUnreadable, match="check the path"):
        verify(tmp_path / "missing", None)
