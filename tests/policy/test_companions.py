"""Companions: several names in the place of one, each a form of one value; never two members of one name."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.data_key import Purpose
from proxy.crypto.field_token import Scope, seal
from proxy.document.json_body import read_json
from proxy.document.xml_body import read_xml
from proxy.policy.check_tests import check_tests
from proxy.policy.explain import Explanation, Occasion, explain
from proxy.policy.plan import make_plan
from proxy.policy.rules import Direction, Phase
from proxy.refusal import Refusal
from tests.policy.build import Entropy, House, codes, compiled, place_of, problems, refused
from tests.policy.forms import (
    CLASSES,
    HEAD,
    WRITE,
    agent,
    hashed,
    house,
    index,
    opened,
    preserved,
    sealed,
    sealed_id,
)

NUMBER = "13800138000"
IT = house(f"""
    json:$.phone: {{class: phone, as: phone, {WRITE}}}
    json:$.mobile: {{class: phone, as: phone, write: {{mobile: mask, phone_ix: index}}}}
    json:$.people[*].phone: {{class: phone, as: phone, {WRITE}}}
    json:$.name: allow
    json:$.phone_ix: allow
    json:$.phone_ix.more: allow
    json:$.r: drop
""")


def left(body: object, it: House = IT) -> dict[str, str]:
    found = json.loads(agent(it, json.dumps(body)))
    assert isinstance(found, dict)
    return found


def test_every_companion_is_what_the_crypto_package_gives() -> None:
    found = left({"phone": NUMBER})
    assert opened(IT, found.pop("phone_enc"), "phone") == ("s", NUMBER)
    assert found == {
        "phone": "138****8000",
        "phone_ix": index(IT, "+86" + NUMBER, "phone", 64, "base32"),
        "phone_h": hashed(IT, "+86" + NUMBER, "phone"),
        "phone_fp": preserved(IT, NUMBER, "phone"),
        "r": "withheld",
    }


def test_everything_else_stays_as_it_came() -> None:
    text = '{ "name" : "x" ,\n "phone":"13800138000" , "people" : [ ] }'
    it = house("json:$.phone: {class: phone, as: p, write: {a: mask, b: redaction}}\njson:$.*: {class: words, as: w}")
    before, after = agent(it, text).split('"a":"138****8000","b":"withheld"')
    assert before.startswith('{ "name" : "wg1.')
    assert after.startswith(' , "people" : "wl1.')


def test_companions_in_a_list_of_objects_are_in_each_of_them() -> None:
    people = json.loads(agent(IT, json.dumps({"people": [{"phone": NUMBER}, {"phone": "13800138001"}]})))["people"]
    assert [person["phone"] for person in people] == ["138****8000", "138****8001"]
    assert all(len(person) == 6 for person in people)


@pytest.mark.parametrize(
    ("write", "keys"),
    [
        ("{a: mask, b: redaction}", set()),
        ("{a: token}", {Purpose.DATA}),
        ("{a: index}", {Purpose.LOOKUP}),
        ("{a: mask, b: hash}", {Purpose.LOOKUP}),
        ("{a: format_preserving, b: token}", {Purpose.LOOKUP, Purpose.DATA}),
    ],
)
def test_the_plan_asks_for_the_keys_of_the_companions_and_no_others(write: str, keys: set[Purpose]) -> None:
    it = house(f"json:$.a: {{class: phone, as: phone, write: {write}}}")
    plan = make_plan(it.policy, it.rules(Direction.AGENT, "POST", "/m"), read_json(b'{"a":"13800138000"}'), "", "")
    assert plan.needs().groups == {("default", purpose) for purpose in keys}


# --- names


@pytest.mark.parametrize(
    "body",
    [
        {"phone": NUMBER, "phone_ix": "made up"},
        {"phone_ix": "made up", "phone": NUMBER},
        {"phone": NUMBER, "phone_ix": {"more": "x"}},  # above a value, but a name all the same
        {"phone": NUMBER, "mobile": NUMBER},  # two rules write one name
        {"mobile": NUMBER, "phone": NUMBER},
    ],
)
def test_a_name_that_is_taken_refuses_the_message(body: object) -> None:
    assert refused(lambda: left(body)) == "value_refused"


def test_a_name_is_free_where_its_field_is_dropped() -> None:
    """So a client can send back the whole record it has read."""
    assert left({"phone": NUMBER, "r": "old"})["r"] == "withheld"
    assert left({"r": "old", "mobile": NUMBER}) == {
        "mobile": "138****8000",
        "phone_ix": left({"phone": NUMBER})["phone_ix"],
    }


def test_names_of_body_and_query_have_nothing_to_do_with_each_other() -> None:
    it = house("""
        json:$.a: {class: phone, as: phone, write: {a: mask, b: redaction}}
        query:b: allow
        query:c: {class: phone, as: phone, write: {c: redaction, d: redaction}}
        query:d: allow
    """)
    assert left({"a": NUMBER}, it) == {"a": "138****8000", "b": "withheld"}
    assert agent(it, json.dumps({"a": NUMBER}), query="b=1") == '{"a":"138****8000","b":"withheld"}'
    assert refused(lambda: agent(it, '{"a":1}', query=f"c={NUMBER}&d=1")) == "value_refused"


def test_parameters_can_have_companions_and_be_a_lookup() -> None:
    it = house("""
        json:$.x: allow
        query:q: {class: phone, as: phone, write: {q: index, m: mask}}
        query:m: allow
    """)
    rules = it.rules(Direction.AGENT, "POST", "/m")
    carried = it.carry(rules, read_json(b'{"x":1}'), query="q=%2B86%20138-0013-8000")
    assert carried.query.split("&")[0] == "q=" + index(it, "+86" + NUMBER, "phone", 64, "base32")
    assert NUMBER not in carried.query
    assert refused(lambda: it.carry(rules, read_json(b'{"x":1}'), query=f"q={NUMBER}&m=1")) == "value_refused"


XML = """  - name: push
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/Phone: {class: phone, as: phone, write: {Phone: mask, Phone_ix: index}}
      xml:/xml/Kind: allow
"""


def test_elements_can_have_companions() -> None:
    it = House(compiled(CLASSES + XML))
    rules = it.policy.pushes["xml", "text"]
    number = index(it, "+86" + NUMBER, "phone", 64, "base32")
    for source in (f"<Phone>{NUMBER}</Phone>", f"<Phone><![CDATA[{NUMBER}]]></Phone>"):
        body = it.carry(rules, read_xml(f"<xml><Kind>text</Kind>{source}</xml>".encode())).body.decode()
        pair = f"<Phone><![CDATA[138****8000]]></Phone><Phone_ix><![CDATA[{number}]]></Phone_ix>"
        assert body == f"<xml><Kind>text</Kind>{pair}</xml>"
    twice = read_xml(f"<xml><Phone>{NUMBER}</Phone><Phone>{NUMBER}</Phone></xml>".encode())
    assert refused(lambda: it.carry(rules, twice)) == "value_refused"


# --- what is a token already


def test_a_token_that_opens_stays_and_its_companions_are_made_of_what_it_says() -> None:
    token = sealed(IT, NUMBER, "phone", kind="n")
    assert left({"phone": token}) == left({"phone": NUMBER}) | {"phone_enc": token}


def test_a_token_that_does_not_open_is_clear_text() -> None:
    it = house("json:$.a: {class: words, as: a, write: {a: token, m: mask, h: hash}}")
    token = sealed(it, "v", "a", tenant="other")
    found = left({"a": token}, it)
    assert opened(it, found["a"], "a") == ("s", token)
    assert found["h"] == hashed(it, token.casefold(), "a")


def test_a_token_from_wechat_is_never_opened() -> None:
    it = House(compiled(CLASSES + XML))
    body = read_xml(f"<xml><Phone>{sealed(it, NUMBER, 'phone')}</Phone></xml>".encode())
    assert refused(lambda: it.carry(it.policy.pushes["xml", "text"], body)) == "value_refused"  # no telephone number


@pytest.mark.parametrize("clear", ["null", "true"])
def test_a_token_of_a_literal_has_no_lookup_value_either(clear: str) -> None:
    assert refused(lambda: left({"phone": sealed(IT, clear, "phone", kind="l")})) == "value_refused"


# --- bound values


def test_tokens_and_format_preserving_companions_are_bound_and_what_is_searched_for_is_not() -> None:
    it = house("""
        json:$.id: {class: id, as: id}
        json:$.a: {class: phone, as: a, bind: [id], write: {t: token, i: index, h: hash, f: format_preserving}}
    """)
    for sent in ("o1", sealed_id(it, "o1", "id")):
        found = left({"id": sent, "a": NUMBER}, it)
        assert opened(it, found["t"], "a", "o1") == ("s", NUMBER)
        assert found["f"] == preserved(it, NUMBER, "a", "o1")
        assert (found["i"], found["h"]) == (
            index(it, "+86" + NUMBER, "a", 64, "base32"),
            hashed(it, "+86" + NUMBER, "a"),
        )
    assert refused(lambda: left({"a": NUMBER}, it)) == "bind_missing"


# --- types


def test_a_number_keeps_its_type_in_the_token_only() -> None:
    found = left({"phone": int(NUMBER)})
    assert opened(IT, found["phone_enc"], "phone") == ("n", NUMBER)
    assert (found["phone"], found["phone_ix"]) == ("138****8000", left({"phone": NUMBER})["phone_ix"])


@pytest.mark.parametrize("text", ["", None, True, {}, []])
def test_a_value_without_a_number_is_a_fault_of_the_value(text: object) -> None:
    assert refused(lambda: left({"phone": text})) == "value_refused"


@pytest.mark.parametrize(
    ("text", "kind", "clear"),
    [
        ("", "s", ""),
        (None, "l", "null"),
        (False, "l", "false"),
        ({}, "l", "null"),
        ([], "l", "null"),
        (1.5, "n", "1.5"),
    ],
)
def test_tokens_masks_and_redactions_are_written_for_any_type(text: object, kind: str, clear: str) -> None:
    it = house("json:$.a: {class: phone, as: a, write: {t: token, m: mask, r: redaction}}")
    found = left({"a": text}, it)
    assert opened(it, found.pop("t"), "a") == (kind, clear)
    assert found == {"m": "***" if kind == "n" else "*", "r": "withheld"}


# --- what is told when the policy is read


@pytest.mark.parametrize(
    ("rule", "code", "at"),
    [
        ("json:$.a: {class: words, as: a, write: {a: alphabet}}", "wrong-value", "alphabet"),
        ("json:$.a: {class: words, as: a, write: {b: format_preserving}}", "form-undescribed", "b:"),
        ("json:$.a: {class: words, as: a, write: {b c: token}}", "wrong-value", "b c"),
        ("json:$.a: {class: words, as: a, write: [token]}", "wrong-type", "[token]"),
        ("json:$.a: {class: words, as: a, write: {b: token}, reveal: {'*': keep}}", "write-action", "json:"),
        ("json:$.a: {class: masked, write: {b: mask}}", "write-action", "json:"),
        ("json:$.a[0]: {class: words, as: a, write: {b: mask}}", "write-place", "json:"),
        ("json:$.a[*]: {class: words, as: a, write: {b: mask}}", "write-place", "json:"),
        ("json:$.*: {class: words, as: a, write: {b: mask}}", "write-place", "json:"),
    ],
)
def test_a_mistake_is_told_with_its_place(rule: str, code: str, at: str) -> None:
    text = CLASSES + HEAD + f"      {rule}\n"
    found = [problem for problem in problems(text) if problem.code == code]
    assert [(problem.place.line, problem.place.column) for problem in found] == [place_of(text, at)]


def test_a_name_written_twice_is_a_problem_of_the_file() -> None:
    assert codes(CLASSES + HEAD + "      json:$.a: {class: words, as: a, write: {b: mask, b: token}}\n") == [
        "yaml-duplicate"
    ]


# --- explain


def explained(body: object) -> Explanation:
    rules = IT.rules(Direction.AGENT, "POST", "/m")
    occasion = Occasion(Direction.AGENT, Phase.REQUEST, "POST", "/m")
    return explain(IT.policy, rules, read_json(json.dumps(body).encode()), occasion, IT.keys, Entropy(9))


def test_explain_shows_every_companion_by_its_name() -> None:
    (row,) = explained({"phone": NUMBER}).rows
    assert row.value is not None
    names = [part.split(": ")[0] for part in row.value.split(", ")]
    assert names == ["phone", "phone_enc", "phone_ix", "phone_h", "phone_fp", "r"]
    assert row.value.startswith("phone: 138****8000, phone_enc: wg1.")
    assert (row.treatment.value, row.why) == ("encrypted", "the class encrypts")


@pytest.mark.parametrize(
    ("datum", "why"),
    [("w", "is a token already and stays"), ("other", "looks like a token but does not open: it is clear text")],
)
def test_explain_tells_a_token_among_companions_from_what_looks_like_one(datum: str, why: str) -> None:
    it = house("json:$.a: {class: words, as: w, write: {m: mask, t: token}}")
    occasion = Occasion(Direction.AGENT, Phase.REQUEST, "POST", "/m")
    scope = Scope("explained", "xx", datum)
    token = seal(it.keys.sealing["default", Purpose.DATA], "s", "v", scope, it.entropy(24))
    body = read_json(json.dumps({"a": token}).encode())
    (row,) = explain(it.policy, it.rules(Direction.AGENT, "POST", "/m"), body, occasion, it.keys, Entropy(9)).rows
    assert row.why == why


def test_explain_names_both_fields_that_want_one_name() -> None:
    found = explained({"phone": NUMBER, "mobile": NUMBER, "name": "x"})
    assert found.refusal == "value_refused"
    assert [row.code for row in found.rows] == ["value_refused", "value_refused", ""]


def test_a_policy_test_with_two_fields_for_one_name_fails_and_does_not_crash() -> None:
    tests = """tests:
  - {sample: s, direction: agent, method: POST, path: /m, expect: {'json:$.a': encrypted}}
"""
    rules = "".join(f"      json:$.{name}: {{class: words, as: a, write: {{c: mask}}}}\n" for name in "ab")
    policy = compiled(CLASSES + HEAD + rules + tests)
    found = check_tests(policy, {"s": b'{"a":"1","b":"2"}'}, read_json, lambda _: "", Entropy())
    assert [problem.code for problem in found] == ["test-failed"] * 2


NAMES = st.sampled_from(["phone", "mobile", "phone_ix", "phone_enc", "name", "r"])


@settings(deadline=None, max_examples=60)
@given(names=st.lists(NAMES, unique=True, min_size=1))
def test_no_name_is_ever_written_twice_and_nothing_leaves_in_clear(names: list[str]) -> None:
    it = house(f"""
        json:$.phone: {{class: phone, as: phone, {WRITE}}}
        json:$.mobile: {{class: phone, as: phone, write: {{mobile: mask, name: token}}, on_error: redact}}
        json:$.phone_ix: {{class: words, as: w}}
        json:$.phone_enc: drop
        json:$.name: {{class: words, as: w}}
        json:$.r: {{class: words, as: w, write: {{q: token}}, on_error: drop}}
    """)
    try:
        text = agent(it, json.dumps(dict.fromkeys(names, NUMBER)))
    except Refusal as refusal:
        assert refusal.code == "value_refused"
        return
    pairs = json.loads(text, object_pairs_hook=list)
    assert len({name for name, _ in pairs}) == len(pairs)
    assert NUMBER not in text
