"""Selectors: typed pointers to leaves, and the table that finds the most specific one for a leaf. Pure.

    xml:/xml/SendPicsInfo/PicList/item      element names from the root; repeated elements are all meant
    json:$.data[*]['first name']            RFC 9535 names, indexes and `*`; no filters, slices or descendants
    form:phone                              a parameter of an urlencoded body
    multipart:media/filename                a part of a multipart body: its body, filename or type
    query:access_token                      a query parameter
    path:id                                 a variable of the path template, {id}
    header:if-match                         a header field of a request, lower-case

    xml:/xml/Content > json:$.order.phone   inside a text: JSON, XML, a form, base64 (base64:text), parts of a sentence
    json:$.body > within:mention            that a pattern finds, and within:rest

Specificity is read from left to right: a name or index comes before `*`. Two different patterns of the same leaf are
therefore never equal; the same pattern twice is a compile error.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from proxy.document.inside import TEXT
from proxy.document.multipart import BODY, FILENAME, TYPE
from proxy.document.tree import Into

# They say where a message ends, where it goes, who keeps the connection and who asks.
GATEWAYS_OWN = frozenset(
    {"host", "authorization", "proxy-authorization", "cookie", "content-length", "content-type", "content-encoding"}
    | {"transfer-encoding", "connection", "keep-alive", "proxy-connection", "upgrade"}
    | {"te", "trailer", "expect", "accept-encoding"}
)


class Any_(enum.Enum):
    """The segment that matches every name and every index."""

    ANY = "*"


ANY = Any_.ANY
Segment = str | int | Into | Any_
Pattern = tuple[Segment, ...]

_XML_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
# RFC 9535 sections 2.3.1 and 2.3.3: shorthand names, quoted names, wildcards, indexes from 0.
_JSON_SEGMENT = re.compile(
    r"\.(?P<name>[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*)|\.(?P<any>\*)"
    r"|\[(?P<any2>\*)\]|\[(?P<index>0|[1-9][0-9]{0,6})\]|\['(?P<single>[^'\\]*)'\]|\[\"(?P<double>[^\"\\]*)\"\]"
)


# How many texts may lie in one another.
MAX_INSIDE = 3
_INSIDE = re.compile(r" > (?=[a-z0-9]+:)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Selector:
    """`form`: xml, json, form or multipart for a body; query, path or header. What it says of the inside of a text
    follows an `Into` in the pattern."""

    form: str
    pattern: Pattern
    text: str

    @property
    def has_wildcard(self) -> bool:
        return ANY in self.pattern

    @property
    def inside(self) -> Into | None:
        """What the innermost text is looked into as; None for a selector of a whole value."""
        return next((segment for segment in reversed(self.pattern) if isinstance(segment, Into)), None)

    @property
    def texts(self) -> tuple[Pattern, ...]:
        """Patterns of the texts it looks into, the outermost first."""
        return tuple(self.pattern[:at] for at, segment in enumerate(self.pattern) if isinstance(segment, Into))

    @property
    def innermost(self) -> str:
        """The form of what stands beside the values it points at."""
        return self.inside.value if self.inside else self.form


def parse_selector(text: str) -> Selector:
    """ValueError with a sentence for the author if `text` is no selector."""
    first, *inner = _INSIDE.split(text)
    form, rest = _form_of(first, _PARSERS)
    pattern = _PARSERS[form](rest)
    if inner and form in ("path", "header"):
        raise ValueError(f"a {form}: selector points at a whole value")
    if len(inner) > MAX_INSIDE:
        raise ValueError(f"a selector looks into at most {MAX_INSIDE} texts")
    for stage in inner:
        word, rest = _form_of(stage, _INNER)
        pattern = (*pattern, Into(word), *_INNER[word](rest))
    return Selector(form, pattern, text)


def _form_of(text: str, forms: Collection[str]) -> tuple[str, str]:
    form, colon, rest = text.partition(":")
    if not colon or form not in forms:
        raise ValueError(f"a selector begins with one of {', '.join(f'{form}:' for form in forms)}")
    return form, rest


def _xml(rest: str) -> Pattern:
    names = rest.split("/")
    if names[0] or len(names) < 3:
        raise ValueError("an xml: selector is /root/Element, for example xml:/xml/Content")
    for name in names[1:]:
        if name != "*" and not _XML_NAME.fullmatch(name):
            raise ValueError(f'"{name}" is not an element name')
    return tuple(ANY if name == "*" else name for name in names[1:])


def _json(rest: str) -> Pattern:
    if not rest.startswith("$"):
        raise ValueError("a json: selector begins with $, for example json:$.text.content")
    segments: list[Segment] = []
    position = 1
    while position < len(rest):
        match = _JSON_SEGMENT.match(rest, position)
        if not match:
            raise ValueError(f'"{rest[position:]}" is not a name, an index or * (no filters, slices or "..")')
        segments.append(_segment(match))
        position = match.end()
    if not segments:
        raise ValueError("$ alone names no field")
    return tuple(segments)


def _segment(match: re.Match[str]) -> Segment:
    if match["any"] or match["any2"]:
        return ANY
    if match["index"]:
        return int(match["index"])
    return next(match[group] for group in ("name", "single", "double") if match[group] is not None)


def _name(rest: str) -> Pattern:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", rest, re.ASCII):
        raise ValueError("a form: or query: selector names one parameter")
    return (rest,)


def _variable(rest: str) -> Pattern:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", rest, re.ASCII):
        raise ValueError("a path: selector names a variable of the path, without its braces")
    return (rest,)


def _field(rest: str) -> Pattern:
    own = rest in GATEWAYS_OWN or rest.startswith("wxgate-")
    if own or not re.fullmatch(r"[a-z0-9-]{1,64}", rest, re.ASCII):
        raise ValueError("a header: selector names a field in lower case, none of the connection's or wxgate's own")
    return (rest,)


def _part_leaf(rest: str) -> Pattern:
    name, slash, leaf = rest.rpartition("/")
    if not slash or not name or leaf not in (BODY, FILENAME, TYPE):
        raise ValueError(f"a multipart: selector is NAME/{BODY}, NAME/{FILENAME} or NAME/{TYPE}")
    return (ANY if name == "*" else name, leaf)


def _spelled(rest: str) -> Pattern:
    if rest != TEXT:
        raise ValueError(f"base64:{TEXT} is all there is in base64")
    return (rest,)


def _part(rest: str) -> Pattern:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", rest, re.ASCII):
        raise ValueError("a within: selector names a pattern, or rest")
    return (rest,)


_PARSERS = {
    "xml": _xml,
    "json": _json,
    "form": _name,
    "multipart": _part_leaf,
    "query": _name,
    "path": _variable,
    "header": _field,
}
_INNER = {"json": _json, "xml": _xml, "form": _name, "base64": _spelled, "within": _part}
PARTS = ("body", "query", "path", "header")


def part_of(form: str) -> str:
    """In which part of a message a form stands."""
    return form if form in PARTS else "body"


@dataclass(slots=True)
class Table[T]:
    """Patterns of one form with what belongs to them, as a tree over their segments."""

    below: dict[Segment, Table[T]] = field(default_factory=dict)
    item: T | None = None
    exact: dict[Pattern, T] = field(default_factory=dict)
    """What belongs to patterns without `*`, which are the most specific there can be."""

    def add(self, pattern: Pattern, item: T) -> T | None:
        """Adds `item` under `pattern`; returns what stood there already, and then changes nothing."""
        table = self
        for segment in pattern:
            table = table.below.setdefault(segment, Table())
        if table.item is None:
            table.item = item
            if ANY not in pattern:
                self.exact[pattern] = item
            return None
        return table.item

    def items(self) -> Iterator[T]:
        """Everything that belongs to any pattern."""
        if self.item is not None:
            yield self.item
        for table in self.below.values():
            yield from table.items()

    def under(self, pattern: Pattern) -> Table[T] | None:
        """What goes on from exactly these segments."""
        table: Table[T] | None = self
        for segment in pattern:
            table = table.below.get(segment) if table else None
        return table

    def find(self, path: Pattern) -> T | None:
        """What belongs to the most specific pattern that matches `path`.

        Nothing of `path` is remembered: it holds names that a caller chose, as long as a body may be.
        """
        found = self.exact.get(path)
        return self._walk(path, 0) if found is None else found

    def _walk(self, path: Pattern, at: int) -> T | None:
        if at == len(path):
            return self.item
        here = path[at]
        # Into a text leads its own word only: `*` stands for names.
        for segment in (here,) if isinstance(here, Into) else (here, ANY):
            if (below := self.below.get(segment)) and (found := below._walk(path, at + 1)) is not None:
                return found
        return None
