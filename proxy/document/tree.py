"""The common form of all documents: leaves with a path, a text and a place in the source. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.record import record
from proxy.refusal import Refusal


class Into(enum.Enum):
    """What the text of a leaf is looked into as. Each value is the word selectors use."""

    __hash__ = object.__hash__  # see Kind

    JSON = "json"
    XML = "xml"
    FORM = "form"
    BASE64 = "base64"
    WITHIN = "within"


Path = tuple[str | int | Into, ...]
"""Where a leaf stands: element or member names, array positions as numbers; what stands inside a text of a leaf comes
after the leaf's own path and an `Into`."""

MAX_LEAVES = 2000  # the largest push of the protocol has some 60; Salesforce records some 800 fields
MAX_DEPTH = 16


class Kind(enum.Enum):
    """The type of a leaf's value. An empty container is a leaf too: its name may say something. BINARY is no text, its
    characters stand for bytes."""

    __hash__ = object.__hash__  # members are single; Enum's own hash is computed in Python each time

    STRING = "string"
    NUMBER = "number"
    LITERAL = "literal"
    EMPTY = "empty"
    BINARY = "binary"


@dataclass(slots=True)
class Leaf:
    """One value. `start` and `end` bound what stands in the source for it, delimiters included.

    `whole` bounds what goes when the leaf is dropped: the element, the member, the parameter.
    `extra` is the reader's own note, such as whether an XML text stood in CDATA.
    """

    path: Path
    text: str = field(repr=False)
    kind: Kind
    start: int
    end: int
    whole: tuple[int, int]
    extra: int = 0


@record
class Value:
    """What a leaf becomes: a text and the type it is written as; or, in its place, several `members` (name, text)."""

    text: str
    kind: Kind = Kind.STRING
    members: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"Value({self.kind.value})"


DROP = Value("", Kind.EMPTY)
"""In a change: the leaf goes, with its name."""

Change = Mapping[int, Value]
"""Index of a leaf -> what it becomes."""


Members = tuple[tuple[str, str], ...]


def _no_members(_members: Members) -> str:
    raise Refusal("value_refused")


@record
class Document:
    """A parsed body. `source` is its text; `write` spells a value the way the format wants it at a leaf, `members`
    spells several named ones in the place of one;
    `gaps` tells which separators (commas, ampersands) go with the leaves that are dropped; `charset`: what makes bytes
    of the source; `boundary`: of a multipart body; `goes_with`: leaves that go when another one is dropped."""

    form: str
    source: str = field(repr=False)
    leaves: tuple[Leaf, ...]
    write: Callable[[Leaf, Value], str] = field(repr=False)
    gaps: Callable[[frozenset[int]], list[tuple[int, int]]] = field(repr=False, default=lambda dropped: [])
    members: Callable[[Members], str] = field(repr=False, default=_no_members)
    charset: str = "utf-8"
    boundary: str = ""
    goes_with: Mapping[int, int] = field(repr=False, default_factory=dict)
    _texts: dict[Path, str | None] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Once `single` was asked: the leaves' texts by path, None for several of one path."""

    @property
    def raw(self) -> bytes:
        """The source in bytes."""
        return self.source.encode(self.charset)

    def single(self, *path: str) -> str | None:
        """The text of the leaf at `path`, None if there is none. Refusal `document_malformed` if there are several."""
        texts = self._texts
        if not texts:
            texts.update([(leaf.path, leaf.text) for leaf in self.leaves])
            if len(texts) < len(self.leaves):
                several = Counter([leaf.path for leaf in self.leaves]) - Counter(texts.keys())
                texts.update(dict.fromkeys(several))
        if path not in texts:
            return None
        text = texts[path]
        if text is None:
            raise Refusal("document_malformed")
        return text


def render(document: Document, changes: Change) -> bytes:
    """The document's bytes with `changes` made and everything else as it came."""
    if not changes:
        return document.raw
    cuts: list[tuple[int, int, str]] = []
    dropped: list[int] = []
    for index, value in changes.items():
        if changes.get(document.goes_with.get(index, -1)) is DROP:
            continue
        leaf = document.leaves[index]
        if value is DROP:
            dropped.append(index)
            cuts.append((*leaf.whole, ""))
        elif value.members:
            cuts.append((*leaf.whole, document.members(value.members)))
        else:
            cuts.append((leaf.start, leaf.end, document.write(leaf, value)))
    if dropped:
        cuts += [(start, end, "") for start, end in document.gaps(frozenset(dropped))]
    return _splice(document.source, cuts).encode(document.charset)


def _splice(source: str, cuts: list[tuple[int, int, str]]) -> str:
    cuts.sort()
    pieces: list[str] = []
    position = 0
    for start, end, text in cuts:
        if start < position:
            raise ValueError("two changes overlap")
        pieces += (source[position:start], text)
        position = end
    pieces.append(source[position:])
    return "".join(pieces)


def decode(body: bytes) -> str:
    """`body` as UTF-8 text without byte-order mark, NUL or lone surrogates. Refusal `document_malformed` otherwise."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("document_malformed") from None
    if "\x00" in text or text.startswith("\ufeff"):
        raise Refusal("document_malformed")
    return text
