"""What a rule may look like where it stands."""

import pytest
from jsonschema import Draft202012Validator

from proxy.policy.rules import REVEALING, Direction, Phase
from proxy.policy.schema_rules import rule_definitions

DEFINITIONS = rule_definitions()
PHASES = [(side, phase) for side in Direction for phase in Phase]


def valid(side: Direction, phase: Phase, selector: str, rule: object) -> bool:
    schema = {"$ref": f"#/$defs/rules-{side.value}-{phase.value}", "$defs": DEFINITIONS}
    return bool(Draft202012Validator(schema).is_valid({selector: rule}))


@pytest.mark.parametrize(("side", "phase"), PHASES)
def test_a_rule_reveals_where_tokens_are_opened_and_writes_elsewhere(side: Direction, phase: Phase) -> None:
    revealing = (side, phase) in REVEALING
    assert valid(side, phase, "json:$.a", {"class": "c", "as": "a", "reveal": {"*": "plain"}}) == revealing
    assert valid(side, phase, "json:$.a", {"class": "c", "as": "a", "write": {"b": "mask"}}) != revealing
    assert valid(side, phase, "json:$.a", {"class": "c", "as": "a", "bind": ["b"]})


@pytest.mark.parametrize(("side", "phase"), PHASES)
def test_a_head_is_of_requests_that_go_to_an_api(side: Direction, phase: Phase) -> None:
    head = phase is Phase.REQUEST and side is not Direction.INBOUND
    assert [valid(side, phase, name, "refuse") for name in ("query:a", "path:a", "header:a")] == [head] * 3


@pytest.mark.parametrize(("side", "phase"), PHASES)
def test_allow_is_said_of_one_field_at_a_time(side: Direction, phase: Phase) -> None:
    for selector, one in (("json:$.a", True), ("json:$['*']", True), ("json:$[*]", False), ("xml:/*/a", False)):
        assert valid(side, phase, selector, "allow") == one
        assert valid(side, phase, selector, {"action": "allow"}) == one
        assert valid(side, phase, selector, "drop")


def test_a_plain_word_takes_nothing_that_goes_with_a_class() -> None:
    for extra in (
        {"bind": ["b"]},
        {"write": {"a": "token"}},
        {"on_error": "redact"},
        {"fits": "crm:A.b"},
        {"class": "c"},
    ):
        assert not valid(Direction.INBOUND, Phase.REQUEST, "json:$.a", {"action": "allow", **extra})
    assert valid(Direction.INBOUND, Phase.REQUEST, "json:$.a", {"action": "allow", "as": "a", "because": "x"})
