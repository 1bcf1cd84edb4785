"""Strict reader of WeChat's small XML on expat. Pure.

No DTD, entities of its own, processing instructions, comments, attributes or namespaces: none occurs in a push or a
reply, and each is a place to hide something in or to attack a parser with. Text beside elements may only be blank.
"""

from __future__ import annotations

import re
from xml.parsers import expat
from xml.sax.saxutils import escape

from proxy.document.tree import MAX_DEPTH, MAX_LEAVES, Document, Kind, Leaf, Members, Value, decode
from proxy.document.xml_flat import CDATA, read_flat
from proxy.refusal import Refusal

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_SPACE = " \t\r\n"
# XML 1.0 section 2.2: these can be written in no way at all.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class _Reader:
    """Collects leaves while expat calls; one per body."""

    def __init__(self, body: bytes) -> None:
        self.parser = parser = expat.ParserCreate("utf-8")
        self.body = body
        self.leaves: list[Leaf] = []
        self.path: list[str] = []
        self.starts: list[int] = []
        self.inner: int = -1  # where the content of the innermost element begins, if it has no child yet
        self.texts: list[str] = []
        self.cdata = False
        # Expat reports every line feed and bracket by itself: unbuffered, a body of them takes a call for each byte.
        parser.buffer_text = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.texts.append
        parser.StartCdataSectionHandler = self.start_cdata
        parser.XmlDeclHandler = self.declaration
        parser.StartDoctypeDeclHandler = parser.ProcessingInstructionHandler = self.refuse
        parser.CommentHandler = parser.EntityDeclHandler = parser.SkippedEntityHandler = self.refuse
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def refuse(self, *_: object) -> None:
        raise Refusal("document_malformed")

    def declaration(self, version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0" or (encoding is not None and encoding.lower() != "utf-8"):
            raise Refusal("document_malformed")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        here = self.parser.CurrentByteIndex
        if attributes or not _NAME.fullmatch(name):
            raise Refusal("document_malformed")
        if len(self.path) >= MAX_DEPTH:
            raise Refusal("document_too_large")
        self.only_space()
        self.path.append(name)
        self.starts.append(here)
        self.inner = self.body.index(b">", here) + 1  # the first one: there are no attributes to hold another
        self.cdata = False

    def only_space(self) -> None:
        if self.cdata or "".join(self.texts).strip(_SPACE):
            raise Refusal("document_malformed")
        self.texts.clear()

    def start_cdata(self) -> None:
        self.cdata = True

    def end(self, _name: str) -> None:
        here = self.parser.CurrentByteIndex
        started = self.starts.pop()
        if self.inner < 0:
            self.only_space()  # the element had children: it is no leaf
        else:
            self.leaf(started, here)
        self.path.pop()
        self.inner = -1
        self.cdata = False

    def leaf(self, started: int, here: int) -> None:
        if len(self.leaves) >= MAX_LEAVES:
            raise Refusal("document_too_large")
        # For <a/> expat reports the end tag behind the one tag there is; then the whole tag is what gets replaced.
        empty_tag = here == self.inner and self.body[here - 2 : here] == b"/>"
        whole_end = here if empty_tag else self.body.index(b">", here) + 1
        inner, end = (started, here) if empty_tag else (self.inner, here)
        self.leaves.append(
            Leaf(
                tuple(self.path),
                "".join(self.texts),
                Kind.STRING,
                inner,
                end,
                (started, whole_end),
                CDATA if self.cdata else 0,
            )
        )
        self.texts.clear()


def read_xml(body: bytes) -> Document:
    """The document in `body`. Paths begin with the root element's name.

    Raises Refusal `document_malformed` or `document_too_large`.
    """
    text = decode(body)
    leaves = read_flat(text)
    return _strict(text, body) if leaves is None else Document("xml", text, leaves, _write, members=_members)


def _strict(text: str, body: bytes) -> Document:
    reader = _Reader(body)
    try:
        reader.parser.Parse(body, True)
    except expat.ExpatError:
        raise Refusal("document_malformed") from None
    return Document("xml", text, _as_characters(text, body, reader.leaves), _write, members=_members)


def _as_characters(text: str, body: bytes, leaves: list[Leaf]) -> tuple[Leaf, ...]:
    """Byte places made into character places; nothing to do for ASCII."""
    if len(text) == len(body):
        return tuple(leaves)
    places = sorted({place for leaf in leaves for place in (leaf.start, leaf.end, *leaf.whole)})
    table, characters, before = {}, 0, 0
    for place in places:
        characters += len(body[before:place].decode())
        table[place], before = characters, place
    for leaf in leaves:
        leaf.start, leaf.end = table[leaf.start], table[leaf.end]
        leaf.whole = (table[leaf.whole[0]], table[leaf.whole[1]])
    return tuple(leaves)


def _write(leaf: Leaf, value: Value) -> str:
    _require_writable(value.text)
    # A text that came in CDATA leaves in CDATA; a text without markup needs none otherwise. A carriage return would be
    # read as a line feed in either (XML 1.0 section 2.11), so a text with one is written with references.
    in_cdata = leaf.extra & CDATA and "\r" not in value.text
    content = cdata(value.text) if in_cdata else escape(value.text, {"\r": "&#13;"})
    if leaf.start == leaf.whole[0]:  # it was written <a/>
        name = leaf.path[-1]
        return f"<{name}>{content}</{name}>"
    return content


def _members(members: Members) -> str:
    for name, text in members:
        _require_writable(text)
        if not _NAME.fullmatch(name):
            raise Refusal("value_refused")
    return "".join(f"<{name}>{cdata(text)}</{name}>" for name, text in members)


def _require_writable(text: str) -> None:
    # Tokens, most of what is written, are printable ASCII; saying so costs less than looking for each exception.
    if not (text.isascii() and text.isprintable()) and _FORBIDDEN.search(text):
        raise Refusal("value_refused")


def cdata(text: str) -> str:
    """`text` as a CDATA section; the one sequence that cannot stand in it is split over two."""
    return "<![CDATA[" + text.replace("]]>", "]]]]><![CDATA[>") + "]]>"
