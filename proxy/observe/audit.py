"""The audit log: one append-only hash chain of metadata per worker slot, written before bytes leave the gateway.

The normative text of the format is docs/spec/audit.md. Whatever cannot be written raises AuditUnwritable, and the
gateway then refuses; what is on disk stays a chain `wxgate audit verify` accepts.
"""

import fcntl
import hashlib
import json
import math
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from proxy.observe.audit_verify import (
    CONTROL,
    EVENT,
    MAX_LINE,
    AuditUnreadable,
    Entry,
    Head,
    Tail,
    chain_files,
    claimed_first,
    digest,
    genesis,
    is_torn,
    last_entry,
    open_directory,
    read_tail,
)

type AuditValue = str | int | float | bool | None

# Nothing else can be written: a key that could carry a customer's words has no place here.
ALLOWED_KEYS: Final = frozenset(
    {
        *("event", "at", "worker", "delivery", "route", "direction", "phase", "outcome", "code", "stage", "revision"),
        *("values_protected", "values_revealed", "values_allowed", "values_masked", "values_dropped"),
        *("account", "caller", "role", "key_ids", "policy", "status", "reason", "subject", "ms"),
    }
)
MAX_STRING: Final = 256  # characters
MIN_MAX_BYTES: Final = 4 * MAX_LINE

_FRAME: Final = 256  # more than n, prev, hash and line end take of any line; also more than any control record
_INT_BOUND: Final = 1 << 63
_EVENT: Final = re.compile(EVENT, re.ASCII)
_BAD_EVENT: Final = "audit record: event must be a plain name and none of the chain's own; rename it"
_BAD_KEY: Final = "audit record: a key is not in ALLOWED_KEYS, or stands there twice; leave it out"
_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


class AuditUnwritable(OSError):
    """The audit log cannot be written: nothing may leave the gateway. An OSError, as ports.Audit promises."""


class AuditChain:
    """The chain of one worker slot, open for appending. Made by `open`; one process at a time.

    All methods belong to one thread, except that `sync` may run in another.
    """

    def __init__(self, directory: Path, slot: int, max_bytes: int) -> None:
        """Use `open`, which also locks the slot and finds the head."""
        self._directory = directory
        self._slot = slot
        self._max_bytes = max_bytes
        self._name = f"worker-{slot}.jsonl"
        self._dir_fd = self._lock_fd = self._fd = -1
        self._n, self._hash = 0, genesis(slot)
        self._first = 1
        self._size = 0
        self._broken = True  # until reopened
        self._unfinished = False  # a write was begun and its outcome is not known
        self._swap = threading.Lock()  # held while the file is exchanged or synced

    @classmethod
    def open(cls, directory: Path, slot: int, *, max_bytes: int) -> Self:
        """Open or continue the chain of `slot` (0 to 9999). max_bytes: size at which a file is rotated.

        Creates the directory (0700). Raises AuditUnwritable: in use, not private, not writable, or damaged at its end.
        """
        if not 0 <= slot <= 9999 or max_bytes < MIN_MAX_BYTES:
            raise ValueError(f"audit: slot must be 0 to 9999 and max_bytes at least {MIN_MAX_BYTES}")
        chain = cls(directory, slot, max_bytes)
        try:
            with chain._failing_closed():
                chain._enter()
                chain._attach(None)
        except BaseException:
            chain._release()
            raise
        return chain

    @property
    def broken(self) -> bool:
        """Whether every append raises until `reopen` succeeds."""
        return self._broken or self._unfinished

    def head(self) -> Head:
        """The newest record written."""
        return Head(self._slot, self._n, self._hash.decode())

    def append(self, record: Mapping[str, AuditValue], usual: tuple[str | int, ...] = ()) -> None:
        """Write one record: `event` and any other of ALLOWED_KEYS, strings printable and at most MAX_STRING long.

        `usual`: more of them, keys and values by turns, which are remembered as they are written: only what comes out
        of configuration and policies, and small numbers. Returns when the kernel has the whole line. Raises ValueError
        (the record is not fit to be written) or AuditUnwritable (nothing of it stays in the chain).
        """
        payload = _payload(record, usual)
        if self.broken:
            raise self._unwritable("the chain is closed or broken by an earlier failure", "reopen it")
        if self._size + len(payload) + 2 * _FRAME > self._max_bytes:
            self._rotate()
        self._write(payload)

    def sync(self) -> None:
        """Bring what was written to the disk; called once a second. Raises AuditUnwritable and then is broken."""
        with self._swap, self._failing_closed():
            if self._fd < 0:
                raise self._unwritable("the chain is closed", "open it")
            os.fsync(self._fd)
            if os.fstat(self._fd).st_nlink == 0:
                raise self._unwritable("the file was deleted while in use", "reopen the chain and find out who did")

    def reopen(self) -> None:
        """Go on in a new file if the old one was renamed or deleted, or mend a broken chain. Raises AuditUnwritable."""
        with self._swap, self._failing_closed():
            if self._dir_fd < 0:
                raise self._unwritable("the chain is closed", "open it")
            if self.broken or not self._is_current():
                self._drop_file()
                self._attach(Entry(self._n, "", b"", self._hash))

    def close(self) -> None:
        """Sync and give up the slot. Further appends raise AuditUnwritable. Closing twice does nothing."""
        if self._dir_fd >= 0:
            try:
                if self._fd >= 0:
                    self.sync()
            finally:
                with self._swap:
                    self._release()

    def _enter(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._dir_fd = open_directory(self._directory)
        self._check_private(self._dir_fd, "the directory", "chmod 700")
        # A lock of its own: the chain's files come and go with rotation.
        self._lock_fd = self._open_private(f"worker-{self._slot}.lock")

    def _open_private(self, name: str) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(name, flags, 0o600, dir_fd=self._dir_fd)
        try:
            self._check_private(fd, name, "chmod 600")
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise self._unwritable(f"{name} is not a regular file", "move it away")
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise self._unwritable(f"{name} is in use by another writer", "stop it or choose another slot") from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check_private(self, fd: int, what: str, command: str) -> None:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise self._unwritable(f"{what} is open to other users", f"make it yours alone ({command})")

    def _attach(self, known: Entry | None) -> None:
        """Open the current file and go on from its last record, or from `known`, the head this process wrote."""
        self._fd = self._open_private(self._name)
        tail = read_tail(self._fd, self._name)
        head = tail.last or known or last_entry(self._dir_fd, chain_files(self._dir_fd).get(self._slot, []))
        if known and head and not _is_same_or_next(head, known):
            raise self._unwritable(f"{self._name} does not end with the record written last", "`wxgate audit verify`")
        if head:
            self._n, self._hash = head.n, head.hash
        self._size, self._first = tail.end, claimed_first(self._fd)
        if tail.torn:
            self._move_aside(tail)
        self._settle(tail)
        os.fsync(self._dir_fd)

    def _settle(self, tail: Tail) -> None:
        if tail.last is None:
            self._open_with_record()
        elif tail.last.event == "rotated":  # a crash between closing a file and renaming it
            self._turn()
        if tail.torn:
            self._write(b'"event":"torn",' + _encode(_described(tail.torn))[1:-1].encode())
        self._broken = self._unfinished = False

    def _move_aside(self, tail: Tail) -> None:
        if not is_torn(tail.torn, self._n + 1):
            raise self._unwritable(f"{self._name} ends with bytes that are no torn record", "`wxgate audit verify`")
        aside = self._open_private(f"worker-{self._slot}.torn-{self._n + 1}")
        try:
            os.ftruncate(aside, 0)
            if os.write(aside, tail.torn) != len(tail.torn):
                raise self._unwritable("no room to keep the torn line", "free space")
            os.fsync(aside)
        finally:
            os.close(aside)
        os.ftruncate(self._fd, tail.end)

    def _open_with_record(self) -> None:
        self._first = self._n + 1
        self._write(b'"event":"continued"' if self._n else b'"event":"begin"')

    def _rotate(self) -> None:
        with self._swap:
            self._write(b'"event":"rotated"')  # if this fails the chain is whole and the next append tries again
            with self._failing_closed():
                self._turn()

    def _turn(self) -> None:
        """Rename the file that ends with `rotated` and open the next."""
        closed = f"worker-{self._slot}.{self._first:020d}.jsonl"
        os.fsync(self._fd)
        if self._stat(closed):  # rename would replace it
            raise self._unwritable(f"{closed} exists already", "move it away")
        os.rename(self._name, closed, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        self._drop_file()
        self._fd = self._open_private(self._name)
        self._size = os.fstat(self._fd).st_size
        if self._size:
            raise self._unwritable(f"{self._name} was written by someone else", "`wxgate audit verify`")
        self._open_with_record()
        os.fsync(self._dir_fd)

    def _write(self, payload: bytes) -> None:
        prev = self._hash
        body = b'{"n":%d,%b,"prev":"%b"}' % (self._n + 1, payload, prev)
        own = digest(prev, body)
        line = b'%b,"hash":"%b"}\n' % (body[:-1], own)
        self._unfinished = True  # an exception out of a signal handler may come between the write and our knowing of it
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self._take_back()
            raise self._unwritable(error.strerror or "write failed", "free space or restore the file") from None
        if written != len(line):
            self._take_back()
            raise self._unwritable("only part of a record could be written", "free space")
        self._n, self._hash = self._n + 1, own
        self._size += written
        self._unfinished = False

    def _take_back(self) -> None:
        """Cut off what a failed write left. The chain stays broken if that fails or the file is not as we left it."""
        with suppress(OSError):
            size = os.fstat(self._fd).st_size
            if size > self._size:
                os.ftruncate(self._fd, self._size)
            self._unfinished = size < self._size

    def _is_current(self) -> bool:
        named = self._stat(self._name)
        return named is not None and os.path.samestat(named, os.fstat(self._fd))

    def _stat(self, name: str) -> os.stat_result | None:
        with suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self._dir_fd, follow_symlinks=False)
        return None

    def _drop_file(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):  # its records were acknowledged; the chain goes on elsewhere
                os.fsync(fd)
            os.close(fd)

    def _release(self) -> None:
        self._broken = True
        self._drop_file()
        for fd in (self._lock_fd, self._dir_fd):
            if fd >= 0:
                os.close(fd)
        self._lock_fd = self._dir_fd = -1

    @contextmanager
    def _failing_closed(self) -> Iterator[None]:
        """Whatever goes wrong inside leaves the chain broken; errors of the world come out as AuditUnwritable."""
        try:
            yield
        except AuditUnwritable:
            self._broken = True
            raise
        except OSError as error:
            self._broken = True
            raise self._unwritable(error.strerror or "i/o error", "check disk, mode and owner") from None
        except AuditUnreadable as error:
            self._broken = True
            raise self._unwritable(str(error), "keep a copy and move the file away") from None
        except BaseException:
            self._broken = True
            raise

    def _unwritable(self, cause: str, next_step: str) -> AuditUnwritable:
        return AuditUnwritable(f"audit {self._directory} worker-{self._slot}: {cause}; {next_step}")


def _payload(record: Mapping[str, AuditValue], usual: tuple[str | int, ...]) -> bytes:
    """A record -> its members as JSON without the braces, `event` first. Errors never name what is not allowed."""
    event = record.get("event")
    if type(event) is not str:
        raise ValueError(_BAD_EVENT)
    remembered, taken = _usual(usual)
    if not record.keys() <= ALLOWED_KEYS or not taken.isdisjoint(record):
        raise ValueError(_BAD_KEY)
    members = [_event(event), *remembered]
    for key, value in record.items():
        if type(value) is int and -_INT_BOUND <= value < _INT_BOUND:
            members.append(f'"{key}":{value}')
        elif key != "event":
            members.append(_member(key, value))
    payload = ",".join(members).encode()
    if len(payload) > MAX_LINE - _FRAME:
        raise ValueError(f"audit record: longer than {MAX_LINE - _FRAME} bytes; shorten it")
    return payload


def _member(key: str, value: AuditValue) -> str:
    # What JSON writes for these is known; the encoder takes ten times as long to find it out.
    if type(value) is float and math.isfinite(value):
        return f'"{key}":{value!r}'
    if type(value) is str and len(value) <= MAX_STRING and value.isascii() and value.isalnum():
        return f'"{key}":"{value}"'
    if not _is_fit(value):
        raise ValueError(f"audit record: {key} is not a printable string, number, boolean or null within bounds")
    return f'"{key}":{_encode(value)}'


@lru_cache(64)
def _event(event: str) -> str:
    if not _EVENT.fullmatch(event) or event in CONTROL:
        raise ValueError(_BAD_EVENT)
    return _member("event", event)


@lru_cache(1024)
def _usual(items: tuple[str | int, ...]) -> tuple[tuple[str, ...], frozenset[str | int]]:
    """The members that `items` stand for, in one piece if there are any, and their keys."""
    keys, values = items[::2], items[1::2]
    if len(keys) != len(values) or len(set(keys)) != len(keys) or not ALLOWED_KEYS.issuperset(keys):
        raise ValueError(_BAD_KEY)
    if not {type(value) for value in values} <= {str, int}:  # 1, 1.0 and True would be remembered as one
        raise ValueError("audit record: what is remembered must be text or whole numbers; put it into the record")
    members = [_member(str(key), value) for key, value in zip(keys, values, strict=True)]
    return (",".join(members),) if members else (), frozenset(keys)


def _is_fit(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_STRING and value.isprintable()
    if isinstance(value, int):
        return -_INT_BOUND <= value < _INT_BOUND
    return value is None


def _described(torn: bytes) -> dict[str, int | str]:
    return {"torn_bytes": len(torn), "torn_sha256": hashlib.sha256(torn).hexdigest()}


def _is_same_or_next(entry: Entry, known: Entry) -> bool:
    """Next: a write that was interrupted after the kernel had the line and before we knew."""
    return (entry.n, entry.hash) == (known.n, known.hash) or (entry.n, entry.prev) == (known.n + 1, known.hash)
