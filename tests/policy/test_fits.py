"""Rules against fields: lengths at their limits, whose word the clear length is, companions, and where it is told."""

import pytest

from proxy.policy.fits import Fitting, check_fits
from tests.policy.build import compiled, place_of
from tests.policy.forms import CLASSES, HEAD, agent, house
from tests.policy.metadata import described, objects

TOKEN = "json:$.f: {class: words, as: a, max: MAX, fits: crm:Contact.F}"


def fitting(rules: str, *fields: dict[str, object]) -> Fitting:
    return check_fits(house(rules).policy, objects(*fields))


def codes(found: Fitting) -> list[str]:
    return [problem.code for problem in found.problems if not problem.warning]


@pytest.mark.parametrize("length", [80, 255, 32768, 131072])
@pytest.mark.parametrize("data_class", ["words", "id"])
def test_a_rule_is_refused_exactly_where_its_longest_token_no_longer_fits(length: int, data_class: str) -> None:
    field = described("F", length=length)
    rule = TOKEN.replace("words", data_class)
    (fit,) = fitting(rule.replace("MAX", "1"), field).fits
    most = fit.chinese or 1
    for characters in (most, most + 1) if fit.chinese else (most,):
        found = fitting(rule.replace("MAX", str(characters)), field)
        it = house(f"json:$.f: {{class: {data_class}, as: a}}")
        measured = len(agent(it, f'{{"f":"{"汉" * characters}"}}')) - len('{"f":""}')
        assert found.fits[0].longest == measured
        assert codes(found) == ([] if measured <= length else ["fits-length"])


def test_no_token_at_all_fits_a_field_of_40() -> None:
    found = fitting(TOKEN.replace("MAX", "1"), described("F", length=40))
    (problem,) = [problem for problem in found.problems if not problem.warning]
    assert problem.code == "fits-length"
    assert "Contact.F holds 40 characters; the randomised token takes up to 83" in problem.message
    assert problem.fix == "not even the empty value fits; take a field of 83 characters"


def test_without_max_the_value_is_as_long_as_its_field_allows_and_the_line_says_so() -> None:
    found = fitting("json:$.f: {class: words, as: a, fits: crm:Contact.F}", described("F", filterable=False))
    (problem,) = found.problems
    assert problem.message == (
        "Contact.F holds 255 characters; the randomised token takes up to 1099 for values up to 255 characters, "
        "765 bytes (the length of Contact.F)"
    )
    assert problem.fix == (
        "what fits: 132 ASCII or 44 Chinese characters; take a field of 1099 characters, "
        'or write "max: 44" if no value is longer'
    )


def test_max_goes_before_the_length_of_the_field() -> None:
    found = fitting(TOKEN.replace("MAX", "44"), described("F", filterable=False))
    assert (found.problems, found.fits[0].longest) == ((), 255)
    assert found.fits[0].clear == "values up to 44 characters, 132 bytes (the rule's max)"


def test_bytes_count_too() -> None:
    """A field that says it has fewer bytes than characters holds fewer of them."""
    field = described("F", filterable=False, byteLength=254)
    assert codes(fitting(TOKEN.replace("MAX", "44"), field)) == ["fits-length"]
    assert codes(fitting(TOKEN.replace("MAX", "43"), field)) == []
    mask = "json:$.f: {class: masked, max: 10, fits: crm:Contact.F}"
    (problem,) = fitting(mask, described("F", length=10, byteLength=20)).problems
    assert problem.fix == "take a field of more bytes"


def test_companions_are_judged_in_their_own_fields_for_values_of_the_source() -> None:
    rule = "json:$.p: {class: phone, as: a, write: {Phone: mask, Enc: token, Ix: index}, fits: crm:Contact.Phone}"
    fields = [described("Phone", "phone", 40), described("Enc"), described("Ix", length=13, externalId=True)]
    found = fitting(rule, *fields)
    assert [(fit.target, fit.form, fit.longest) for fit in found.fits] == [
        ("Contact.Phone", "mask", 40),
        ("Contact.Enc", "randomised token", 239),
        ("Contact.Ix", "index of 64 bits", 13),
    ]
    assert codes(found) == ["fits-unique"]  # 64 bits in an external id
    short = [fields[0], described("Enc", length=238), described("Ix", length=12)]
    assert codes(fitting(rule, *short)) == ["fits-length", "fits-length"]


def test_what_stands_for_a_value_that_failed_must_fit_as_well() -> None:
    rule = "json:$.p: {class: phone, as: a, on_error: redact, write: {Ix: index}, fits: crm:Contact.F}"
    assert codes(fitting(rule, described("F", "picklist"), described("Ix"))) == ["fits-type"]
    assert codes(fitting(rule, described("F", length=7), described("Ix"))) == ["fits-length"]
    assert codes(fitting(rule, described("F", length=8), described("Ix"))) == []


def test_a_value_from_a_field_without_length_needs_max() -> None:
    fields = (described("Budget", "currency", 0), described("Enc", filterable=False))
    rule = "json:$.b: {class: words, as: a, write: {Enc: token}, fits: crm:Contact.Budget}"
    found = fitting(rule, *fields)
    assert (codes(found), found.fits[0].longest) == (["fits-max"], None)
    assert codes(fitting(rule.replace("fits", "max: 20, fits"), *fields)) == []
    assert codes(fitting("json:$.b: {class: words, as: a, fits: crm:Contact.Budget}", *fields)) == ["fits-type"]


@pytest.mark.parametrize(
    ("target", "message", "fix"),
    [
        ("Kontact.F", 'the metadata has no object "Kontact"', 'did you mean "Contact"?'),
        ("Contact.FF", 'the object "Contact" has no field "FF"', 'did you mean "F"?'),
        ("contact.F", 'the metadata has no object "contact"', 'did you mean "Contact"?'),
    ],
)
def test_a_name_the_crm_does_not_have_is_a_problem(target: str, message: str, fix: str) -> None:
    found = fitting(TOKEN.replace("MAX", "1").replace("Contact.F", target), described("F"))
    (problem,) = found.problems
    assert (problem.code, problem.message, problem.fix) == ("fits-unknown", message, fix)


def test_without_any_object_the_fix_is_to_give_one() -> None:
    (problem,) = check_fits(house(TOKEN.replace("MAX", "1")).policy, {}).problems
    assert problem.fix == "give its describe result too"


def test_a_problem_has_the_line_of_its_rule() -> None:
    text = f"{CLASSES}{HEAD}      json:$.a: allow\n      {TOKEN.replace('MAX', '45')}\n"
    (problem,) = check_fits(compiled(text), objects(described("F", filterable=False))).problems
    assert (problem.place.line, problem.place.column) == place_of(text, "json:$.f")


def test_a_rule_that_messages_inherit_is_told_once_and_silent_ones_are_counted() -> None:
    rules = "json:$.f: {class: words, as: a, max: 45, fits: crm:Contact.F}\n      json:$.g: {class: id, as: b}"
    calls = "".join(
        f"  - {{name: m{n}, direction: agent, match: {{method: POST, path: /{n}}}, "
        "request: {json:$.h: allow}, response: {json:$.h: {class: id, as: b, reveal: {a: keep}}}}\n"
        for n in range(3)
    )
    text = f"{CLASSES}{calls}common:\n  - direction: agent\n    request:\n      {rules}\n"
    found = check_fits(compiled(text), objects(described("F", filterable=False)))
    assert (len(found.fits), codes(found), found.silent) == (1, ["fits-length"], 1)


@pytest.mark.parametrize(
    "message",
    [
        "{name: m, direction: inbound, match: {type: text}, request: {xml:/xml/C: RULE}}",
        "{name: m, direction: inbound, match: {reply: text}, response: {xml:/xml/C: RULE}}",
        "{name: m, direction: agent, match: {method: POST, path: /m}, request: {form:f: RULE}}",
        "{name: m, direction: outbound, match: {method: GET, path: /m}, response: {json:$.f: RULE}}",
        "{name: m, direction: outbound, match: {method: GET, path: /m}, errors: {4xx: {json:$.f: RULE}}}",
    ],
)
def test_rules_of_every_direction_and_phase_are_judged(message: str) -> None:
    rule = "{class: words, as: a, max: 45, fits: crm:Contact.F}"
    policy = compiled(f"{CLASSES}  - {message.replace('RULE', rule)}\n")
    assert codes(check_fits(policy, objects(described("F")))) == ["fits-length"]


def test_rules_for_pushes_of_unknown_types_are_judged() -> None:
    text = (
        f"{CLASSES.removesuffix('messages:\n')}defaults: {{unmatched: encrypt}}\ncommon:\n  - direction: inbound\n"
        "    request: {xml:/xml/C: {class: words, as: a, max: 45, fits: crm:Contact.F}}\n"
    )
    assert codes(check_fits(compiled(text), objects(described("F")))) == ["fits-length"]
