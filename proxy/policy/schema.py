"""The JSON Schema (draft 2020-12) of a policy file, for editors: completion, hover, first mistakes. Pure.

Made of the tables the reader uses. It says what shape a file has; whether names exist, selectors overlap or a token
could be opened by the wrong side, only `wxgate policy check` knows.
"""

from __future__ import annotations

from proxy.crypto.blind_index import LEAST_BITS, MOST_BITS, SPELLINGS
from proxy.crypto.dialling import PLANS
from proxy.crypto.ff1 import MAX_RADIX
from proxy.crypto.mask import KINDS
from proxy.crypto.normalise import STEPS
from proxy.document.parts import REST
from proxy.policy.compile import BODY_FORMS, METHODS
from proxy.policy.conditions import OF_CALLS, OF_OWNERS, OF_PUSHES, SHAPES
from proxy.policy.patterns import BUILT_IN, MAX_PATTERN
from proxy.policy.patterns import NAME as PATTERN_NAME
from proxy.policy.plan import Treatment
from proxy.policy.read_file import STATUS_CLASSES
from proxy.policy.read_forms import ALPHABETS
from proxy.policy.read_rules import NAME
from proxy.policy.read_tests import SITUATION
from proxy.policy.rules import Action, Direction, Phase
from proxy.policy.schema_parts import TEXT, Schema, choice, closed, described, ref, when
from proxy.policy.schema_patterns import (
    EVENT,
    FIELD,
    MESSAGE_TYPE,
    PATH_TEMPLATE,
    SELECTOR_FORMS,
    selectors,
    whole,
)
from proxy.policy.schema_rules import rule_definitions

_MOST_KEPT = 32  # characters a mask may keep at an end
_HEAD_FORMS = tuple(form for form in SELECTOR_FORMS if form not in BODY_FORMS)


_CLASH = {"allOf": [{"contains": {"const": "digits"}}, {"contains": {"const": "e164"}}]}
_NORMALISER: dict[str, Schema] = {
    "normalise": {"type": "array", "items": {"enum": list(STEPS)}, "uniqueItems": True, "not": _CLASH},
    "country": {"type": "string", "enum": list(PLANS)},
}
_COUNTRY = {"country": {"required": ["normalise"], "properties": {"normalise": {"contains": {"const": "e164"}}}}}


def policy_schema() -> dict[str, object]:
    """The schema as JSON values."""
    top: dict[str, Schema] = {
        "version": {"const": 1},
        "extends": {"type": "array", "items": TEXT},
        "defaults": _defaults(),
        "classes": {"type": "object", "additionalProperties": ref("class")},
        "common": {"type": "array", "items": ref("common")},
        "messages": {"type": "array", "items": ref("message")},
        "patterns": _patterns(),
        "variants": {"type": "array", "items": ref("variant")},
        "tests": {"type": "array", "items": ref("test")},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "wxgate policy",
        "description": "What happens to every value of every message between WeChat, the CRM and agents.",
        **closed(top, required=("version",)),
        "$defs": {
            "class": _class(),
            "common": _common(),
            "message": _message(),
            "variant": _variant(),
            "test": _test(),
            **rule_definitions(),
        },
    }


def _defaults() -> Schema:
    return closed({"unmatched": choice((Action.REFUSE, Action.ENCRYPT))})


def _patterns() -> Schema:
    free = f"^(?!(?:{'|'.join((REST, *BUILT_IN))})$){PATTERN_NAME}$"
    text = {"type": "string", "minLength": 1, "maxLength": MAX_PATTERN}
    return {"type": "object", "propertyNames": {"pattern": free}, "additionalProperties": text}


def _variant() -> Schema:
    classes = {"type": "object", "additionalProperties": ref("class")}
    when_ = closed(_conditions(OF_OWNERS), minProperties=1)
    return closed({"when": when_, "defaults": _defaults(), "classes": classes}, required=("when",))


def _conditions(names: tuple[str, ...]) -> dict[str, Schema]:
    """Each a text or a list of texts."""
    found: dict[str, Schema] = {}
    for name in names:
        one = {"type": "string", "pattern": whole(SHAPES[name])}
        found[name] = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    return found


def _kept() -> Schema:
    return {"type": "integer", "minimum": 0, "maximum": _MOST_KEPT}


def _class() -> Schema:
    return closed(
        {
            "action": choice(Action),
            "deterministic": {"type": "boolean"},
            "mask": _mask(),
            "index": _index(),
            **_NORMALISER,
            "alphabet": _alphabet(),
            "text": {"type": "string", "pattern": r"^[^\x00-\x1f\x7f]{1,64}$"},
            "group": {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,31}$", "default": "default"},
        },
        required=("action",),
        allOf=_demands(),
        dependentSchemas=_COUNTRY,
    )


def _demands() -> list[Schema]:
    """What an action cannot do without, and what goes with one action only."""
    needs = {Action.MASK: "mask", Action.REDACT: "text", Action.FORMAT_PRESERVING: "alphabet"}
    always = {"properties": {"deterministic": {"const": True}}, "required": ["deterministic"]}
    return [
        *(when({**_is(action), "required": ["action"]}, {"required": [key]}) for action, key in needs.items()),
        when(always, _is(Action.ENCRYPT)),
    ]


def _is(action: Action) -> dict[str, object]:
    return {"properties": {"action": {"const": action.value}}}


def _mask() -> Schema:
    kind = described("mask.kind", {"enum": list(KINDS)})
    none_kept = {"properties": {"keep_first": {"const": 0}, "keep_last": {"const": 0}}}
    return closed({"kind": kind, "keep_first": _kept(), "keep_last": _kept()}, dependentSchemas={"kind": none_kept})


def _index() -> Schema:
    bits = {"type": "integer", "minimum": LEAST_BITS, "maximum": MOST_BITS, "multipleOf": 8}
    spelling = {"enum": list(SPELLINGS)}
    return closed({"bits": bits, "spelling": spelling, **_NORMALISER}, dependentSchemas=_COUNTRY)


def _alphabet() -> Schema:
    seen = {"minLength": 2, "maxLength": MAX_RADIX, "pattern": r"^[^\x00-\x1f\x7f]*$"}
    return {"type": "string", **seen, "examples": list(ALPHABETS)}


def _common() -> Schema:
    phases: dict[str, Schema] = {phase.value: {"type": "object"} for phase in Phase}
    sides = [_for(side, {"properties": {phase.value: _rules_of(side, phase) for phase in Phase}}) for side in Direction]
    return closed({"direction": choice(Direction), **phases}, required=("direction",), allOf=sides)


def _message() -> Schema:
    return closed(
        {
            "name": {"type": "string", "pattern": whole(NAME)},
            "direction": choice(Direction),
            "match": {"type": "object"},
            **{phase.value: {"type": "object"} for phase in Phase},
            "errors": {"type": "object"},
        },
        required=("name", "direction", "match"),
        allOf=[_inbound(), *(_call(side) for side in (Direction.OUTBOUND, Direction.AGENT))],
    )


def _for(side: Direction, then: dict[str, object]) -> Schema:
    return when({"properties": {"direction": {"const": side.value}}, "required": ["direction"]}, then)


def _inbound() -> Schema:
    kind: Schema = {"type": "string", "pattern": MESSAGE_TYPE}
    event: dict[str, Schema] = {
        "type": {"type": "string", "pattern": EVENT},
        "event": {"type": "string", "minLength": 1},
    }
    asked = _conditions(OF_PUSHES)
    matches = [
        closed({"type": kind, **asked}, ("type",)),
        closed({**event, **asked}, ("type", "event")),
        closed({"reply": kind, **asked}, ("reply",)),
    ]
    is_reply = {"properties": {"match": {"type": "object", "required": ["reply"]}}, "required": ["match"]}
    phases = when(is_reply, _only(Phase.RESPONSE, Phase.REQUEST), **_only(Phase.REQUEST, Phase.RESPONSE))
    return _for(Direction.INBOUND, {"properties": {"match": {"anyOf": matches}, "errors": False}, "allOf": [phases]})


def _only(phase: Phase, other: Phase) -> dict[str, object]:
    own = {"allOf": [_rules_of(Direction.INBOUND, phase), _one_body(), {"minProperties": 1}]}
    return {"required": [phase.value], "properties": {phase.value: own, other.value: False}}


def _call(side: Direction) -> Schema:
    path: Schema = {"type": "string", "maxLength": 512, "pattern": PATH_TEMPLATE}
    call: dict[str, Schema] = {"method": {"enum": list(METHODS)}, "path": path}
    match = closed({**call, **_conditions(OF_CALLS)}, ("method", "path"))
    rules = {phase: {"allOf": [_rules_of(side, phase), _one_body()]} for phase in Phase}
    errors = closed(dict.fromkeys(STATUS_CLASSES, rules[Phase.RESPONSE]))
    phases = {phase.value: schema for phase, schema in rules.items()}
    return _for(side, {"properties": {"match": match, **phases, "errors": errors}})


def _one_body() -> Schema:
    heads = "|".join(_HEAD_FORMS)
    return {"anyOf": [{"propertyNames": {"pattern": f"^(?:{form}|{heads}):"}} for form in sorted(BODY_FORMS)]}


def _rules_of(side: Direction, phase: Phase) -> Schema:
    return ref(f"rules-{side.value}-{phase.value}")


def _test() -> Schema:
    expect: Schema = {
        "type": "object",
        "propertyNames": {"pattern": selectors(SELECTOR_FORMS)},
        "additionalProperties": choice(Treatment),
    }
    members: dict[str, Schema] = {
        "sample": TEXT,
        "direction": choice(Direction),
        "phase": choice(Phase),
        "method": TEXT,
        "path": TEXT,
        "role": TEXT,
        "query": TEXT,
        "headers": _headers(),
        "status": {"type": "integer", "minimum": 200, "maximum": 599},
        "protect": {"type": "boolean"},
        **{name: {"type": "string", "pattern": whole(SHAPES[name])} for name in SITUATION},
        "expect": expect,
    }
    return closed(members, required=("sample", "expect"))


def _headers() -> Schema:
    names = {"pattern": FIELD}
    return {"type": "object", "propertyNames": names, "additionalProperties": {"not": {"type": ["object", "array"]}}}
