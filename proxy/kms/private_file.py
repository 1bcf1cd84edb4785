"""A file that only this user may read or change, replaced whole or not at all: how the key files lie on disk."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from proxy.kms.service import KeysError

_ANY = os.O_CLOEXEC | os.O_NOFOLLOW
# Without O_NONBLOCK, opening a FIFO put in the file's place would hang.
_READ = os.O_RDONLY | os.O_NONBLOCK | _ANY
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _ANY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _ANY
LOCK_PATIENCE = 10.0  # seconds; a change of a key file takes far less
_LOCK_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """`path`, at most `limit` bytes long, in a directory of ours (0700). All methods raise KeysError."""

    path: Path
    limit: int

    def read(self) -> bytes | None:
        """The content; None if there is no such file. Refuses a symbolic link, another owner, a mode beyond 0600."""
        with _explained(self.path), _directory(self.path.parent) as directory:
            try:
                fd = os.open(self.path.name, _READ, dir_fd=directory)
            except FileNotFoundError:
                return None
            with os.fdopen(fd, "rb") as stream:
                _require_ours(self.path, os.fstat(fd), stat.S_IFREG, "600")
                data = stream.read(self.limit + 1)
        if len(data) > self.limit:
            raise KeysError(f"{self.path}: larger than {self.limit} bytes; restore it from a backup")
        return data

    def stamp(self) -> tuple[int, ...] | None:
        """What tells one content from the next without reading it, since each change is a new file; None if there is
        no file."""
        with _explained(self.path):
            try:
                status = self.path.lstat()
            except FileNotFoundError:
                return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def replace(self, data: bytes) -> None:
        """Puts `data` in the file's place and on the disk. A crash at any moment leaves the old or the new file.

        To be called while `locked`.
        """
        if len(data) > self.limit:
            raise KeysError(f"{self.path}: would be larger than {self.limit} bytes; the file stays as it was")
        new = f".{self.path.name}.new"
        with _explained(self.path), _directory(self.path.parent) as directory:
            with suppress(FileNotFoundError):  # left by a killed process
                os.unlink(new, dir_fd=directory)
            _write(new, data, directory)
            os.rename(new, self.path.name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)

    @contextmanager
    def locked(self, suffix: str = "lock", seconds: float = LOCK_PATIENCE) -> Iterator[None]:
        """Keeps every other process from changing the file, or from what else the lock `suffix` is for; waits for one
        that does, `seconds` at most. A killed holder's lock is freed by the kernel. The lock lies on a file beside it,
        since the file itself is replaced."""
        path = self.path.with_name(f"{self.path.name}.{suffix}")
        fd = open_lock(path)
        try:
            take_lock(fd, path, seconds)
            yield
        finally:
            os.close(fd)


def open_lock(path: Path) -> int:
    """A descriptor of a file to be locked, which is made if it is not there. Raises KeysError."""
    with _explained(path), _directory(path.parent) as directory:
        fd = os.open(path.name, _LOCK, 0o600, dir_fd=directory)
    try:
        _require_ours(path, os.fstat(fd), stat.S_IFREG, "600")
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_private_directory(path: Path) -> None:
    """Creates `path` (0700) if it is not there, and sees that its name is on the disk. Raises KeysError."""
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
        with _directory(path):
            pass


def take_lock(fd: int, path: Path, seconds: float = LOCK_PATIENCE) -> None:
    """Locks `fd`, which is `path`; waits `seconds` at most for who has it. Raises KeysError.

    It asks again and again: a thread that waits in flock(2) itself can only be freed by the holder.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise KeysError(
                    f"{path}: another process has held this lock for {seconds:g} s; `fuser {path}` says which: let it "
                    "finish or end it, which frees the lock, then try again"
                ) from None
            time.sleep(_LOCK_PAUSE)
        else:
            return


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    """Opened once, so that what is checked is what is used."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _ANY)
    try:
        _require_ours(path, os.fstat(fd), stat.S_IFDIR, "700")
        yield fd
    finally:
        os.close(fd)


def _require_ours(path: Path, status: os.stat_result, kind: int, mode: str) -> None:
    if stat.S_IFMT(status.st_mode) != kind:
        raise KeysError(f"{path}: not a regular file; move it away")
    if status.st_uid != os.geteuid():
        raise KeysError(f"{path}: belongs to another user; run as its owner or chown it")
    allowed = status.st_mode & 0o777
    if allowed & ~int(mode, 8):
        raise KeysError(f"{path}: has mode {allowed:04o}; find out who could read it, then `chmod {mode}` it")


def _write(name: str, data: bytes, directory: int) -> None:
    fd = os.open(name, _NEW, 0o600, dir_fd=directory)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    except BaseException:
        os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(fd)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = (error.strerror or "i/o error").lower()
        raise KeysError(
            f"{path}: {cause}; check that its directory is there and yours, that nothing is a symbolic link, and that "
            "the disk has room"
        ) from None
