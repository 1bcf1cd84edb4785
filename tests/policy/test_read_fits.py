"""The keys `fits` and `max` of a rule: what is read, and what is told when they are wrong."""

import pytest

from proxy.policy.rules import Direction, Fits
from tests.policy.build import problems
from tests.policy.forms import CLASSES, HEAD, house

WORDS = "class: words, as: text"


def found(rule: str) -> list[tuple[str, str]]:
    return [(problem.code, problem.message) for problem in problems(f"{CLASSES}{HEAD}      json:$.a: {{{rule}}}\n")]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (WORDS, None),
        (f"{WORDS}, fits: crm:Contact.Phone", Fits("Contact", "Phone")),
        (f"{WORDS}, fits: crm:ns__Chat__c.ns__Text__c, max: 40", Fits("ns__Chat__c", "ns__Text__c", 40)),
        ("class: masked, max: 1, fits: crm:A.B", Fits("A", "B", 1)),
    ],
)
def test_a_rule_says_which_field_and_how_long(rule: str, expected: Fits | None) -> None:
    rules = house(f"json:$.a: {{{rule}}}").rules(Direction.AGENT, "POST", "/m")
    assert rules.rules[0].fits == expected


@pytest.mark.parametrize(
    "text",
    [
        *("Contact.Phone", "crm:Contact", "crm:.Phone", "crm:Contact.", "crm:A.B.C", "crm:A.B ", "CRM:A.B", "crm:A.1b"),
        *("crm:A.Télé", "crm:" + "A" * 81 + ".B", "''"),
    ],
)
def test_what_names_no_field_is_a_problem(text: str) -> None:
    assert found(f'{WORDS}, fits: "{text}"') == [("fits-malformed", '"fits" names no field')]


@pytest.mark.parametrize("value", ["7", "[crm:A.B]", "{crm: A.B}", "null"])
def test_fits_is_a_text(value: str) -> None:
    assert [code for code, _ in found(f"{WORDS}, fits: {value}")] == ["wrong-type"]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "'40'", "true", "1048577"])
def test_max_is_a_number_of_characters(value: str) -> None:
    assert [code for code, _ in found(f"{WORDS}, fits: crm:A.B, max: {value}")] == ["wrong-value"]


def test_max_alone_says_nothing() -> None:
    assert found(f"{WORDS}, max: 40") == [("missing-key", '"max" needs "fits", the field it is for')]


@pytest.mark.parametrize("rule", ["action: allow", "action: drop", "action: refuse"])
def test_fits_goes_with_what_writes_for_the_crm(rule: str) -> None:
    assert [code for code, _ in found(f"{rule}, fits: crm:A.B")] == ["fits-action"]


def test_fits_does_not_go_with_reveal() -> None:
    rule = f"      json:$.a: {{{WORDS}, reveal: {{'*': keep}}, fits: crm:A.B}}\n"
    text = CLASSES + HEAD.replace("request", "response") + rule
    assert [problem.code for problem in problems(text)] == ["fits-action"]
