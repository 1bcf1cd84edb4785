"""Classes and rules as compiled, and the rules of one message: frozen, free of YAML. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from proxy.crypto.data_key import Purpose
from proxy.document.inside import read_inside
from proxy.document.parts import Finder
from proxy.document.tree import Document, Into, Leaf
from proxy.policy.selector import Pattern, Selector, Table
from proxy.policy.transform import BY_LOOKUP_KEY, NO_FORMS, Form, Forms
from proxy.source.problem import Place


class Action(enum.Enum):
    """What a class or a rule does to a value."""

    __hash__ = object.__hash__  # see crypto.data_key.Purpose

    ENCRYPT = "encrypt"
    MASK = "mask"
    REDACT = "redact"
    HASH = "hash"
    INDEX = "index"
    FORMAT_PRESERVING = "format_preserving"
    DROP = "drop"
    ALLOW = "allow"
    REFUSE = "refuse"


class Direction(enum.Enum):
    __hash__ = object.__hash__  # see crypto.data_key.Purpose

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    AGENT = "agent"


class Phase(enum.Enum):
    __hash__ = object.__hash__

    REQUEST = "request"
    RESPONSE = "response"


class Reveal(enum.Enum):
    """What a role gets to see of a token: the value, its mask, or the token as it is."""

    PLAIN = "plain"
    MASK = "mask"
    KEEP = "keep"


# Who wrote the document a phase reads. WeChat's values are never tokens, whatever they look like; the CRM's may be.
FROM_WECHAT = frozenset({(Direction.INBOUND, Phase.REQUEST), (Direction.OUTBOUND, Phase.RESPONSE)})
# Where tokens may be opened: on the way to WeChat and on the way to a person.
REVEALING = frozenset(
    {(Direction.OUTBOUND, Phase.REQUEST), (Direction.INBOUND, Phase.RESPONSE), (Direction.AGENT, Phase.RESPONSE)}
)


class OnError(enum.Enum):
    """What happens to a value its rule cannot be carried out on. Never for faults of keys or tokens."""

    REFUSE = "refuse"
    REDACT = "redact"
    DROP = "drop"


# What an action puts in the value's own place.
FORM_OF = {
    Action.ENCRYPT: Form.TOKEN,
    Action.MASK: Form.MASK,
    Action.REDACT: Form.REDACTION,
    Action.HASH: Form.HASH,
    Action.INDEX: Form.INDEX,
    Action.FORMAT_PRESERVING: Form.FORMAT_PRESERVING,
}


@dataclass(frozen=True, slots=True)
class DataClass:
    """What the data is. `group`: which DEK serves it; `forms`: how it is written other than as a token."""

    name: str
    action: Action
    deterministic: bool = False
    forms: Forms = NO_FORMS
    group: str = "default"

    def purpose(self, form: Form) -> Purpose | None:
        """Which kind of key writes `form`; None for those that need none."""
        if form is Form.TOKEN or form is Form.TOKEN_PREVIOUS:
            return Purpose.LOOKUP if self.deterministic else Purpose.DATA
        return Purpose.LOOKUP if form.base in BY_LOOKUP_KEY else None


@dataclass(frozen=True, slots=True)
class Fits:
    """The CRM field that a rule's value belongs to. `most`: characters of its longest clear value, if the rule says."""

    object: str
    field: str
    most: int | None = None

    def admits(self, text: str) -> bool:
        """Whether a clear value is no longer than `most`, in UTF-16 code units."""
        return self.most is None or len(text.encode("utf-16-le")) // 2 <= self.most


@dataclass(frozen=True)
class Rule:
    """What happens to the leaves of one selector. `datum` is the rule's `as`.

    `write`: the names and forms that take the place of the one value, if the author wrote any.
    """

    selector: Selector | None
    place: Place
    action: Action
    data_class: DataClass | None = None
    datum: str = ""
    binds: tuple[str, ...] = ()
    reveal: Mapping[str, Reveal] | None = None
    write: tuple[tuple[str, Form], ...] = ()
    on_error: OnError = OnError.REFUSE
    fits: Fits | None = None

    @cached_property
    def keys(self) -> frozenset[tuple[str, Purpose]]:
        """Class group and purpose of the keys that carrying the rule out takes."""
        data_class = self.data_class
        if data_class is None or self.action not in FORM_OF:
            return frozenset()
        forms = [form for _, form in self.write] or [FORM_OF[self.action]]
        purposes = {data_class.purpose(form) for form in forms} - {None}
        return frozenset((data_class.group, purpose) for purpose in purposes if purpose)

    @cached_property
    def replaced(self) -> frozenset[str]:
        """Class group of the lookup key whose old values are written as well; empty if none are."""
        both = self.data_class is not None and any(form.previous for _, form in self.write)
        return frozenset({self.data_class.group}) if both and self.data_class else frozenset()

    @property
    def keyed(self) -> bool:
        """Whether the value's own form takes a key, and with it the datum's name."""
        form = FORM_OF.get(self.action)
        return form is not None and (self.data_class is None or self.data_class.purpose(form) is not None)

    def reveal_for(self, role: str) -> Reveal | None:
        """What `role` may see; None if the rule says nothing for it."""
        if self.reveal is None:
            return None
        return self.reveal.get(role, self.reveal.get("*"))


@dataclass(frozen=True, slots=True)
class Opening:
    """What the texts of `pattern` are looked into as, where rules speak of their inside. `finders`: of the parts of a
    sentence."""

    into: Into
    pattern: Pattern
    finders: tuple[Finder, ...] = ()

    def read(self, leaf: Leaf) -> Document | None:
        """See `document.inside.read_inside`."""
        return read_inside(leaf, self.into, self.finders)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of one message in one phase. `form` of its body: xml, json, form, multipart, or empty for none;
    `tables`: by part of the message; `openings`: of the texts that have rules inside, for parts that have any."""

    name: str
    direction: Direction
    phase: Phase
    form: str
    tables: Mapping[str, Table[Rule]]
    rules: tuple[Rule, ...]
    openings: Mapping[str, Table[Opening]] = field(default_factory=dict)
    from_wechat: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "from_wechat", (self.direction, self.phase) in FROM_WECHAT)

    @property
    def declared_fields(self) -> frozenset[str]:
        """Names of the header fields that have rules."""
        return frozenset(str(segment) for segment in self.tables["header"].below)


UNCLASSIFIED = DataClass("unclassified", Action.ENCRYPT)
