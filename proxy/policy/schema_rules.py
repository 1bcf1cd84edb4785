"""The part of the JSON Schema that says what rules look like, phase by phase. Pure."""

from __future__ import annotations

from proxy.policy.compile import BODY_FORMS
from proxy.policy.read_rules import NAME
from proxy.policy.rules import FORM_OF, REVEALING, Action, Direction, OnError, Phase, Reveal
from proxy.policy.schema_parts import TEXT, Schema, choice, closed, ref
from proxy.policy.schema_patterns import SELECTOR_FORMS, WILDCARD, selectors, whole
from proxy.policy.schema_words import KEYS
from proxy.policy.transform import Form

_PLAIN_ACTIONS = tuple(action for action in Action if action not in FORM_OF)


def rule_definitions() -> dict[str, Schema]:
    """Every kind of rule by its name under `$defs`, and the rules of every phase of every direction."""
    kinds = [(revealing, without) for revealing in (False, True) for without in (None, Action.ALLOW, Action.DROP)]
    found: dict[str, Schema] = {
        f"rules-{side.value}-{phase.value}": _rules(side, phase) for side in Direction for phase in Phase
    }
    return found | {_rule_name(*kind): _rule(*kind) for kind in kinds}


def _rules(side: Direction, phase: Phase) -> dict[str, object]:
    """Rules of one phase, by selector. A request to an API has a head, too."""
    has_head = phase is Phase.REQUEST and side is not Direction.INBOUND
    forms = [form for form in SELECTOR_FORMS if form in BODY_FORMS or has_head]
    revealing = (side, phase) in REVEALING
    return {
        "title": f"{side.value} {phase.value}",
        "description": KEYS["rules"],
        "type": "object",
        "propertyNames": {"pattern": selectors(forms)},
        "patternProperties": {
            WILDCARD: ref(_rule_name(revealing, Action.ALLOW)),
            "^path:": ref(_rule_name(revealing, Action.DROP)),
        },
        "additionalProperties": ref(_rule_name(revealing, None)),
    }


def _rule_name(revealing: bool, without: Action | None) -> str:
    return ("revealing-rule" if revealing else "rule") + (f"-not-{without.value}" if without else "")


def _rule(revealing: bool, without: Action | None) -> dict[str, object]:
    """A rule. `without`: the word that is not for it: `allow` under a `*`, `drop` in a path."""
    words = choice(action for action in _PLAIN_ACTIONS if action is not without)
    failures = (item for item in OnError if without is not Action.DROP or item is not OnError.DROP)
    members: dict[str, Schema] = {
        "action": words,
        "class": TEXT,
        "as": {"type": "string", "pattern": whole(NAME)},
        "bind": {"type": "array", "items": TEXT},
        "on_error": choice(failures),
        "because": TEXT,
        "fits": {"type": "string", "pattern": r"^crm:[A-Za-z][A-Za-z0-9_]{0,79}\.[A-Za-z][A-Za-z0-9_]{0,79}$"},
        "max": {"type": "integer", "minimum": 1, "maximum": 1 << 20},
    }
    if revealing:
        members["reveal"] = {"type": "object", "additionalProperties": choice(Reveal)}
    elif without is not Action.DROP:
        members["write"] = _write()
    nothing = {"bind": {"maxItems": 0}, "reveal": False, "write": {"maxProperties": 0}, "fits": False}
    plain = {"properties": {**nothing, "on_error": {"const": OnError.REFUSE.value}}}
    long = closed(
        members,
        oneOf=[{"required": ["action"]}, {"required": ["class"]}],
        dependentRequired={"max": ["fits"]},
        dependentSchemas={"action": plain, "reveal": {"properties": {"fits": False}}},
    )
    return {"title": "rule", "description": KEYS["rule"], "anyOf": [words, long]}


def _write() -> dict[str, object]:
    names = {"pattern": whole(NAME.replace("A-Za-z]", "A-Za-z_]", 1))}
    return {"type": "object", "propertyNames": names, "additionalProperties": choice(Form)}
