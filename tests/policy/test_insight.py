"""Which texts are looked into; what comes of it is in test_inside.py and tests/attacks/test_insides.py."""

import pytest

from proxy.document.tree import Into, Kind, Leaf
from proxy.policy.insight import Insight
from proxy.policy.rules import Direction
from tests.policy.build import House
from tests.policy.test_inside import SECRET, house


def insight(it: House) -> Insight:
    return Insight(it.rules(Direction.AGENT, "POST", "/m"))


def leaf(text: str, *path: str | int | Into) -> Leaf:
    return Leaf(path, text, Kind.STRING, 0, 0, (0, 0))


@pytest.mark.parametrize(
    ("text", "seen"), [('{"x": 1}', True), ('{"y": 1}', False), ('{"x": 1, "y": 1}', False), ("words", False)]
)
def test_a_text_is_seen_if_all_of_it_has_rules(text: str, seen: bool) -> None:
    found = insight(house(f"'json:$.a > json:$.x': {SECRET}")).of(leaf(text, "a"), "body")
    assert (found is not None) is seen


def test_of_another_field_or_part_nothing_is_seen() -> None:
    it = insight(house(f"'json:$.a > json:$.x': {SECRET}"))
    assert it.of(leaf('{"x": 1}', "b"), "body") is None
    assert it.of(leaf('{"x": 1}', "a"), "query") is None


def test_a_text_is_read_once() -> None:
    it, text = insight(house(f"'json:$.a > json:$.x': {SECRET}")), leaf('{"x": 1}', "a")
    assert it.of(text, "body") is it.of(text, "body")


def test_the_rule_of_the_very_field_goes_before_a_star() -> None:
    it = insight(house(f"json:$.a: refuse\n'json:$.* > json:$.x': {SECRET}\njson:$.*: refuse"))
    assert it.of(leaf('{"x": 1}', "a"), "body") is None
    assert it.of(leaf('{"x": 1}', "b"), "body") is not None
