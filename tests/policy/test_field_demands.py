"""What a field takes: types, unique fields, search, comparison without case. One row for each rule of the table."""

import pytest

from proxy.policy.fits import check_fits
from tests.policy.build import compiled
from tests.policy.forms import HEAD, house
from tests.policy.metadata import described, objects

TOKEN, EQUAL = "{class: words, as: a", "{class: id, as: a"
MASK, REDACTION = "{class: masked", "{class: redacted"
HASH, INDEX, SHORT = "{class: hashed, as: a", "{class: indexed, as: a", "{class: phone, as: a, write: {F: index}"
KEPT = "{class: preserved, as: a"
WARNING = "warning "


def judged(rule: str, type_: str = "string", length: int = 255, **changes: object) -> list[str]:
    """Codes, with `warning` before those that are one."""
    policy = house(f"json:$.f: {rule}, max: 10, fits: crm:Contact.F}}\njson:$.b: {{class: id, as: b}}").policy
    found = check_fits(policy, objects(described("F", type_, length, **changes))).problems
    return [f"{WARNING if problem.warning else ''}{problem.code}" for problem in found]


@pytest.mark.parametrize(
    "type_",
    [
        *("boolean", "int", "long", "double", "currency", "percent", "date", "datetime", "time", "id", "reference"),
        *("picklist", "multipicklist", "combobox", "base64", "address", "location", "anytype", "new"),
    ],
)
def test_numbers_dates_choices_and_what_is_unknown_take_nothing(type_: str) -> None:
    for rule in (TOKEN, EQUAL, MASK, REDACTION, HASH, INDEX, KEPT):
        assert judged(rule, type_) == ["fits-type"]


@pytest.mark.parametrize(
    ("type_", "taken"),
    [
        ("string", [EQUAL, MASK, REDACTION, HASH, INDEX, KEPT]),
        ("textarea", [EQUAL, MASK, REDACTION, HASH, INDEX, KEPT]),
        ("phone", [MASK, REDACTION, KEPT]),
        ("url", [MASK, REDACTION]),
        ("encryptedstring", [MASK, REDACTION]),
        ("email", []),
    ],
)
def test_a_type_takes_what_comes_back_as_it_was_stored(type_: str, taken: list[str]) -> None:
    for rule in (EQUAL, MASK, REDACTION, HASH, INDEX, KEPT):
        assert judged(rule, type_) == ([] if rule in taken else ["fits-type"]), rule


def test_an_email_field_takes_what_looks_like_an_address() -> None:
    text = (
        "version: 1\nclasses:\n"
        "  email: {action: encrypt, mask: {kind: email}, text: hidden@example.invalid}\n"
        "  other: {action: encrypt, mask: {kind: name}, text: hidden}\n"
    )
    for name, codes in (("email", []), ("other", ["fits-type"] * 2)):
        written = f"{{class: {name}, as: a, write: {{F: mask, G: redaction}}, fits: crm:Contact.F}}"
        policy = compiled(f"{text}messages:\n{HEAD}      json:$.f: {written}\n")
        fields = objects(described("F", "email", 80), described("G", "email", 80))
        assert [problem.code for problem in check_fits(policy, fields).problems] == codes


def test_a_field_that_cannot_be_written_is_told() -> None:
    assert judged(EQUAL, calculated=True) == ["fits-read-only"]


@pytest.mark.parametrize("flag", ["unique", "externalId"])
@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        (TOKEN, ["fits-unique"]),
        (MASK, ["fits-unique"]),
        (REDACTION, ["fits-unique"]),
        (SHORT, ["fits-unique"]),
        (EQUAL, []),
        (HASH, []),
        (INDEX, []),
        (KEPT, []),
        (EQUAL + ", bind: [b]", ["warning fits-unique"]),
        (INDEX.replace("indexed", "phone") + ", bind: [b], write: {F: hash}", []),
    ],
)
def test_a_unique_field_takes_what_is_equal_where_the_values_are(rule: str, codes: list[str], flag: str) -> None:
    assert judged(rule, **{flag: True}) == codes


def test_whoever_compares_without_case_may_not_be_given_both_cases() -> None:
    text = "version: 1\nclasses:\n  c: {action: format_preserving, alphabet: ABCDEFGHIJabcdefghij}\nmessages:\n"
    policy = compiled(f"{text}{HEAD}      json:$.f: {{class: c, as: a, fits: crm:Contact.F}}\n")
    for changes, codes in (
        ({"unique": True}, ["fits-unique"]),
        ({"unique": True, "caseSensitive": True}, []),
        ({}, ["fits-search"]),
        ({"caseSensitive": True}, []),
    ):
        found = check_fits(policy, objects(described("F", **changes))).problems
        assert [problem.code for problem in found] == codes


@pytest.mark.parametrize(
    ("rule", "filterable", "codes"),
    [
        (TOKEN, True, ["warning fits-search"]),
        (TOKEN, False, []),
        (TOKEN.replace("words", "phone") + ", write: {F: token, G: index}", True, ["fits-unknown"]),
        (EQUAL, True, []),
        (EQUAL, False, ["warning fits-search"]),
        (INDEX, True, []),
        (INDEX, False, ["fits-search"]),
        (HASH, False, []),
        (MASK, True, []),
    ],
)
def test_search_and_what_is_written_go_together(rule: str, filterable: bool, codes: list[str]) -> None:
    assert judged(rule, filterable=filterable) == codes


def test_the_line_says_that_tokens_are_compared_without_case() -> None:
    policy = house("json:$.f: {class: words, as: a, max: 10, fits: crm:Contact.F}").policy
    for sensitive in (False, True):
        fields = objects(described("F", unique=True, caseSensitive=sensitive))
        (problem,) = check_fits(policy, fields).problems
        assert ("compares them without case" in problem.message) is not sensitive
