"""The audit chain as a reader sees it: the form of a line, the files of a chain in order, and whether they hold.

The normative text is docs/spec/audit.md. Reading knows nothing of writing; the writer (audit.py) builds on this.
Memory is bounded: lines are streamed and no line may be longer than MAX_LINE.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

MAX_LINE: Final = 8192  # bytes, line end included
CONTROL: Final = frozenset({"begin", "continued", "rotated", "torn"})
EVENT: Final = r"[A-Za-z][A-Za-z0-9_.:-]{0,63}"

_HASH_FIELD: Final = len(b',"hash":""}') + 64
_LINE: Final = re.compile(
    rb'\{"n":([1-9][0-9]{0,17}),"event":"(%b)"(?:,[\x20-\x7e]+)?,"prev":"([0-9a-f]{64})","hash":"([0-9a-f]{64})"\}'
    % EVENT.encode()
)
_CLAIMED: Final = re.compile(rb'\{"n":([1-9][0-9]{0,17}),')
_NAME: Final = re.compile(r"worker-(0|[1-9][0-9]{0,3})\.(?:([0-9]{20})\.)?jsonl([.-][0-9]{1,14})?", re.ASCII)
_ATTEMPTS: Final = 5


class AuditUnreadable(Exception):
    """The chain cannot be read or judged; this is not a verdict on its content."""


class Entry(NamedTuple):
    """A line that has the right form and matches its own hash; whether it follows the line before is not said."""

    n: int
    event: str
    prev: bytes
    hash: bytes


class Tail(NamedTuple):
    """The end of a file: last complete line, the bytes after it, and the offset at which it ends."""

    last: Entry | None
    torn: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Head:
    """The newest record of a chain: worker slot, sequence number (0: no record yet) and hash, 64 hex digits."""

    slot: int
    n: int
    hash: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Evidence of tampering: kind (edited, removed, inserted, cut, rewritten), `file:line` and what was seen there."""

    kind: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """The verdict on one chain. `finding` is the first evidence of tampering; nothing after it has been judged."""

    slot: int
    files: tuple[str, ...]
    records: int
    head: Head
    finding: Finding | None
    notes: tuple[str, ...]


def _current(slot: int) -> str:
    return f"worker-{slot}.jsonl"


def genesis(slot: int) -> bytes:
    """The `prev` of a chain's first record. It names the slot, so that two chains cannot be swapped."""
    return hashlib.sha256(b"wxgate audit chain v1 worker-%d" % slot).hexdigest().encode()


def digest(prev: bytes, body: bytes) -> bytes:
    """The hash of a line: `prev` as 64 hex digits and the line without its hash field in; 64 hex digits out."""
    return hashlib.sha256(prev + body).hexdigest().encode()


def parse(line: bytes) -> Entry | None:
    """A line without its line end -> Entry, or None when its form is wrong or it does not match its own hash."""
    match = _LINE.fullmatch(line)
    if match is None or digest(match[3], line[:-_HASH_FIELD] + b"}") != match[4]:
        return None
    return Entry(int(match[1]), match[2].decode(), match[3], match[4])


def is_torn(tail: bytes, n: int) -> bool:
    """Whether bytes without a line end can be what a crash left of record `n`: a prefix of a line, or one zero-filled.

    Anything else was put there: a whole line with something behind it, another number, bytes no writer emits.
    """
    text = tail.rstrip(b"\0")
    start = b'{"n":%d,"event":"' % n
    if not (text.startswith(start) or start.startswith(text)) or re.search(rb"[^\x20-\x7e]", text):
        return False
    whole = _LINE.match(text)
    return whole is None or (whole.end() == len(tail) and parse(text) is not None)


def read_tail(fd: int, name: str) -> Tail:
    """Read the end of a file (at most two lines' worth). Raises AuditUnreadable where no writer can have left it so."""
    size = os.fstat(fd).st_size
    start = max(0, size - 2 * MAX_LINE)
    window = os.pread(fd, size - start, start)
    end = window.rfind(b"\n") + 1
    torn = window[end:]
    if len(torn) > MAX_LINE:
        raise AuditUnreadable(f"{name}: no line end in the last {len(torn)} bytes; run `wxgate audit verify`")
    if end == 0:
        return Tail(None, torn, 0)
    last = parse(window[window.rfind(b"\n", 0, end - 1) + 1 : end - 1])
    if last is None:
        raise AuditUnreadable(f"{name}: the last complete line does not match its hash; run `wxgate audit verify`")
    return Tail(last, torn, start + end)


def claimed_first(fd: int) -> int:
    """The sequence number a file's first line claims, 0 when it claims none."""
    match = _CLAIMED.match(os.pread(fd, MAX_LINE, 0))
    return int(match[1]) if match else 0


def open_directory(directory: Path) -> int:
    """A descriptor of the directory itself, never of what a link points to. Raises OSError."""
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def chain_files(dir_fd: int) -> dict[int, list[str]]:
    """The files of every chain in a directory, by slot, oldest first; names logrotate gives are understood."""
    found: dict[int, list[tuple[bool, int, str]]] = {}
    for name in os.listdir(dir_fd):
        if match := _NAME.fullmatch(name):
            found.setdefault(int(match[1]), []).append(_order(dir_fd, name, match))
    return {slot: [name for *_, name in sorted(found[slot])] for slot in sorted(found)}


def _order(dir_fd: int, name: str, match: re.Match[str]) -> tuple[bool, int, str]:
    if match[2]:
        return False, int(match[2]), name
    if not match[3]:
        return True, 0, name  # the file now written to is the newest
    with _opened(dir_fd, name) as stream:
        return False, claimed_first(stream.fileno()), name


@contextmanager
def _opened(dir_fd: int, name: str) -> Iterator[BinaryIO]:
    # O_NONBLOCK: a pipe planted under a chain's name must not hang the reader.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
    with os.fdopen(fd, "rb") as stream:
        yield stream


def last_entry(dir_fd: int, names: Iterable[str]) -> Entry | None:
    """The newest complete record in the files of one chain, given oldest first. Raises AuditUnreadable, OSError."""
    for name in reversed(list(names)):
        with suppress(FileNotFoundError), _opened(dir_fd, name) as stream:  # renamed since it was listed
            if last := read_tail(stream.fileno(), name).last:
                return last
    return None


def heads(directory: Path) -> list[Head]:
    """The heads of all chains, to be stored where the gateway's machine cannot write. Raises AuditUnreadable."""
    with _reading(directory) as dir_fd:
        newest = {slot: last_entry(dir_fd, names) for slot, names in chain_files(dir_fd).items()}
    return [Head(slot, last.n, last.hash.decode()) for slot, last in newest.items() if last]


@contextmanager
def _reading(directory: Path) -> Iterator[int]:
    try:
        dir_fd = open_directory(directory)
        try:
            yield dir_fd
        finally:
            os.close(dir_fd)
    except OSError as error:
        raise AuditUnreadable(f"{error.filename or directory}: {error.strerror}; check the path and its mode") from None


def verify(directory: Path, exported: Mapping[int, Head] | None, *, pruned: bool = False) -> list[ChainReport]:
    """Judge every chain in a directory, and every chain an exported head names.

    exported: heads by slot as exported earlier; None: there are none, and a cut tail cannot be seen.
    pruned: accept that a chain's oldest files are gone. Raises AuditUnreadable.
    """
    with _reading(directory) as dir_fd:
        slots = sorted(chain_files(dir_fd).keys() | (exported or {}).keys())
        return [_verify_chain(dir_fd, slot, exported, pruned) for slot in slots]


def _verify_chain(dir_fd: int, slot: int, exported: Mapping[int, Head] | None, pruned: bool) -> ChainReport:
    for _ in range(_ATTEMPTS):
        walk = _Walk(slot, (exported or {}).get(slot), pruned, Head(slot, 0, genesis(slot).decode()))
        with suppress(FileNotFoundError), ExitStack() as stack:
            # Held open before the others are listed, the newest file cannot be taken away by a rotation.
            newest = None
            with suppress(FileNotFoundError):
                newest = stack.enter_context(_opened(dir_fd, _current(slot)))
            if _walk_files(dir_fd, _before(dir_fd, slot, newest), newest, walk):
                return walk.report(exported is not None)
    raise AuditUnreadable(f"worker-{slot}: the files keep being renamed while they are read; run again")


def _before(dir_fd: int, slot: int, newest: BinaryIO | None) -> dict[str, int]:
    """Names and inodes of the files older than `newest`. What was rotated since it was opened is left out."""
    names = [name for name in chain_files(dir_fd).get(slot, []) if name != _current(slot)]
    # Asked after listing: a file that is empty now cannot have been rotated before.
    limit = claimed_first(newest.fileno()) if newest else 0
    listed = {name: os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino for name in names}
    return {name: inode for name, inode in listed.items() if not (limit and _named_first(name) >= limit)}


def _named_first(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match[2]) if match and match[2] else 0


def _walk_files(dir_fd: int, older: dict[str, int], newest: BinaryIO | None, walk: "_Walk") -> bool:
    """False when a name no longer means the file it meant when listed: something renamed the files meanwhile."""
    for name, inode in older.items():
        with _opened(dir_fd, name) as stream:
            if os.fstat(stream.fileno()).st_ino != inode:
                return False
            walk.file(name, stream)
        if walk.finding:
            return True
    if newest:
        walk.file(_current(walk.slot), newest)
    return True


@dataclass(slots=True)
class _Walk:
    """The state of reading one chain from its oldest line to its newest."""

    slot: int
    exported: Head | None
    pruned: bool
    head: Head
    first: int = 0
    records: int = 0
    event: str = ""
    files: list[str] = field(default_factory=list)
    finding: Finding | None = None
    notes: list[str] = field(default_factory=list)

    def file(self, name: str, stream: BinaryIO) -> None:
        """Judge one file; stops at the first finding."""
        number = 0
        self.files.append(name)
        while self.finding is None and (raw := stream.readline(MAX_LINE + 1)):
            number += 1
            where = f"{name}:{number}"
            if len(raw) > MAX_LINE:
                self._found("edited", where, f"the line is longer than {MAX_LINE} bytes")
            elif raw.endswith(b"\n"):
                self._line(where, parse(raw[:-1]))
            else:
                self._tail(where, raw)
                return  # a writer may have added the rest since

    def _line(self, where: str, entry: Entry | None) -> None:
        if entry is None:
            self._found("edited", where, "the line does not match its own hash, or is no audit record")
            return
        if not self.records and self.pruned and entry.event == "continued" and entry.n > 1:
            self.notes.append(f"{where}: the chain starts at record {entry.n}; what came before is not here")
            self.head = Head(self.slot, entry.n - 1, entry.prev.decode())
        self._judge(where, entry)
        if self.finding is None:
            self.head, self.event = Head(self.slot, entry.n, entry.hash.decode()), entry.event
            self.first = self.first or entry.n
            self.records += 1
            if entry.event == "torn":
                self.notes.append(f"{where}: a torn line was found and closed here when the gateway started again")

    def _judge(self, where: str, entry: Entry) -> None:
        wanted = self.head.n + 1
        if entry.n > wanted:
            hint = "" if self.records else "; if retention removed the oldest files, say --pruned"
            detail = f"record {wanted} was due, record {entry.n} is here: lines were removed or moved"
            self._found("removed", where, detail + hint)
        elif entry.n < wanted:
            self._found("inserted", where, f"record {wanted} was due, record {entry.n} is here: inserted or moved")
        elif entry.prev.decode() != self.head.hash:
            self._found("inserted", where, f"record {entry.n} does not follow from the record before it")
        elif self.exported and entry.n == self.exported.n and entry.hash.decode() != self.exported.hash:
            self._found("rewritten", where, f"record {entry.n} is not the one whose head was exported")

    def _tail(self, where: str, raw: bytes) -> None:
        if is_torn(raw, self.head.n + 1):
            self.notes.append(
                f"{where}: torn: {len(raw)} bytes of a line that was not finished (crash, or being written)"
            )
        else:
            self._found("edited", where, "bytes without a line end that are no beginning of the next record")

    def _found(self, kind: str, where: str, detail: str) -> None:
        self.finding = Finding(kind, where, detail)

    def report(self, with_heads: bool) -> ChainReport:
        """The verdict, once every file has been read."""
        if self.finding is None:
            self._compare_with_export(f"{self.files[-1]}:end" if self.files else f"worker-{self.slot}")
        if self.event == "rotated" and self.finding is None and self.files[-1] != _current(self.slot):
            self.notes.append(f"{self.files[-1]}: closed by rotation, but the next file is not here")
        if self.exported is None:
            missing = f"no head of worker-{self.slot} in the export" if with_heads else "no exported head was given"
            self.notes.append(f"{missing}: a cut tail or a rewritten chain cannot be seen")
        return ChainReport(self.slot, tuple(self.files), self.records, self.head, self.finding, tuple(self.notes))

    def _compare_with_export(self, where: str) -> None:
        if self.exported is None:
            return
        if self.head.n < self.exported.n:
            self._found("cut", where, f"the chain ends at record {self.head.n}, exported was {self.exported.n}")
        elif self.exported.n < self.first:
            self._found("removed", where, f"the exported record {self.exported.n} is no longer here to compare with")
