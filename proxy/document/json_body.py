"""Strict JSON reader (RFC 8259) that keeps the place and the spelling of every value. Pure.

Duplicate names, byte-order marks, lone surrogates, NaN, trailing data are refused: two readers that understand a body
differently are a leak. Numbers keep their source text, so that a 64-bit MsgId survives digit for digit.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]  # the standard library's string reader, in C

from proxy.document.tree import MAX_DEPTH, MAX_LEAVES, Document, Kind, Leaf, Members, Path, Value, decode
from proxy.refusal import Refusal

_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(true|false|null)", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class _Container:
    """For each member: where it begins and its first leaf; between two members: the place of the comma."""

    members: list[tuple[int, int]] = field(default_factory=list)
    commas: list[int] = field(default_factory=list)


class _Reader:
    """A recursive-descent reader; depth is bounded, so recursion is."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.leaves: list[Leaf] = []
        self.containers: list[_Container] = []

    def fail(self) -> Refusal:
        return Refusal("document_malformed")

    def skip(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        return match.end() if match else at

    def value(self, at: int, path: Path, member: int) -> int:
        """Reads the value at `at`; `member` is where its member begins. Returns the place behind it."""
        first = self.text[at : at + 1]
        if first in "{[" and first:
            return self.container(at, path, member, "}" if first == "{" else "]")
        if first == '"':
            end, text, kind = *self.string(at), Kind.STRING
            return self.leaf(path, text, kind, at, end, member)
        match = _SCALAR.match(self.text, at)
        if not match:
            raise self.fail()
        kind = Kind.NUMBER if match[1] is not None else Kind.LITERAL
        return self.leaf(path, match[0], kind, at, match.end(), member)

    def string(self, at: int) -> tuple[int, str]:
        try:
            text, end = scanstring(self.text, at + 1, True)
        except ValueError:
            raise self.fail() from None
        if _SURROGATE.search(text):
            raise self.fail()
        return end, text

    def leaf(self, path: Path, text: str, kind: Kind, start: int, end: int, member: int) -> int:
        if len(self.leaves) >= MAX_LEAVES:
            raise Refusal("document_too_large")
        self.leaves.append(Leaf(path, text, kind, start, end, (member, end)))
        return end

    def container(self, at: int, path: Path, member: int, close: str) -> int:
        if len(path) >= MAX_DEPTH:
            raise Refusal("document_too_large")
        here = self.skip(at + 1)
        if self.text[here : here + 1] == close:
            return self.leaf(path, "", Kind.EMPTY, at, here + 1, member)
        container = _Container()
        self.containers.append(container)
        names: set[str] = set()
        while True:
            container.members.append((here, len(self.leaves)))
            here = self.member(here, path, names) if close == "}" else self.item(here, path, container)
            here = self.skip(here)
            mark = self.text[here : here + 1]
            if mark == close:
                return here + 1
            if mark != ",":
                raise self.fail()
            container.commas.append(here)
            here = self.skip(here + 1)

    def item(self, at: int, path: Path, container: _Container) -> int:
        return self.value(at, (*path, len(container.members) - 1), at)

    def member(self, at: int, path: Path, names: set[str]) -> int:
        if self.text[at : at + 1] != '"':
            raise self.fail()
        here, name = self.string(at)
        if name in names:
            raise self.fail()
        names.add(name)
        here = self.skip(here)
        if self.text[here : here + 1] != ":":
            raise self.fail()
        return self.value(self.skip(here + 1), (*path, name), at)

    def gaps(self, dropped: frozenset[int]) -> list[tuple[int, int]]:
        """The commas that go with the dropped leaves: a comma stays if something stays on both its sides."""
        cuts = []
        for container in self.containers:
            # A member goes if it is itself a dropped leaf, not if it merely contains one.
            stays = [first not in dropped or self.leaves[first].whole[0] != start for start, first in container.members]
            for index, place in enumerate(container.commas):
                if not (stays[index + 1] and any(stays[: index + 1])):
                    cuts.append((place, place + 1))
        return cuts


def read_json(body: bytes) -> Document:
    """The document in `body`: leaves with the paths of names and positions below the root.

    Raises Refusal `document_malformed` or `document_too_large`.
    """
    text = decode(body)
    reader = _Reader(text)
    start = reader.skip(0)
    if reader.skip(reader.value(start, (), start)) != len(text):
        raise Refusal("document_malformed")
    return Document("json", text, tuple(reader.leaves), _write, reader.gaps, _members)


def _write(_leaf: Leaf, value: Value) -> str:
    # Raw characters, never \uXXXX: WeChat answers those with error 40033 or delivers them literally (protocol 6.2).
    return _string(value.text) if value.kind is Kind.STRING else value.text


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _members(members: Members) -> str:
    return ",".join(f"{_string(name)}:{_string(text)}" for name, text in members)
