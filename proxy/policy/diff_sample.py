"""Two policies on one message: which of its values change treatment. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from proxy.document.tree import Document, Into, Path
from proxy.policy.compiled import Policy
from proxy.policy.diff import Change, change_of
from proxy.policy.explain import Occasion, find_rules, head_of, pattern_text
from proxy.policy.meaning import NOT_SENT, REFUSED
from proxy.policy.plan import Treatment, draft_plan
from proxy.policy.rules import Rule
from proxy.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Sample:
    """A message to try both policies on: its body, if it has one, and when it comes by. `kind`: message type of a push
    or passive reply."""

    name: str
    document: Document | None
    kind: str
    occasion: Occasion


_Spot = tuple[str, Path, int]
"""Form, path and which of several values there. Of a path's variables the position: their names are the policy's."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    """`rule`: None for a text whose inside has rules instead."""

    selector: str
    rule: Rule | None


_Leaves = dict[_Spot, _Leaf]


def diff_sample(old: Policy, new: Policy, sample: Sample) -> tuple[Change, ...]:
    """What changes for each value of `sample`, in its order."""
    owner = sample.occasion.tenant, sample.occasion.region
    one, two = _leaves(old.for_owner(*owner), sample), _leaves(new.for_owner(*owner), sample)
    found: list[Change | None] = []
    if isinstance(one, str) or isinstance(two, str):
        before, after = (leaves if isinstance(leaves, str) else "known" for leaves in (one, two))
        found.append(Change(sample.name, "", before, after, isinstance(one, str)) if before != after else None)
    olds, news = ({} if isinstance(leaves, str) else leaves for leaves in (one, two))
    for spot, leaf in (olds | news).items():
        before_rule, after_rule = _rule(olds, spot), _rule(news, spot)
        if before_rule is not None and after_rule is not None:
            found.append(change_of(sample.name, leaf.selector, before_rule, after_rule))
    return tuple(change for change in found if change)


def _leaves(policy: Policy, sample: Sample) -> _Leaves | str:
    """The leaves of the sample with the rules of the policy's plan, or why the whole message is refused."""
    where = sample.occasion
    try:
        rules = find_rules(policy, where, sample.document.form if sample.document else "", sample.kind)
        head = head_of(policy, rules, where)
        plan = draft_plan(policy, rules, sample.document, where.query, where.role, head)
    except Refusal as refusal:
        return f"refused: {refusal.code}"
    found: _Leaves = {}
    count: Counter[tuple[str, Path]] = Counter()
    for document, steps in plan.steps_by_document():
        for index, step in enumerate(steps):
            path = (index,) if document.form == "path" else step.leaf.path
            rule = REFUSED if step.code == "field_unknown" else step.rule
            looked_into = step.treatment is Treatment.LOOKED_INTO
            text = pattern_text(document.form, step.leaf.path)
            found[document.form, path, count[document.form, path]] = _Leaf(text, None if looked_into else rule)
            count[document.form, path] += 1
    return found


def _rule(leaves: _Leaves, spot: _Spot) -> Rule | None:
    """What the policy says of the value; None if it speaks of its parts alone."""
    if spot in leaves:
        return leaves[spot].rule
    form, path, _ = spot
    if form == "header":
        return NOT_SENT
    for at in reversed([at for at, segment in enumerate(path) if isinstance(segment, Into)]):
        if (around := leaves.get((form, path[:at], 0))) is not None:
            return around.rule
    return REFUSED
