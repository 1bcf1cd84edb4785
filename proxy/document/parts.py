"""A text as a row of parts: what patterns find in it, and the rest. Pure.

Patterns are RE2's: no backtracking, so that a text costs time in its length whatever the pattern is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from proxy.document.tree import Document, Into, Kind, Leaf, Value
from proxy.refusal import Refusal

REST = "rest"
"""The name of everything no pattern found."""
MAX_PARTS = 64
MAX_TEXT = 8192  # characters; a message of WeChat has 2048 bytes at most
# What a token would be taken to go on with, and what one cannot begin behind.
_GOES_ON = re.compile(r"[A-Za-z0-9_-]", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_]", re.ASCII)


class Match(Protocol):
    def span(self, group: int = ..., /) -> tuple[int, int]: ...


class Searcher(Protocol):
    """A compiled pattern with at most one group; the group, or else the whole match, is the part."""

    groups: int
    pattern: str

    def search(self, text: str, start: int, /) -> Match | None: ...


class Finder(NamedTuple):
    name: str
    pattern: Searcher


def read_parts(text: str, finders: Sequence[Finder]) -> Document | None:
    """One leaf for every part that a finder finds, under its name, and one for each piece between, as `rest`.

    Where two finders could begin, the one that begins first goes first, then the one that stands first. None for a
    text that is too long, has too many parts or an empty one: it is not looked into.
    """
    if len(text) > MAX_TEXT:
        return None
    leaves: list[Leaf] = []
    position = 0
    spans = [_search(finder, text, 0) for finder in finders]
    while True:
        spans = [
            _search(finder, text, position) if span is not None and span[0] < position else span
            for finder, span in zip(finders, spans, strict=True)
        ]
        if any(span is not None and span[0] >= span[1] for span in spans):
            return None
        first = min((span[0], index) for index, span in enumerate((*spans, (len(text), 0))) if span is not None)[1]
        if first == len(finders):
            break
        if len(leaves) >= MAX_PARTS:
            return None
        start, end = spans[first] or (position, position)
        if start > position:
            leaves.append(_leaf(text, REST, position, start))
        leaves.append(_leaf(text, finders[first].name, start, end))
        position = end
    if position < len(text) or not leaves:
        leaves.append(_leaf(text, REST, position, len(text)))
    return Document(Into.WITHIN.value, text, tuple(leaves), _Writer(text, leaves))


def _search(finder: Finder, text: str, start: int) -> tuple[int, int] | None:
    """The next part at or after `start`, perhaps an empty one; None if there is none."""
    match = finder.pattern.search(text, start)
    return None if match is None else match.span(finder.pattern.groups)


def _leaf(text: str, name: str, start: int, end: int) -> Leaf:
    return Leaf((name,), text[start:end], Kind.STRING, start, end, (start, end))


class _Writer:
    """What takes a part's place must not run together with a word or a part beside it: nobody could tell them apart
    again."""

    def __init__(self, text: str, leaves: Sequence[Leaf]) -> None:
        self._text = text
        parts = [leaf for leaf in leaves if leaf.path != (REST,)]
        self._starts, self._ends = {leaf.start for leaf in parts}, {leaf.end for leaf in parts}

    def __call__(self, leaf: Leaf, value: Value) -> str:
        before = leaf.start in self._ends or _WORD.match(self._text[max(leaf.start - 1, 0) : leaf.start])
        after = leaf.end in self._starts or _GOES_ON.match(self._text[leaf.end : leaf.end + 1])
        if (before and _WORD.match(value.text[:1])) or (after and _GOES_ON.match(value.text[-1:])):
            raise Refusal("value_refused")
        return value.text
