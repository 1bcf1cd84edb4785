"""The compiled form of a policy: frozen, free of YAML, shared by production and all tools. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from proxy.crypto.data_key import Purpose
from proxy.document.inside import read_inside
from proxy.document.parts import Finder
from proxy.document.tree import Document, Into, Leaf
from proxy.policy.conditions import ALWAYS, ANYWHERE, Conditions, Situation
from proxy.policy.selector import Selector, Table
from proxy.policy.transform import BY_LOOKUP_KEY, NO_FORMS, Form, Forms
from proxy.source.problem import Place, Problem


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
    INBOUND = "inbound"
    OUTBOUND = "outbound"
    AGENT = "agent"


class Phase(enum.Enum):
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
        if form is Form.TOKEN:
            return Purpose.LOOKUP if self.deterministic else Purpose.DATA
        return Purpose.LOOKUP if form in BY_LOOKUP_KEY else None


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
    """What a text is looked into as, where rules speak of its inside. `finders`: of the parts of a sentence."""

    into: Into
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

    @property
    def declared_fields(self) -> frozenset[str]:
        """Names of the header fields that have rules."""
        return frozenset(str(segment) for segment in self.tables["header"].below)

    @property
    def from_wechat(self) -> bool:
        return (self.direction, self.phase) in FROM_WECHAT


# Long enough for the token of an id: one of an OpenID has 102 characters.
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]{1,512}", re.ASCII)


def is_segment(text: str) -> bool:
    """Whether `text` can stand between two slashes of a path: unreserved characters, no dot segment (RFC 3986)."""
    return bool(_SEGMENT.fullmatch(text)) and text not in (".", "..")


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """`/services/data/{version}/sobjects/Case`: literal segments and, as None, variable ones.

    `names`: of the variable segments, None for the literal ones. What stands in a variable is bounded to what ids are
    made of.
    """

    segments: tuple[str | None, ...]
    names: tuple[str | None, ...] = ()

    def matches(self, segments: tuple[str, ...]) -> bool:
        return len(segments) == len(self.segments) and all(
            want == have or (want is None and is_segment(have))
            for want, have in zip(self.segments, segments, strict=True)
        )

    def overlaps(self, other: PathTemplate) -> bool:
        return len(self.segments) == len(other.segments) and all(
            a is None or b is None or a == b for a, b in zip(self.segments, other.segments, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Call:
    """An API call of the outbound or agent direction and its two phases.

    `response`: for answers that say success; `errors`: for others, by their class (`4xx`, `5xx`).
    """

    direction: Direction
    method: str
    path: PathTemplate
    request: RuleSet
    response: RuleSet
    errors: Mapping[str, RuleSet] = field(default_factory=dict)
    when: Conditions = ALWAYS

    def rule_sets(self) -> dict[str, RuleSet]:
        """By phase, the answers that say no success by their class, too."""
        errors = {f"response {status}": rules for status, rules in self.errors.items()}
        return {"request": self.request, "response": self.response, **errors}

    def overlaps(self, other: Call) -> bool:
        """Whether one call could be both."""
        return (
            (self.direction, self.method) == (other.direction, other.method)
            and self.path.overlaps(other.path)
            and self.when.overlap(other.when)
        )

    def answer_rules(self, status: int) -> RuleSet | None:
        """The rules for an answer of that status; None if the policy says nothing of such answers."""
        return self.response if 200 <= status < 300 else self.errors.get(f"{status // 100}xx")


class Conditioned(NamedTuple):
    """Inbound rules that hold under conditions only. `kind`: message type of the push or reply."""

    when: Conditions
    kind: str
    rules: RuleSet


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that was compiled from one policy file and what it extends.

    `pushes` and `replies`: inbound rule sets by (form, message type), `conditioned` those under conditions; a type
    has either the one or the others. `fallback`: by form, for pushes of a type no message names, if the policy says
    `unmatched: encrypt`. `revision`: content hash of the sources. `variants`: the same policy with what it says
    otherwise for some owners.
    """

    name: str
    revision: str
    unmatched: Action
    pushes: Mapping[tuple[str, str], RuleSet]
    replies: Mapping[tuple[str, str], RuleSet]
    fallback: Mapping[str, RuleSet]
    calls: tuple[Call, ...]
    classes: Mapping[str, DataClass]
    tests: tuple[PolicyTest, ...] = ()
    warnings: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()
    """The file itself and all it extends, by the names it uses for them."""
    written: tuple[Rule, ...] = ()
    """Every rule of these files once, also of those that no message takes over."""
    conditioned: tuple[Conditioned, ...] = ()
    variants: tuple[Variant, ...] = ()

    @property
    def groups(self) -> frozenset[str]:
        """The class groups whose DEKs the policy can need, its variants included."""
        own = {"default"} | {item.group for item in self.classes.values()}
        return frozenset(own).union(*(variant.policy.groups for variant in self.variants))

    def for_owner(self, tenant: str, region: str) -> Policy:
        """The policy as it holds for data of that owner."""
        if not self.variants:
            return self
        where = Situation(tenant=tenant, region=region)
        return next((variant.policy for variant in self.variants if variant.when.admit(where)), self)

    def find_inbound(self, phase: Phase, form: str, kind: str, where: Situation = ANYWHERE) -> RuleSet | None:
        """The rules for a push or a passive reply of that form and type."""
        asked = phase is Phase.REQUEST
        if rules := (self.pushes if asked else self.replies).get((form, kind)):
            return rules
        for item in self.conditioned:
            rules = item.rules
            if (rules.phase, rules.form, item.kind) == (phase, form, kind) and item.when.admit(where):
                return rules
        return self.fallback.get(form) if asked else None

    def find_call(self, direction: Direction, method: str, path: str, where: Situation = ANYWHERE) -> Call | None:
        segments = tuple(path.split("/")[1:])
        for call in self.calls:
            if (
                call.direction is direction
                and call.method == method
                and call.path.matches(segments)
                and call.when.admit(where)
            ):
                return call
        return None

    def speaks_of(self, direction: Direction) -> bool:
        """Whether a message of that direction is known."""
        if direction is Direction.INBOUND:
            return bool(self.pushes or self.conditioned)
        return any(call.direction is direction for call in self.calls)

    def inbound_rules(self, phase: Phase) -> list[RuleSet]:
        """All there are for pushes or for passive replies."""
        plain, others = (self.pushes, self.fallback) if phase is Phase.REQUEST else (self.replies, {})
        conditioned = [item.rules for item in self.conditioned if item.rules.phase is phase]
        return [*plain.values(), *conditioned, *others.values()]


class Variant(NamedTuple):
    """The policy for the owners that `when` admits."""

    when: Conditions
    policy: Policy


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """A sample and what must become of some of its leaves. `protect`: its clear values become tokens first, where the
    policy wants tokens. `query` and `headers`: of a call's request; `status`: of its response."""

    place: Place
    sample: str
    direction: Direction
    phase: Phase
    expect: Mapping[str, str]
    method: str = ""
    path: str = ""
    role: str = ""
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    protect: bool = False
    status: int = 200
    account: str = ""
    tenant: str = ""
    region: str = ""
    content_type: str = ""


UNCLASSIFIED = DataClass("unclassified", Action.ENCRYPT)
