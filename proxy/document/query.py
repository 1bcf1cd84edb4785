"""Strict reader of query strings and urlencoded forms. Pure.

Every parameter is a leaf with its name as path; names are decoded once. A name given twice is refused: which of the
two a reader takes is anybody's guess.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from proxy.document.tree import MAX_LEAVES, Document, Kind, Leaf, Value, decode
from proxy.refusal import Refusal

# RFC 3986 section 3.4 with complete percent escapes only; "+" means a blank in forms and is left to decode_value.
# The inner run is possessive: giving characters back would take exponential time on a long query with a stray end.
_WELL_FORMED = re.compile(r"(?:[A-Za-z0-9._~!$'()*,;:@/?+&=-]++|%[0-9A-Fa-f]{2})*", re.ASCII)


def read_query(query: str) -> Document:
    """The parameters of `query` (without "?").

    Raises Refusal `document_malformed` for a stray character, a broken escape, an empty or repeated name,
    `document_too_large` for too many parameters.
    """
    if not query:
        return _NOTHING
    if not _WELL_FORMED.fullmatch(query):
        raise Refusal("document_malformed")
    leaves: list[Leaf] = []
    names: set[str] = set()
    position = 0
    for part in query.split("&"):
        name_text, equals, value_text = part.partition("=")
        name = _decoded(name_text)
        if not name or name in names or "=" in value_text:
            raise Refusal("document_malformed")
        names.add(name)
        start = position + len(name_text) + len(equals)
        end = position + len(part)
        leaves.append(Leaf((name,), _decoded(value_text), Kind.STRING, start, end, (position, end), len(equals)))
        position = end + 1
    if len(leaves) > MAX_LEAVES:
        raise Refusal("document_too_large")
    return Document("query", query, tuple(leaves), _write, _Gaps(tuple(leaves)))


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    return decode(unquote_to_bytes(text.replace("+", " ")))


def _write(leaf: Leaf, value: Value) -> str:
    return ("" if leaf.extra else "=") + quote(value.text, safe="")


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


_NOTHING = Document("query", "", (), _write)
