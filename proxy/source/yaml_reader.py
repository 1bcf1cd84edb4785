"""Strict YAML 1.2 (core schema) as nodes with places, on libyaml's event parser. Pure.

Anchors, aliases, tags, directives, merge keys, several documents, duplicate keys and characters that editors do not
show are problems: each lets a file mean something else than it seems to say. Sizes and depth are bounded before
anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import yaml

from proxy.source.problem import Place, Problem, Problems

MAX_BYTES = 2 * 1024 * 1024
MAX_DEPTH = 20
MAX_NODES = 200_000

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value: as the core schema reads it, and as it was written."""

    place: Place
    value: Value
    text: str


@dataclass(frozen=True, slots=True)
class Sequence:
    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    place: Place
    entries: tuple[tuple[Scalar, Node], ...]


Node = Scalar | Sequence | Mapping

# YAML 1.2 core schema, section 10.3.2. `yes`, `no`, `on`, `off` are plain text there.
_CORE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"null|Null|NULL|~|"), "null"),
    (re.compile(r"true|True|TRUE"), "true"),
    (re.compile(r"false|False|FALSE"), "false"),
    (re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,16}", re.ASCII), "int"),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII), "float"),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), "float"),
)

# Not in YAML at all (section 5.1); a byte-order mark, a line break that only some programs take for one (libyaml does,
# YAML 1.2 and editors do not), a character that turns the writing direction: what is seen is not what is read.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]|\r(?!\n)"
)


def _resolve(text: str) -> Value:
    for pattern, kind in _CORE:
        if pattern.fullmatch(text):
            return _NUMBER[kind](text) if kind in _NUMBER else _WORD[kind]
    return text


_WORD = {"null": None, "true": True, "false": False}
_NUMBER: dict[str, Callable[[str], int | float]] = {
    "int": lambda text: int(text, 0 if text[:2] in ("0o", "0x") else 10),
    "float": lambda text: float(text.replace(".i", "i").replace(".I", "I").replace(".n", "n").replace(".N", "N")),
}


class _Composer:
    def __init__(self, file: str, events: Iterator[yaml.Event]) -> None:
        self.file = file
        self.events = events
        self.problems: list[Problem] = []
        self.nodes = 0

    def place(self, event: yaml.Event) -> Place:
        mark = event.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1) if mark else Place(self.file, 1, 1)

    def problem(self, event: yaml.Event, code: str, message: str, fix: str = "") -> None:
        self.problems.append(Problem(self.place(event), code, message, fix))

    def check(self, event: yaml.Event, depth: int) -> None:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            self.problem(event, "yaml-too-large", "the file is nested too deeply or has too many values")
            raise Problems(self.problems)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            self.problem(event, "yaml-alias", "anchors and aliases are not allowed", "write the value out")
        if getattr(event, "tag", None) is not None:
            self.problem(event, "yaml-tag", "tags are not allowed", "remove it")

    def compose(self, event: yaml.Event, depth: int = 0) -> Node:
        self.check(event, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(self.events), yaml.SequenceEndEvent):
                items.append(self.compose(inner, depth + 1))
            return Sequence(self.place(event), tuple(items))
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(event, depth)
        if isinstance(event, yaml.ScalarEvent):
            if unseen := _UNSEEN.search(event.value):  # written as an escape
                self.problem(event, "yaml-encoding", *_cannot_be_seen(unseen[0]))
            plain = event.implicit[0] and not event.style
            return Scalar(self.place(event), _resolve(event.value) if plain else event.value, event.value)
        return Scalar(self.place(event), None, "")  # an alias; the problem is noted

    def mapping(self, event: yaml.Event, depth: int) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        while not isinstance(inner := next(self.events), yaml.MappingEndEvent):
            key = self.compose(inner, depth + 1)
            value = self.compose(next(self.events), depth + 1)
            if not isinstance(key, Scalar):
                self.problem(inner, "yaml-key", "a key must be a single word")
            elif key.text == "<<":
                self.problem(inner, "yaml-alias", "merge keys are not allowed", "write the entries out")
            elif key.text in entries:
                first = entries[key.text][0].place
                self.problem(inner, "yaml-duplicate", f'"{key.text}" is here twice, first in line {first.line}')
            else:
                entries[key.text] = (key, value)
        return Mapping(self.place(event), tuple(entries.values()))


def read_yaml(data: bytes, file: str) -> Node:
    """The one document in `data`. `file` names it in places. Raises Problems."""
    if len(data) > MAX_BYTES:
        raise Problems([Problem(Place(file, 1, 1), "yaml-too-large", f"the file has more than {MAX_BYTES} bytes")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _place(data[: error.start].decode("utf-8"), file)
        raise Problems([Problem(place, "yaml-encoding", "the file is not UTF-8", "save it as UTF-8")]) from None
    if unseen := _UNSEEN.search(text):
        place = _place(text[: unseen.start()], file)
        raise Problems([Problem(place, "yaml-encoding", *_cannot_be_seen(unseen[0]))])
    try:
        return _document(text, file)
    except yaml.YAMLError:  # libyaml's reader, before its parser: _UNSEEN goes before it
        raise Problems([Problem(Place(file, 1, 1), "yaml-encoding", "the file cannot be read as YAML")]) from None


def _cannot_be_seen(character: str) -> tuple[str, str]:
    return f"the character U+{ord(character):04X} cannot be seen", "remove it"


def _place(before: str, file: str) -> Place:
    """The place behind the text `before`."""
    return Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _syntax(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
    reason = (error.problem or "not YAML").replace("\t", "\\t")
    return Problem(place, "yaml-syntax", f"this is not well-formed YAML ({reason})")


def _document(text: str, file: str) -> Node:
    composer = _Composer(file, yaml.parse(text, Loader=yaml.CLoader))
    try:
        return _only_document(composer)
    except yaml.MarkedYAMLError as error:  # what was found before the parser gave up is told too
        raise Problems([*composer.problems, _syntax(error, file)]) from None


def _only_document(composer: _Composer) -> Node:
    events = composer.events
    next(events)  # the stream begins
    if not isinstance(start := next(events), yaml.DocumentStartEvent):
        raise Problems([Problem(Place(composer.file, 1, 1), "yaml-empty", "the file is empty")])
    if start.version or start.tags:
        composer.problem(start, "yaml-directive", "%YAML and %TAG lines are not allowed", "remove them: it is YAML 1.2")
    node = composer.compose(next(events))
    next(events)  # the document ends
    if isinstance(extra := next(events), yaml.DocumentStartEvent):
        composer.problem(extra, "yaml-documents", "only one document is allowed in a file")
    if composer.problems:
        raise Problems(composer.problems)
    return node
