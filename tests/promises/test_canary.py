"""Nothing leaks, nothing is kept: every path of an installation is driven with a marker in every field, then everything
that was written anywhere is searched for the markers: the follower's and agent's words, and the secrets.

Memory is allowed to hold a message while it is worked on; files, logs, metrics and the other side are not.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.emulate.stage import Stage
from tests.promises.canary_paths import PATHS, Driven, open_files
from tests.promises.markers import Markers

INPUTS = ("secrets", "certs")
"""What the deployer put there; everything else is the gateway's doing."""

PROVOKED = {
    *("http_malformed", "http_unsupported", "http_expectation", "http_body_too_large", "content_encoding"),
    *("route_unknown", "method_not_allowed", "caller_unknown", "signature_malformed", "signature_wrong"),
    *("mode_downgraded", "timestamp_stale", "document_malformed", "document_type", "message_unknown"),
    *("field_unknown", "token_refused", "clear_value_refused", "bind_missing", "upstream_unreachable"),
    *("upstream_untrusted", "upstream_timeout", "upstream_broken", "upstream_refused", "upstream_failed"),
    *("reply_malformed", "audit_unwritable"),
}
"""Codes that the paths must have led to, so that none of them quietly leads elsewhere."""


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    temporary = tmp_path_factory.mktemp("temporary")
    markers = Markers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        with Stage(workers=2, limits="body: 2s") as stage:
            for name, value in stage.secrets.items():
                markers.add(name, value.encode())
            markers.add("raw key", base64.b64decode(stage.secrets["wechat-key"] + "=")[:31])
            markers.add("raw unlock", bytes.fromhex(stage.secrets["unlock"]))
            it = Driven(stage, markers, temporary)
            for path in PATHS:
                path(it)
            it.look_at_processes()
            yield it


def files(it: Driven) -> list[str]:
    """Markers in the files of the installation, its own inputs apart."""
    roots = [path for path in it.stage.directory.iterdir() if path.name not in INPUTS]
    return [found for root in roots for found in it.markers.found_under(root)]


def test_the_paths_led_where_they_should(driven: Driven) -> None:
    events = [json.loads(line) for line in driven.stage.log.read_text().splitlines()]
    assert {event["event"] for event in events} >= {"refused", "reload_failed", "reloaded", "worker_died"}
    assert PROVOKED - {event.get("code") for event in events} == set()
    assert not [event for event in events if event["event"] == "fault"]


def test_the_crm_holds_no_clear_text(driven: Driven) -> None:
    assert driven.crm.count("wg1.") > 20
    assert driven.markers.found_in(driven.crm.encode()) == []


def test_followers_got_what_was_written_for_them_and_nothing_else(driven: Driven) -> None:
    sent = json.dumps(driven.stage.at_followers(), ensure_ascii=False).encode()
    found = {name.partition(" (")[0] for name in driven.markers.found_in(sent)}
    assert found == {"OpenId__c", "Text__c"}


def test_no_answer_holds_what_was_sent(driven: Driven) -> None:
    assert len(driven.replies) > 80
    for reply in driven.replies:
        assert driven.markers.found_in(reply.body + json.dumps(reply.headers).encode()) == []


def test_log_audit_and_state_hold_nothing(driven: Driven) -> None:
    assert driven.stage.log.stat().st_size > 10_000
    assert sum(path.is_file() for path in (driven.stage.directory / "state" / "audit").rglob("*")) >= 2
    assert files(driven) == []


@pytest.mark.parametrize("page", ["/metrics", "/readyz", "/healthz"])
def test_the_admin_page_shows_nothing(driven: Driven, page: str) -> None:
    reply = driven.stage.ask_admin(page)
    assert reply.status == 200 and reply.body
    assert driven.markers.found_in(reply.body) == []


def test_nothing_is_left_in_temporary_files(driven: Driven) -> None:
    assert list(driven.temporary.iterdir()) == []


def test_processes_hold_no_file_open_that_holds_a_message(driven: Driven) -> None:
    """Files without a name too: they would be found nowhere else."""
    assert len({file.pid for file in driven.open_files}) >= 5  # supervisor, two workers and their successors
    assert [file for file in driven.open_files if file.found] == []
    own = str(driven.stage.directory)
    stray = {file.target for file in driven.open_files if not file.target.startswith(own)}
    assert stray <= {str(Path(f"/proc/self/fd/{number}").resolve()) for number in (0, 1)} | _inherited()


def _inherited() -> set[str]:
    """Standard input and output of the test run, which child processes share."""
    return {str(Path(f"/proc/self/fd/{number}").readlink()) for number in (0, 1)}


def test_processes_show_nothing_from_outside_and_leave_no_core(driven: Driven) -> None:
    for pid in (driven.stage.gateway.pid, *driven.workers()):
        seen = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ", "comm"))
        assert driven.markers.found_in(seen) == []
        limit = next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in line)
        assert limit.split()[4:6] == ["0", "0"]
    assert list(driven.stage.directory.rglob("core*")) == []


# --- the search itself

SPELLINGS: dict[str, Callable[[str], bytes]] = {
    "as it is": lambda text: text.encode(),
    "JSON": lambda text: json.dumps(text).encode(),
    "percent-encoded": lambda text: b"".join(
        b"%%%02X" % byte if byte > 127 else bytes([byte]) for byte in text.encode()
    ),
    "base64": lambda text: base64.b64encode(f"<xml><Content>{text}</Content></xml>".encode()),
    "base64, one further": lambda text: base64.b64encode(f" <xml><Content>{text}</Content></xml>".encode()),
    "base64, two further": lambda text: base64.urlsafe_b64encode(f"  <xml><Content>{text}</Content></xml>".encode()),
    "hex": lambda text: text.encode().hex().encode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("where", ["gateway.log", "state/audit/planted", "planted"])
def test_a_planted_leak_is_found(driven: Driven, spelling: str, where: str) -> None:
    leak = b'{"event": "refused", "detail": "' + SPELLINGS[spelling](driven.mark("planted", chinese=True)) + b'"}\n'
    file = driven.stage.directory / where
    before = file.stat().st_size if file.exists() else None
    with file.open("ab") as out:
        out.write(leak)
    try:
        assert files(driven) != []
    finally:
        if before is None:
            file.unlink()
        else:
            with file.open("ab") as out:
                out.truncate(before)
    assert files(driven) == []


def test_a_planted_open_file_is_found(tmp_path: Path) -> None:
    """One that has no name any more."""
    markers = Markers()
    text = markers.mark("planted")
    program = "import sys; f = open(sys.argv[1], 'w+'); f.write(sys.stdin.readline()); f.flush(); "
    program += "import os; os.unlink(sys.argv[1]); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(tmp_path / "leak")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        process.stdin.write(text + "\n")
        process.stdin.flush()
        process.stdout.readline()
        found = [file for file in open_files(process.pid, markers) if file.found]
        process.stdin.close()
    assert [file.target for file in found] == [f"{tmp_path / 'leak'} (deleted)"]
