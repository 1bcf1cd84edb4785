"""Strict reader of query strings and urlencoded forms. Pure.

Every parameter is a leaf with its name as path; names are decoded once. A name given twice is refused: which of the
two a reader takes is anybody's guess.
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import quote, unquote_to_bytes

from proxy.document.tree import MAX_LEAVES, Document, Kind, Leaf, Members, Value, decode
from proxy.refusal import Refusal

# RFC 3986 section 3.4 with complete percent escapes only; "+" means a blank in forms and is left to decode_value.
# Without ";", at which some readers begin another parameter that no rule ever saw; as %3B it is like any other.
# The inner run is possessive: giving characters back would take exponential time on a long query with a stray end.
_WELL_FORMED = re.compile(r"(?:[A-Za-z0-9._~!$'()*,:@/?+&=-]++|%[0-9A-Fa-f]{2})*", re.ASCII)


def read_query(query: str) -> Document:
    """The parameters of `query` (without "?").

    Raises Refusal `document_malformed` for a stray character, a broken escape, an empty or repeated name,
    `document_too_large` for too many parameters.
    """
    if not query:
        return _NOTHING
    names = read_values(query)
    leaves: list[Leaf] = []
    position = 0
    for part, (name, value) in zip(query.split("&"), names.items(), strict=True):
        end = position + len(part)
        name_end = part.find("=")
        start = end if name_end < 0 else position + name_end + 1
        leaves.append(Leaf((name,), value, Kind.STRING, start, end, (position, end), int(name_end >= 0)))
        position = end + 1
    return Document("query", query, tuple(leaves), _write, _Gaps(tuple(leaves)), _members)


def read_form(body: bytes) -> Document:
    """The parameters of an urlencoded body (WHATWG URL, section 5). Raises Refusal as `read_query`."""
    return replace(read_query(decode(body)), form="form")


def read_values(query: str) -> dict[str, str]:
    """Names and values of `query`, decoded once, in order. Raises Refusal as `read_query`."""
    if not _WELL_FORMED.fullmatch(query):
        raise Refusal("document_malformed")
    values: dict[str, str] = {}
    parts = query.split("&") if query else []
    escaped = "%" in query or "+" in query
    if len(parts) > MAX_LEAVES:
        raise Refusal("document_too_large")
    for part in parts:
        name, _, value = part.partition("=")
        if "=" in value:
            raise Refusal("document_malformed")
        if escaped:
            name, value = _decoded(name), _decoded(value)
        if not name or name in values:
            raise Refusal("document_malformed")
        values[name] = value
    return values


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    return decode(unquote_to_bytes(text.replace("+", " ")))


def _write(leaf: Leaf, value: Value) -> str:
    return ("" if leaf.extra else "=") + quote(value.text, safe="")


def _members(members: Members) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in members)


class _Gaps:
    """Which "&" go with dropped parameters."""

    def __init__(self, leaves: tuple[Leaf, ...]) -> None:
        self.leaves = leaves

    def __call__(self, dropped: frozenset[int]) -> list[tuple[int, int]]:
        cuts, kept_before = [], False
        for index in range(len(self.leaves) - 1):
            kept_before = kept_before or index not in dropped
            if not (kept_before and index + 1 not in dropped):
                end = self.leaves[index].end
                cuts.append((end, end + 1))
        return cuts


_NOTHING = Document("query", "", (), _write, members=_members)
