"""Every form in a value's own place: equal to what proxy.crypto gives, with the keys it takes and no others."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.data_key import Purpose
from proxy.crypto.field_token import Scope
from proxy.crypto.mask import KindMask, Mask
from proxy.document.json_body import read_json
from proxy.policy.plan import make_plan
from proxy.policy.rules import Direction
from proxy.policy.transform import BY_LOOKUP_KEY, NO_FORMS, Form, Forms
from tests.policy.build import House, codes, compiled, refused
from tests.policy.forms import CLASSES, HEAD, agent, hashed, house, index, preserved, sealed

IT = house("""
    json:$.id: {class: id, as: id}
    json:$.masked: {class: masked}
    json:$.redacted: {class: redacted}
    json:$.hashed: {class: hashed, as: hashed}
    json:$.indexed: {class: indexed, as: indexed}
    json:$.preserved: {class: preserved, as: preserved}
    json:$.list[*]: {class: hashed, as: hashed}
""")


def value(name: str, text: object) -> object:
    found = json.loads(agent(IT, json.dumps({name: text})))
    return found[name]


def needed(it: House, body: str) -> set[tuple[str, Purpose]]:
    rules = it.rules(Direction.AGENT, "POST", "/m")
    return make_plan(it.policy, rules, read_json(body.encode()), "", "").needs().groups


def test_each_form_is_what_the_crypto_package_gives() -> None:
    assert value("masked", "欧阳小南") == KindMask("name").apply("欧阳小南") == "欧阳**"
    assert value("redacted", "secret") == "gone"
    assert value("hashed", "  Some ONE ") == hashed(IT, "some one", "hashed")
    assert value("indexed", "138 0013 8000") == index(IT, "+8613800138000", "indexed")
    assert value("preserved", "13800138000") == preserved(IT, "13800138000", "preserved")


def test_a_form_is_bound_to_its_datum_and_not_to_its_field() -> None:
    one, two = (house(f"json:$.{name}: {{class: hashed, as: {datum}}}") for name, datum in (("a", "x"), ("b", "x")))
    assert json.loads(agent(one, '{"a":"v"}'))["a"] == json.loads(agent(two, '{"b":"v"}'))["b"]
    other = house("json:$.a: {class: hashed, as: y}")
    assert agent(other, '{"a":"v"}') != agent(one, '{"a":"v"}')


@pytest.mark.parametrize("name", ["hashed", "indexed", "preserved"])
def test_a_form_made_with_a_key_needs_the_name_of_its_datum(name: str) -> None:
    assert codes(CLASSES + HEAD + f"      json:$.a: {{class: {name}}}\n") == ["as-missing"]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("masked", set()),
        ("redacted", set()),
        ("hashed", {Purpose.LOOKUP}),
        ("indexed", {Purpose.LOOKUP}),
        ("preserved", {Purpose.LOOKUP}),
        ("id", {Purpose.LOOKUP}),
    ],
)
def test_the_plan_asks_for_the_keys_of_a_form_and_no_others(name: str, keys: set[Purpose]) -> None:
    assert needed(IT, f'{{"{name}":"13800138000"}}') == {("default", purpose) for purpose in keys}


# --- types: docs/policy.md, "What a value becomes"


@pytest.mark.parametrize("name", ["hashed", "indexed", "preserved"])
@pytest.mark.parametrize("text", ["null", "true", "false", "{}", "[]"])
def test_literals_and_empty_containers_have_no_lookup_value(name: str, text: str) -> None:
    assert refused(lambda: agent(IT, f'{{"{name}":{text}}}')) == "value_refused"


@pytest.mark.parametrize(("text", "shown"), [("null", "*"), ("true", "*"), ("false", "*"), ('""', "*"), ("[]", "*")])
def test_a_mask_does_not_tell_literals_and_empty_values_apart(text: str, shown: str) -> None:
    it = house("json:$.a: {class: masked}\njson:$.b: {class: words, as: b, write: {b: mask}}")
    assert json.loads(agent(it, f'{{"a":{text},"b":{text}}}')) == {"a": shown, "b": shown}


READ = """  - name: read
    direction: agent
    match: {method: GET, path: /r}
    response:
      json:$.a: {class: words, as: a, reveal: {'*': mask}}
"""


@pytest.mark.parametrize("clear", ["false", "true", "null"])
def test_a_revealed_mask_of_a_literal_is_one_star_too(clear: str) -> None:
    it = House(compiled(CLASSES + READ))
    rules = it.rules(Direction.AGENT, "GET", "/r", response=True)
    assert it.json(rules, json.dumps({"a": sealed(it, clear, "a", kind="l")})) == '{"a": "*"}'


def test_a_number_is_taken_as_it_is_spelled_and_becomes_a_string() -> None:
    assert value("preserved", 13800138000) == preserved(IT, "13800138000", "preserved")
    assert value("indexed", 13800138000) == index(IT, "+8613800138000", "indexed")
    assert value("redacted", 1) == value("redacted", None) == value("redacted", {}) == "gone"


def test_an_empty_string_is_hashed_like_any_other_but_is_no_number() -> None:
    assert value("hashed", "") == value("hashed", "  ") == hashed(IT, "", "hashed")
    assert refused(lambda: value("indexed", "")) == refused(lambda: value("preserved", "")) == "value_refused"


def test_every_item_of_an_array_is_a_value() -> None:
    assert value("list", ["a", "A"]) == [hashed(IT, "a", "hashed")] * 2


@pytest.mark.parametrize("text", ["12345", "1380013800a", "138-0013-8000", "１３８００１３８０００", "9" * 256])
def test_what_does_not_suit_the_alphabet_is_refused(text: str) -> None:
    assert refused(lambda: value("preserved", text)) == "value_refused"


def test_a_token_is_a_text_like_others_to_forms_that_open_nothing() -> None:
    token = sealed(IT, "v", "hashed")
    assert value("hashed", token) == hashed(IT, token.casefold(), "hashed")
    body = read_json(json.dumps({"hashed": token}).encode())
    plan = make_plan(IT.policy, IT.rules(Direction.AGENT, "POST", "/m"), body, "", "")
    assert plan.needs().ids == set()


LONG = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"], exclude_characters="*"), min_size=8, max_size=40
)


@settings(deadline=None, max_examples=60)
@given(text=LONG, digits=st.text("0123456789", min_size=12, max_size=30))
def test_the_clear_value_never_occurs_in_what_leaves(text: str, digits: str) -> None:
    it = house("""
        json:$.a: {class: words, as: a, write: {m: mask, t: token, i: index, h: hash}}
        json:$.b: {class: id, as: b}
        json:$.c: {class: redacted}
        json:$.d: {class: hashed, as: d}
        json:$.e: {class: preserved, as: e}
        json:$.f: {class: masked}
    """)
    body = dict.fromkeys("abcdf", text) | {"e": digits}
    left = json.loads(agent(it, json.dumps(body)))
    assert digits not in left["e"]
    assert not [name for name, found in left.items() if text in found]


# --- the parts themselves


def test_a_class_that_describes_nothing_writes_tokens_only() -> None:
    assert {form.base for form in Form if NO_FORMS.has(form)} == {Form.TOKEN}
    assert Forms(mask=Mask()).has(Form.MASK)
    assert not BY_LOOKUP_KEY & {Form.TOKEN, Form.MASK, Form.REDACTION}


def test_a_scope_shows_no_bound_value() -> None:
    assert "secret" not in repr(Scope("t", "r", "d", ("secret",)))
