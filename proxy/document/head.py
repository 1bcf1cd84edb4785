"""What stands in the head of a request besides its query: variables of a path, declared header fields. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from urllib.parse import quote

from proxy.document.tree import Document, Kind, Leaf, Value
from proxy.message import HeaderList
from proxy.refusal import Refusal

_BENDS_PATH = frozenset("/\\;%?#")
_FIELD_VALUE = re.compile(r"[\x20-\x7e]{0,4096}", re.ASCII)


def read_path(path: str, names: Sequence[str | None]) -> Document:
    """The variables of `path`. `names`: for each of its segments the variable's name, None for a literal one."""
    leaves: list[Leaf] = []
    start = 1
    for segment, name in zip(path.split("/")[1:], names, strict=True):
        end = start + len(segment)
        if name is not None:
            leaves.append(Leaf((name,), segment, Kind.STRING, start, end, (start, end)))
        start = end + 1
    return Document("path", path, tuple(leaves), _segment)


def _segment(_leaf: Leaf, value: Value) -> str:
    if value.text in ("", ".", "..") or not _BENDS_PATH.isdisjoint(value.text):
        raise Refusal("value_refused")  # it would be another path, at once or for who decodes %2F before it routes
    return quote(value.text, safe="")


def read_header(headers: HeaderList, declared: Collection[str]) -> Document:
    """The fields of `headers` that are `declared` (lower-case); of the others nothing is known and nothing goes on.

    Raises Refusal `document_malformed` for a declared field that is repeated or holds other than visible ASCII.
    """
    leaves: list[Leaf] = []
    for name, value in headers:
        key = name.decode("latin-1")
        if key in declared:
            text = value.decode("latin-1")
            if any(leaf.path == (key,) for leaf in leaves) or not _FIELD_VALUE.fullmatch(text):
                raise Refusal("document_malformed")
            leaves.append(Leaf((key,), text, Kind.STRING, 0, 0, (0, 0)))
    return Document("header", "", tuple(leaves), _no_place)


def _no_place(_leaf: Leaf, _value: Value) -> str:
    raise Refusal("internal")  # fields are written from their values, there is no text to change


def field_values(document: Document, values: Sequence[str | None]) -> HeaderList:
    """The fields as they go on; `values`: of the document's leaves, None for one that was dropped.

    Raises Refusal `value_refused` for a value that no field can hold.
    """
    fields: list[tuple[bytes, bytes]] = []
    for leaf, value in zip(document.leaves, values, strict=True):
        if value is not None:
            if not _FIELD_VALUE.fullmatch(value):
                raise Refusal("value_refused")
            fields.append((str(leaf.path[0]).encode(), value.encode("ascii")))
    return tuple(fields)
