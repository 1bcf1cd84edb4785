"""Strict reader of multipart/form-data bodies (RFC 7578, RFC 2046 section 5.1). Pure.

Each part gives up to three leaves: its `body`, its `filename` and its `type`. Whatever two readers could take apart
differently is refused: preambles, other header fields, bare line feeds, a boundary that stands anywhere but between
parts. The boundary is the gateway's own afterwards: a caller's is a text like any other.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.document.tree import MAX_LEAVES, Document, Kind, Leaf, Value, decode
from proxy.refusal import Refusal

BODY, FILENAME, TYPE = "body", "filename", "type"

# RFC 2046 section 5.1.1; without quotes only what is a token (RFC 9110 section 5.6.2).
_TOKEN, _QUOTED = r"[A-Za-z0-9'+_.-]{1,70}", r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]"
_BOUNDARY: Final = re.compile(
    rf"multipart/form-data[ \t]*;[ \t]*boundary=(?:({_TOKEN})|\"({_QUOTED})\")", re.ASCII | re.IGNORECASE
)
# RFC 7578 section 4.2: no filename*, no backslash, which some readers take for an escape.
_DISPOSITION: Final = re.compile(
    r'form-data;[ \t]*name="([^"\\\r\n]{1,256})"(?:;[ \t]*filename="([^"\\\r\n]{0,512})")?'
)
_TYPE: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,255}", re.ASCII)
_MOST_HEAD: Final = 2048
# WHATWG HTML, multipart/form-data encoding: how these three are written in names.
_ESCAPES: Final = {"%0D": "\r", "%0A": "\n", "%22": '"'}


def boundary_in(content_type: str) -> str:
    """The boundary a Content-Type field names. Refusal `document_malformed` if it names none."""
    match = _BOUNDARY.fullmatch(content_type)
    if match is None:
        raise Refusal("document_malformed")
    return match[1] or match[2]


def boundary_of(body: bytes) -> str:
    """The boundary a body begins with, for a sample that came without its head. Refusal `document_malformed`."""
    line = body.split(b"\r\n", 1)[0]
    if not line.startswith(b"--") or len(line) > 72:
        raise Refusal("document_malformed")
    return line[2:].decode("latin-1")


def read_multipart(body: bytes, boundary: str) -> Document:
    """The parts of `body`. Raises Refusal `document_malformed` or `document_too_large`.

    The source is text of one character for each byte; leaves that are UTF-8 have their own text, others are BINARY.
    """
    own = next((name for number in range(8) if (name := f"wxgate-{number}").encode() not in body), None)
    if own is None or not boundary:
        raise Refusal("document_malformed")
    source = body.decode("latin-1").replace(f"--{boundary}", f"--{own}")
    reader = _Reader(source, f"--{own}")
    reader.read()
    bodies = {leaf.path[0]: index for index, leaf in enumerate(reader.leaves) if leaf.path[-1] == BODY}
    beside = {index: bodies[leaf.path[0]] for index, leaf in enumerate(reader.leaves) if leaf.path[-1] != BODY}
    write, gaps = _Writer(own), _Parts(frozenset(bodies.values()))
    return Document(
        "multipart", source, tuple(reader.leaves), write, gaps, charset="latin-1", boundary=own, goes_with=beside
    )


class _Reader:
    def __init__(self, source: str, delimiter: str) -> None:
        self.source, self.delimiter = source, delimiter
        self.leaves: list[Leaf] = []
        self.names: set[str] = set()

    def read(self) -> None:
        source, at = self.source, 0
        while True:
            if not source.startswith(self.delimiter, at):
                raise Refusal("document_malformed")
            at += len(self.delimiter)
            if source.startswith("--", at):
                break
            at = self.part(at)
        if not self.leaves or source[at + 2 :] not in ("", "\r\n"):
            raise Refusal("document_malformed")

    def part(self, at: int) -> int:
        """Reads the part whose delimiter ends at `at`; where the next delimiter begins."""
        source, begin = self.source, at - len(self.delimiter)
        head_end = source.find("\r\n\r\n", at, at + _MOST_HEAD)
        end = source.find(self.delimiter, at)
        start = head_end + 4
        if head_end < 0 or not start + 2 <= end or source[end - 2 : end] != "\r\n":
            raise Refusal("document_malformed")
        name = self.head(at, head_end)
        if len(self.leaves) >= MAX_LEAVES:
            raise Refusal("document_too_large")
        self.leaves.append(_body_leaf(source, name, start, end - 2, (begin, end)))
        return end

    def head(self, at: int, end: int) -> str:
        """The part's name; its other leaves are added."""
        fields: dict[str, tuple[str, int]] = {}
        rest, *lines = self.source[at:end].split("\r\n")
        at += len(rest)
        for line in lines:
            at += 2
            name, colon, value = line.partition(":")
            start = at + len(name) + 1 + len(value) - len(value.lstrip(" \t"))
            if not colon or name.lower() in fields or "\n" in line or "\r" in line:
                raise Refusal("document_malformed")
            fields[name.lower()] = value.strip(" \t"), start
            at += len(line)
        known = {"content-disposition", "content-type"}
        if rest or not fields.keys() <= known or "content-disposition" not in fields:
            raise Refusal("document_malformed")
        return self.named(fields)

    def named(self, fields: dict[str, tuple[str, int]]) -> str:
        text, start = fields["content-disposition"]
        match = _DISPOSITION.fullmatch(text)
        name = _plain(match[1]) if match else ""
        # "=?" would begin an encoded word (RFC 2047), which some readers make another name of.
        if match is None or name in self.names or "=?" in text:
            raise Refusal("document_malformed")
        self.names.add(name)
        if match[2] is not None:
            whole = (start + match.end(1) + 1, start + match.end(2) + 1)
            place = start + match.start(2), start + match.end(2)
            self.leaves.append(Leaf((name, FILENAME), _plain(match[2]), Kind.STRING, *place, whole))
        if "content-type" in fields:
            media, at = fields["content-type"]
            if not _TYPE.fullmatch(media):
                raise Refusal("document_malformed")
            line = self.source.rindex("\r\n", 0, at)
            self.leaves.append(Leaf((name, TYPE), media, Kind.STRING, at, at + len(media), (line, at + len(media))))
        return name


def _body_leaf(source: str, name: str, start: int, end: int, whole: tuple[int, int]) -> Leaf:
    raw = source[start:end]
    try:
        text, kind = decode(raw.encode("latin-1")), Kind.STRING
    except Refusal:
        text, kind = raw, Kind.BINARY
    return Leaf((name, BODY), text, kind, start, end, whole)


def _plain(written: str) -> str:
    """What a name or file name says. Refusal `document_malformed` if it is not UTF-8."""
    text = decode(written.encode("latin-1"))
    return re.sub(r"%0D|%0A|%22", lambda match: _ESCAPES[match[0]], text)


class _Parts:
    """There are no separators; but a body without parts is none (RFC 2046 section 5.1.1)."""

    def __init__(self, bodies: frozenset[int]) -> None:
        self._bodies = bodies

    def __call__(self, dropped: frozenset[int]) -> list[tuple[int, int]]:
        if self._bodies <= dropped:
            raise Refusal("value_refused")
        return []


class _Writer:
    def __init__(self, boundary: str) -> None:
        self._boundary = boundary

    def __call__(self, leaf: Leaf, value: Value) -> str:
        text, what = value.text, leaf.path[-1]
        if what == FILENAME:
            for written, character in _ESCAPES.items():
                text = text.replace(character, written)
        spelled_wrong = (what == FILENAME and "\\" in text) or (what == TYPE and not _TYPE.fullmatch(text))
        if self._boundary in text or spelled_wrong:
            raise Refusal("value_refused")
        return text.encode().decode("latin-1")
