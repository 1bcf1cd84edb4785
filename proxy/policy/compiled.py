"""A whole policy, compiled: frozen, free of YAML, shared by production and all tools. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.policy.conditions import ALWAYS, ANYWHERE, Conditions, Situation
from proxy.policy.path_template import PathTemplate
from proxy.policy.rules import Action, DataClass, Direction, Phase, Rule, RuleSet
from proxy.source.problem import Place, Problem


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

    `pushes` and `replies`: inbound rule sets by (form, message type), `conditioned` those under conditions, by phase,
    form and type; a type has either the one or the others. `fallback`: by form, for pushes of a type no message names,
    if the policy says `unmatched: encrypt`. `revision`: content hash of the sources. `variants`: the same policy with
    what it says otherwise for some owners.
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
    conditioned: Mapping[tuple[Phase, str, str], tuple[Conditioned, ...]] = field(default_factory=dict)
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
        for item in self.conditioned.get((phase, form, kind), ()):
            if item.when.admit(where):
                return item.rules
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
            return bool(self.pushes) or any(phase is Phase.REQUEST for phase, _, _ in self.conditioned)
        return any(call.direction is direction for call in self.calls)

    def all_conditioned(self) -> list[Conditioned]:
        return [item for items in self.conditioned.values() for item in items]

    def inbound_rules(self, phase: Phase) -> list[RuleSet]:
        """All there are for pushes or for passive replies."""
        plain, others = (self.pushes, self.fallback) if phase is Phase.REQUEST else (self.replies, {})
        conditioned = [item.rules for item in self.all_conditioned() if item.rules.phase is phase]
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
