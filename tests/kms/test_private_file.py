"""A private file over the real file system: what is refused, what a write leaves behind, who may write."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.kms.private_file import PrivateFile, make_private_directory
from proxy.kms.service import KeysError


@pytest.fixture
def file(state: Path) -> PrivateFile:
    file = PrivateFile(state / "x.json", 1000)
    file.replace(b"old")
    return file


def test_reads_what_was_written_and_none_if_there_is_no_file(file: PrivateFile) -> None:
    assert file.read() == b"old"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    file.path.unlink()
    assert file.read() is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o700, 0o666])
def test_a_wrong_mode_is_refused(file: PrivateFile, mode: int) -> None:
    file.path.chmod(mode)
    with pytest.raises(KeysError, match=f"mode {mode:04o}.*chmod 600"):
        file.read()


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_a_directory_open_to_others_is_refused(file: PrivateFile, mode: int) -> None:
    file.path.parent.chmod(mode)
    with pytest.raises(KeysError, match="chmod 700"):
        file.read()
    with pytest.raises(KeysError, match="chmod 700"):
        file.replace(b"new")
    with pytest.raises(KeysError, match="chmod 700"), file.locked():
        pass


def test_another_owner_is_refused(file: PrivateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(file.path, 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(KeysError, match="another user"):
        file.read()


def test_a_symbolic_link_is_refused(file: PrivateFile, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    file.path.rename(target)
    file.path.symlink_to(target)
    with pytest.raises(KeysError, match="symbolic link"):
        file.read()
    file.replace(b"new")
    assert (target.read_bytes(), file.read()) == (b"old", b"new")


def test_a_directory_that_is_a_symbolic_link_is_refused(file: PrivateFile, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file.path.parent)
    with pytest.raises(KeysError, match="symbolic link"):
        PrivateFile(tmp_path / "link" / "x.json", 1000).read()


def test_a_fifo_neither_hangs_nor_reads(file: PrivateFile) -> None:
    file.path.unlink()
    os.mkfifo(file.path, 0o600)
    with pytest.raises(KeysError, match="not a regular file"):
        file.read()


def test_a_planted_temporary_file_or_link_is_not_written_through(file: PrivateFile, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (file.path.parent / ".x.json.new").symlink_to(victim)
    file.replace(b"new")
    assert (file.read(), victim.read_bytes()) == (b"new", b"untouched")


def test_size_is_bounded_both_ways(file: PrivateFile) -> None:
    with pytest.raises(KeysError, match="would be larger"):
        file.replace(bytes(1001))
    assert file.read() == b"old"
    file.path.write_bytes(bytes(1001))
    with pytest.raises(KeysError, match="larger than 1000 bytes"):
        file.read()


def test_the_file_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    file: PrivateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def recorded_fsync(fd: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"file of {os.fstat(fd).st_size}")
        fsync(fd)

    def recorded_rename(*args: object, **kwargs: object) -> None:
        done.append("rename")
        rename(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    file.replace(b"new")
    assert done == ["file of 3", "rename", "directory"]


def test_a_failed_write_leaves_the_old_file_alone(file: PrivateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:1])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(KeysError, match="no space left"):
        file.replace(b"new")
    assert file.read() == b"old"
    assert [path.name for path in file.path.parent.iterdir()] == ["x.json"]


def test_short_writes_are_continued(file: PrivateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:1]))
    file.replace(b"longer than one")
    assert file.read() == b"longer than one"


def test_the_lock_keeps_other_processes_out_and_dies_with_its_holder(file: PrivateFile) -> None:
    program = (
        "import sys, pathlib\nfrom proxy.kms.private_file import PrivateFile\n"
        "file = PrivateFile(pathlib.Path(sys.argv[1]), 1000)\n"
        "print('started', flush=True)\n"
        "with file.locked():\n    print(file.read().decode(), flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(file.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin and other.stdout
        try:
            with file.locked():
                assert other.stdout.readline() == "started\n"
                with pytest.raises(subprocess.TimeoutExpired):
                    other.wait(0.3)  # it waits for the lock
                file.replace(b"ours")
            assert other.stdout.readline() == "ours\n"
        finally:
            other.kill()
    with file.locked():
        assert file.read() == b"ours"


def test_whoever_waits_for_the_lock_gives_up_and_says_what_to_do(file: PrivateFile) -> None:
    said = r"held this lock for 0.1 s; `fuser .*\.lock` says which"
    with file.locked(), file.locked("making.lock", 0.1), pytest.raises(KeysError, match=said), file.locked(seconds=0.1):
        pass
    with file.locked(seconds=0.0):
        pass


def test_a_made_directory_is_private_and_an_open_one_refused(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "a" / "b")
    make_private_directory(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "a" / "b").chmod(0o755)
    with pytest.raises(KeysError, match="mode 0755"):
        make_private_directory(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(KeysError, match="not a directory"):
        make_private_directory(tmp_path / "file")
