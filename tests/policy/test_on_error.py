"""on_error: what becomes of a value its rule cannot be carried out on. Faults of keys and tokens never obey it."""

import json
from dataclasses import replace

import pytest

from proxy.document.json_body import read_json
from proxy.document.xml_body import read_xml
from proxy.policy.explain import Occasion, explain
from proxy.policy.rules import Direction, Phase
from tests.policy.build import Entropy, House, codes, compiled, place_of, problems, refused
from tests.policy.forms import CLASSES, HEAD, agent, house, sealed

KINDS = ("refuse", "redact", "drop")


def one(rule: str, on_error: str) -> House:
    return house(f"json:$.a: {{{rule}, on_error: {on_error}}}\njson:$.b: allow")


def left(it: House, value: object) -> dict[str, object]:
    found = json.loads(agent(it, json.dumps({"a": value, "b": 1})))
    assert isinstance(found, dict)
    return found


FAULTS: dict[str, tuple[str, object]] = {
    "no telephone number": ("class: indexed, as: a", "ring me"),
    "outside the alphabet": ("class: preserved, as: a", "x" * 12),
    "too short for its alphabet": ("class: preserved, as: a", "12345"),
    "a literal": ("class: hashed, as: a", None),
    "an empty container": ("class: hashed, as: a", {}),
    "a companion that cannot be made": ("class: phone, as: a, write: {a: mask, t: token, i: index}", "ring me"),
    "longer than the CRM's field takes": ("class: words, as: a, max: 3, fits: crm:C.A", "long"),
    "too long to be masked": ("class: masked, as: a, max: 3, fits: crm:C.A", "long"),
    "too long in UTF-16": ("class: words, as: a, max: 3, fits: crm:C.A", "\U0001f600\U0001f600"),
    "a companion whose name is taken": ("class: words, as: a, write: {b: mask}", "v"),
}


@pytest.mark.parametrize(("rule", "value"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_value_obeys(rule: str, value: object) -> None:
    assert refused(lambda: left(one(rule, "refuse"), value)) == "value_refused"
    assert left(one(rule, "drop"), value) == {"b": 1}
    text = "withheld" if "phone" in rule else "[redacted]"
    assert left(one(rule, "redact"), value) == {"a": text, "b": 1}


def test_without_a_word_the_message_is_refused() -> None:
    assert refused(lambda: left(house("json:$.a: {class: indexed, as: a}\njson:$.b: allow"), "x")) == "value_refused"


@pytest.mark.parametrize("value", ["abc", "茶茶茶", "\U0001f600a", 123])
def test_a_value_as_long_as_max_is_written(value: object) -> None:
    it = one("class: words, as: a, max: 3, fits: crm:C.A", "refuse")
    token = left(it, value)["a"]
    assert str(token).startswith("w")
    it = one("class: words, as: a, max: 1, fits: crm:C.A", "refuse")
    it.keys = one("class: words, as: a", "refuse").keys
    assert left(it, token) == {"a": token, "b": 1}, "what is a token already is as long as it is"


@pytest.mark.parametrize("on_error", KINDS)
def test_a_value_without_fault_is_treated_as_its_rule_says(on_error: str) -> None:
    assert len(str(left(one("class: indexed, as: a", on_error), "13800138000")["a"])) == 32


@pytest.mark.parametrize("on_error", KINDS)
@pytest.mark.parametrize(
    "rule", ["class: words, as: a", "class: hashed, as: a", "class: words, as: a, write: {i: index}"]
)
def test_a_fault_of_a_key_never_obeys(rule: str, on_error: str) -> None:
    it = one(rule, on_error)
    it.keys = replace(it.keys, sealing={})
    assert refused(lambda: left(it, "v")) == "key_unavailable"


@pytest.mark.parametrize("on_error", KINDS)
def test_a_fault_of_a_token_never_obeys(on_error: str) -> None:
    it = House(
        compiled(
            CLASSES
            + f"""  - name: send
    direction: outbound
    match: {{method: POST, path: /s}}
    request:
      json:$.a: {{class: words, as: a, reveal: {{r: plain, m: mask}}, on_error: {on_error}}}
"""
        )
    )
    rules = it.rules(Direction.OUTBOUND, "POST", "/s")
    for role in "rm":
        body = json.dumps({"a": sealed(it, "v", "other")})
        assert refused(lambda: it.json(rules, body, role=role)) == "token_refused"  # noqa: B023 - called at once
        assert refused(lambda: it.json(rules, '{"a":"v"}', role=role)) == "clear_value_refused"  # noqa: B023
    assert refused(lambda: it.json(rules, '{"a":"v"}', role="x")) == "role_forbidden"


@pytest.mark.parametrize("on_error", KINDS)
def test_a_missing_bound_value_never_obeys(on_error: str) -> None:
    rules = f"json:$.id: {{class: id, as: id}}\njson:$.a: {{class: words, as: a, bind: [id], on_error: {on_error}}}"
    assert refused(lambda: agent(house(rules), '{"a":"v"}')) == "bind_missing"


def test_it_is_counted_for_what_it_is() -> None:
    it = one("class: indexed, as: a", "redact")
    rules = it.rules(Direction.AGENT, "POST", "/m")
    carried = it.carry(rules, read_json(b'{"a":"x","b":1}'))
    assert carried.counts == {"could not be indexed": 1, "allowed": 1}
    assert it.carry(rules, read_json(b'{"a":"13800138000"}')).counts == {"indexed": 1}


def test_an_element_is_redacted_or_dropped_too() -> None:
    for on_error, expected in (("redact", "<xml><A><![CDATA[[redacted]]]></A></xml>"), ("drop", "<xml></xml>")):
        text = f"""  - name: push
    direction: inbound
    match: {{type: text}}
    request:
      xml:/xml/A: {{class: indexed, as: a, on_error: {on_error}}}
"""
        it = House(compiled(CLASSES + text))
        body = read_xml(b"<xml><A><![CDATA[x]]></A></xml>")
        assert it.carry(it.policy.pushes["xml", "text"], body).body.decode() == expected


@pytest.mark.parametrize(("on_error", "value"), [("redact", "[redacted]"), ("drop", None)])
def test_explain_says_that_on_error_spoke(on_error: str, value: str | None) -> None:
    it = one("class: indexed, as: a", on_error)
    occasion = Occasion(Direction.AGENT, Phase.REQUEST, "POST", "/m")
    rules = it.rules(Direction.AGENT, "POST", "/m")
    row, _ = explain(it.policy, rules, read_json(b'{"a":"x","b":1}'), occasion, it.keys, Entropy(9)).rows
    assert row.treatment.value == {"redact": "redacted", "drop": "dropped"}[on_error]
    assert (row.value, row.why) == (value, f"the value could not be indexed; on_error says {on_error}")


@pytest.mark.parametrize("name", ["masked", "redacted", "hashed", "indexed", "preserved"])
@pytest.mark.parametrize("on_error", KINDS)
def test_explain_has_a_word_for_every_form(name: str, on_error: str) -> None:
    it = one(f"class: {name}, as: a", on_error)
    occasion = Occasion(Direction.AGENT, Phase.REQUEST, "POST", "/m")
    rules = it.rules(Direction.AGENT, "POST", "/m")
    row, _ = explain(it.policy, rules, read_json(b'{"a":"13800138000","b":1}'), occasion, it.keys, Entropy(9)).rows
    assert row.why.startswith("the class ")


@pytest.mark.parametrize("action", ["allow", "drop", "refuse"])
def test_it_says_nothing_where_nothing_can_fail(action: str) -> None:
    text = CLASSES + HEAD + f"      json:$.a: {{action: {action}, on_error: drop}}\n"
    (problem,) = problems(text)
    assert problem.code == "on-error-action"
    assert (problem.place.line, problem.place.column) == place_of(text, "json:")


def test_an_unknown_word_is_told() -> None:
    assert codes(CLASSES + HEAD + "      json:$.a: {class: words, as: a, on_error: allow}\n") == ["wrong-value"]
