"""What stands inside the text of a leaf: JSON in a CDATA section, base64 in JSON, a token in a sentence. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence

from proxy.document.json_body import read_json
from proxy.document.parts import Finder, read_parts
from proxy.document.query import read_form
from proxy.document.tree import Document, Into, Kind, Leaf, Value, decode
from proxy.document.xml_body import read_xml
from proxy.refusal import Refusal

TEXT = "text"
"""The name of what base64 spells."""


def read_inside(leaf: Leaf, into: Into, finders: Sequence[Finder] = ()) -> Document | None:
    """The text of `leaf` read as `into`; its leaves have the paths they have in the whole message. None for a text that
    cannot be read so: it is one value. `finders`: for WITHIN."""
    if leaf.kind is not Kind.STRING:
        return None
    try:
        document = read_parts(leaf.text, finders) if into is Into.WITHIN else _READERS[into](leaf.text)
    except Refusal:
        return None
    if document is None or not document.leaves:
        return None
    for inner in document.leaves:
        inner.path = (*leaf.path, into, *inner.path)
    return document


def _json(text: str) -> Document | None:
    """Objects and arrays that hold something; a lone number or word is no more than a text."""
    document = read_json(text.encode())
    return document if document.leaves[0].path else None


def _base64(text: str) -> Document | None:
    """RFC 4648 section 4, only as it would be written again; what it spells must be text."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    if not data or base64.b64encode(data).decode() != text:
        return None
    return Document(Into.BASE64.value, text, (_whole(decode(data), len(text)),), _encode)


def _whole(spelled: str, length: int) -> Leaf:
    return Leaf((TEXT,), spelled, Kind.STRING, 0, length, (0, length))


def _encode(_leaf: Leaf, value: Value) -> str:
    return base64.b64encode(value.text.encode()).decode()


_READERS: Mapping[Into, Callable[[str], Document | None]] = {
    Into.JSON: _json,
    Into.XML: lambda text: read_xml(text.encode()),
    Into.FORM: lambda text: read_form(text.encode()),
    Into.BASE64: _base64,
}
