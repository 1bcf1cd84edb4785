"""What a policy that is not in force yet would have decided otherwise: on real messages, without a value. Pure."""

from __future__ import annotations

from typing import NamedTuple

from proxy.policy.explain import Occasion, find_rules
from proxy.policy.plan import Plan, Step, draft_plan
from proxy.policy.rules import Policy
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
        head = tuple(item for item in plan.documents if item.form in ("path", "header"))
        then = draft_plan(following, rules, body, occasion.query, occasion.role, head)
    except Refusal as refusal:
        return (Difference("the message", "decided", f"refused: {refusal.code}"),)
    pairs = zip(plan.steps, then.steps, strict=True)
    found = [Difference(_selector(now, after), _words(now), _words(after)) for now, after in pairs]
    return tuple(dict.fromkeys(item for item in found if item.now != item.then))


def _selector(now: Step, then: Step) -> str:
    selector = now.rule.selector or then.rule.selector
    return selector.text if selector else "unmatched"


def _words(step: Step) -> str:
    rule = step.rule
    parts = [step.treatment.value, rule.data_class.name if rule.data_class else "", rule.datum, *rule.binds]
    forms = [f"{name}={form.value}" for name, form in rule.write]
    return " ".join(part for part in (*parts, *forms, step.code) if part)
