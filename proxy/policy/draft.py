"""A first policy from samples: every field of them has a rule, and nothing is allowed or revealed by a guess. Pure.

The text holds names of fields and types of messages, and no value of a sample. A name that looks like a value, or says
what a value says, is written as `*`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from proxy.document.tree import Document, Into, Leaf, Path
from proxy.policy.draft_classes import CLASSES, DATA, Guess, classify, is_data
from proxy.policy.rules import Direction, Phase
from proxy.policy.selector import ANY, Pattern

ENVELOPE = "wechat-envelope.yaml"
# The fields of each phase that the policy named above has rules for (protocol 1.3 and 2.1). A test compares them.
KNOWN = {
    Phase.REQUEST: ("ToUserName", "FromUserName", "CreateTime", "MsgType", "Event", "MsgId"),
    Phase.RESPONSE: ("ToUserName", "FromUserName", "CreateTime", "MsgType"),
}
_SHORTEST = 4  # characters of a value that is looked for in names; shorter ones are in every other name
_LONGEST = 64  # characters of a name that may be written at all
_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}", re.ASCII)
_TYPE_WORD = re.compile(r"[a-z][a-z0-9_-]*", re.ASCII)
_NAME_MOST = 64
_TYPES = {("xml", "MsgType"), ("xml", "Event"), ("MsgType",), ("Event",), ("msgtype",)}


class DraftError(ValueError):
    """There is nothing to draft from. The text is a sentence for the author and shows no value."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One message. `kind`: of a push or a passive reply, as policies match it; empty for API calls."""

    document: Document
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the author says of all samples. `name`: of the message, or what the names of several begin with;
    `method` and `path`: of an API call, variable segments of the path as {name}."""

    direction: Direction
    phase: Phase
    name: str
    method: str = ""
    path: str = ""


@dataclass(slots=True)
class _Message:
    form: str
    kind: str
    fields: dict[Pattern, Guess] = field(default_factory=dict)


def draft_policy(samples: Sequence[Sample], shape: Shape) -> str:
    """The text of a policy that extends `ENVELOPE` and has a rule for every field of `samples`.

    Raises DraftError for a sample without fields, samples of one call in several formats, a message type or a segment
    of the path that looks like a value.
    """
    _check(samples, shape)
    said = {leaf.text.casefold() for sample in samples for leaf in sample.document.leaves if not _is_type(leaf.path)}
    names = {part for sample in samples for leaf in sample.document.leaves for part in leaf.path}
    hidden = {name for name in names if not isinstance(name, str) or _says_value(name, said)}
    messages: dict[tuple[str, str], _Message] = {}
    for sample in samples:
        key = sample.document.form, sample.kind
        _add(messages.setdefault(key, _Message(*key)), sample.document.leaves, shape, hidden)
    if shape.direction is not Direction.INBOUND and len(messages) > 1:
        raise DraftError("the samples of one call are of several formats; draft from one format at a time")
    return "\n".join(_lines(list(messages.values()), shape)) + "\n"


def _check(samples: Sequence[Sample], shape: Shape) -> None:
    for sample in samples:
        least = 2 if sample.document.form == "xml" else 1
        if any(len(leaf.path) < least for leaf in sample.document.leaves):
            raise DraftError("a sample has no fields; give one that has some")
        if sample.kind and any(is_data(word) for word in sample.kind.split(".")):
            raise DraftError("the type of a message looks like a value; correct the sample")
    for segment in shape.path.split("/")[1:]:
        if not _VARIABLE.fullmatch(segment) and is_data(segment):
            raise DraftError("a segment of the path looks like a value; write a variable such as {id} for it")


def _is_type(path: Path) -> bool:
    """Whether the message's type stands here: its words are names of fields as well (`msgtype: text`)."""
    return path in _TYPES


def _add(message: _Message, leaves: Iterable[Leaf], shape: Shape, hidden: set[str | int | Into]) -> None:
    known = _known(message.form, shape)
    for leaf in leaves:
        if leaf.path in known:
            continue
        pattern = tuple(ANY if part in hidden else part for part in leaf.path)
        name = next((part for part in reversed(pattern) if isinstance(part, str)), "")
        guess = classify(name, leaf)
        message.fields[pattern] = min(guess, message.fields.get(pattern, guess))


def _known(form: str, shape: Shape) -> set[Path]:
    if shape.direction is not Direction.INBOUND:
        return set()
    return {("xml", name) if form == "xml" else (name,) for name in KNOWN[shape.phase]}


def _says_value(name: str, said: set[str]) -> bool:
    """Whether `name` is a value itself, or has one in it. `said`: all values, without regard to case."""
    if is_data(name):
        return True
    text = name.casefold()
    ends = range(_SHORTEST, min(len(text), _LONGEST) + 1)
    return any(text[start:end] in said for end in ends for start in range(end - _SHORTEST + 1))


def _lines(messages: list[_Message], shape: Shape) -> Iterable[str]:
    yield "# A first policy, drafted from samples. Nothing is allowed or revealed by guess: look at every line."
    yield "# `refuse` stops the whole message: write allow, drop or a class once you know what the field is."
    yield "# The rules of the protocol's own fields are in the file that is extended; put it beside this one."
    yield "version: 1"
    yield f"extends: [{ENVELOPE}]"
    yield "defaults: {unmatched: refuse}"
    used = {guess.data_class for message in messages for guess in message.fields.values()}
    written = [(name, text) for name, text in CLASSES.items() if name in used and text]
    if written:
        yield from ("", "classes:", *(f"  {name}: {text}" for name, text in written))
    yield from ("", "messages:")
    for number, message in enumerate(messages, 1):
        yield from _message(message, shape, number)


def _message(message: _Message, shape: Shape, number: int) -> Iterable[str]:
    yield f"  - name: {_name(message, shape, number)}"
    yield f"    direction: {shape.direction.value}"
    yield f"    match: {_match(message, shape)}"
    variables = _VARIABLE.findall(shape.path)
    if shape.phase is Phase.RESPONSE and variables:
        yield "    request:"
        yield from _variables(variables)
    yield f"    {shape.phase.value}:"
    if shape.phase is Phase.REQUEST:
        yield from _variables(variables)
        if shape.direction is not Direction.INBOUND:
            yield "      # A query parameter needs a rule too, such as query:NAME."
    for pattern, guess in message.fields.items():
        yield f"      {_selector(message.form, pattern)}: {_treatment(guess)}"
    if not message.fields:  # the protocol's own fields are all it has, and a message says what body it has
        yield f"      {_selector(message.form, _any_type(message.form))}: allow"


def _any_type(form: str) -> Pattern:
    return ("xml", "MsgType") if form == "xml" else ("MsgType",)


def _name(message: _Message, shape: Shape, number: int) -> str:
    if not message.kind:
        return shape.name
    name = f"{shape.name}-{message.kind}" + (".json" if message.form == "json" else "")
    return name if len(name) <= _NAME_MOST else f"{shape.name}.{number}"


def _match(message: _Message, shape: Shape) -> str:
    if not message.kind:
        return f"{{method: {_text(shape.method)}, path: {json.dumps(shape.path)}}}"
    if shape.phase is Phase.RESPONSE:
        return f"{{reply: {_text(message.kind)}}}"
    kind, _, event = message.kind.partition(".")
    return f"{{type: event, event: {_text(event)}}}" if event else f"{{type: {_text(kind)}}}"


def _text(word: str) -> str:
    """`word` as YAML reads it back as a text."""
    plain = _TYPE_WORD.fullmatch(word.lower()) and word.lower() not in ("null", "true", "false")
    return word if plain else json.dumps(word)


def _variables(names: list[str]) -> Iterable[str]:
    return (f"      path:{name}: refuse  # to decide: a variable of the path" for name in names)


def _treatment(guess: Guess) -> str:
    if not guess.data_class:
        return f"refuse  # to decide: {guess.reason}"
    return f"{{class: {guess.data_class}, as: {DATA[guess.data_class]}}}"


def _selector(form: str, pattern: Pattern) -> str:
    if form == "json":
        return "json:$" + "".join(_json_segment(part) for part in pattern)
    return "xml:/" + "/".join("*" if part is ANY else str(part) for part in pattern)


def _json_segment(part: object) -> str:
    if part is ANY:
        return "[*]"
    name = str(part)
    return f".{name}" if name.isidentifier() else f"['{name}']"
