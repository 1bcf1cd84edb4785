"""What a policy that is not in force yet would have decided otherwise: on real messages, without a value. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from proxy.document.tree import Path
from proxy.policy.compiled import Policy
from proxy.policy.explain import Occasion, find_rules, head_of
from proxy.policy.plan import Plan, Step, draft_plan
from proxy.refusal import Refusal


class Difference(NamedTuple):
    """`selector`: of the rule that decides now, or else of the next one; the author's words, never a caller's.
    `now` and `then`: treatment, class and datum."""

    selector: str
    now: str
    then: str


def compare(plan: Plan, following: Policy, occasion: Occasion, kind: str) -> tuple[Difference, ...]:
    """Where `following` decides otherwise than `plan`, each difference once. `kind`: message type of a push or reply.

    A message that it would refuse as a whole is one difference. Raises nothing but what is a fault.
    """
    body = plan.body
    try:
        rules = find_rules(following, occasion, body.form if body else "", kind)
        head = head_of(following, rules, occasion)
        then = draft_plan(following, rules, body, occasion.query, occasion.role, head)
    except Refusal as refusal:
        return (Difference("the message", "decided", f"refused: {refusal.code}"),)
    one, two = _placed(plan), _placed(then)
    found = [_difference(place[0], one.get(place), two.get(place)) for place in one | two]
    return tuple(dict.fromkeys(item for item in found if item.now != item.then))


def _placed(plan: Plan) -> dict[tuple[str, Path, int], Step]:
    """The steps by form, path and which of several leaves there: one of the two may look into a text, the other not."""
    placed: dict[tuple[str, Path, int], Step] = {}
    count: Counter[tuple[str, Path]] = Counter()
    for document, steps in plan.steps_by_document():
        for index, step in enumerate(steps):
            # Variables of a path by where they stand: what they are called is nobody's business.
            place = document.form, (index,) if document.form == "path" else step.leaf.path
            placed[*place, count[place]] = step
            count[place] += 1
    return placed


def _difference(form: str, now: Step | None, then: Step | None) -> Difference:
    rules = [step.rule for step in (now, then) if step]
    selector = next((rule.selector.text for rule in rules if rule.selector), "unmatched")
    return Difference(selector, _words(form, now), _words(form, then))


def _words(form: str, step: Step | None) -> str:
    if step is None:
        return "not sent" if form == "header" else "not looked into"
    rule = step.rule
    parts = [step.treatment.value, rule.data_class.name if rule.data_class else "", rule.datum, *rule.binds]
    forms = [f"{name}={form.value}" for name, form in rule.write]
    return " ".join(part for part in (*parts, *forms, step.code) if part)
