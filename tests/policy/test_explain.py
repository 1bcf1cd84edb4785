"""Explain: every leaf once, the same treatment as in production, nothing guessed in silence."""

import json

import pytest

from proxy.document.json_body import read_json
from proxy.document.xml_body import read_xml
from proxy.policy.carry_out import carry_out
from proxy.policy.compiled import Policy
from proxy.policy.explain import (
    Explanation,
    Occasion,
    Row,
    explain,
    find_rules,
    protect_first,
    selector_of,
    temporary_keys,
)
from proxy.policy.plan import draft_plan, make_plan
from proxy.policy.rules import Direction, Phase
from proxy.policy.selector import parse_selector
from tests.policy.build import Entropy, compiled, place_of, refused

TEXT = """version: 1
defaults: {unmatched: refuse}
classes:
  words: {action: encrypt, mask: {keep_last: 1}}
  id: {action: encrypt, deterministic: true}
  veiled: {action: mask, mask: {keep_last: 1}}
messages:
  - name: push
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/From: {class: id, as: openid}
      xml:/xml/Text: {class: words, as: words}
      xml:/xml/Kind: allow
      xml:/xml/Gone: drop
      xml:/xml/Veil: {class: veiled}
      xml:/xml/No: refuse
  - name: reply
    direction: inbound
    match: {reply: text}
    response: {'xml:/xml/Kind': allow}
  - name: send
    direction: outbound
    match: {method: POST, path: /send}
    request:
      query:token: allow
      json:$.touser: {class: id, as: openid, reveal: {'*': plain}}
      json:$.text: {class: words, as: agent.text, bind: [openid], reveal: {'*': plain}}
    response: {'json:$.code': allow}
  - name: read
    direction: agent
    match: {method: GET, path: '/read/{id}'}
    request: {'path:id': allow}
    response:
      json:$.text: {class: words, as: agent.text, reveal: {agent: plain, analyst: mask, clerk: keep}}
"""
POLICY = compiled(TEXT)
INBOUND = Occasion(Direction.INBOUND, Phase.REQUEST, role="wechat")
SEND = Occasion(Direction.OUTBOUND, Phase.REQUEST, "POST", "/send", query="token=t")


def push(inner: str, policy: Policy = POLICY) -> Explanation:
    document = read_xml(f"<xml>{inner}</xml>".encode())
    rules = find_rules(policy, INBOUND, "xml", "text")
    entropy = Entropy()
    return explain(policy, rules, document, INBOUND, temporary_keys(policy, entropy), entropy)


def call(occasion: Occasion, *, protect: bool = False, **body: object) -> Explanation:
    entropy = Entropy()
    rules, keys = find_rules(POLICY, occasion, "json", ""), temporary_keys(POLICY, entropy)
    document = read_json(json.dumps(body).encode())
    if protect:
        draft = draft_plan(POLICY, rules, document, occasion.query, occasion.role)
        document = read_json(protect_first(draft, keys, entropy).body)
    return explain(POLICY, rules, document, occasion, keys, entropy)


def brief(row: Row) -> tuple[str, str, str, str, int]:
    return row.selector, row.treatment.value, row.data_class, row.datum, row.rule.line if row.rule else 0


def test_every_leaf_is_one_row_in_the_order_of_the_document() -> None:
    found = push("<From>o1</From><Text>hi</Text><Kind>k</Kind><Gone>g</Gone><Veil>123</Veil><Text>again</Text>")
    assert [brief(row) for row in found.rows] == [
        ("xml:/xml/From", "encrypted", "id", "openid", place_of(TEXT, "xml:/xml/From")[0]),
        ("xml:/xml/Text", "encrypted", "words", "words", place_of(TEXT, "xml:/xml/Text")[0]),
        ("xml:/xml/Kind", "allowed", "", "", 14),
        ("xml:/xml/Gone", "dropped", "", "", place_of(TEXT, "xml:/xml/Gone")[0]),
        ("xml:/xml/Veil", "masked", "veiled", "", place_of(TEXT, "xml:/xml/Veil")[0]),
        ("xml:/xml/Text", "encrypted", "words", "words", place_of(TEXT, "xml:/xml/Text")[0]),
    ]
    values = [row.value for row in found.rows]
    assert (values[2], values[3], values[4]) == ("k", None, "**3")
    assert values[1] != values[5]
    assert found.refusal == ""


def test_a_row_s_value_is_what_production_sends() -> None:
    inner = "<From>o1</From><Text>hi</Text><Kind>k</Kind><Gone>g</Gone><Veil>123</Veil>"
    found = push(inner)
    entropy = Entropy()
    keys = temporary_keys(POLICY, entropy)
    plan = make_plan(POLICY, POLICY.pushes["xml", "text"], read_xml(f"<xml>{inner}</xml>".encode()), "", "wechat")
    produced = carry_out(plan, keys, "explained", "xx", entropy)
    assert found.carried is not None
    assert found.carried.body == produced.body
    for row in found.rows:
        assert row.value is None or row.value.encode() in produced.body


@pytest.mark.parametrize(("value", "text"), [([], "[]"), ({}, "{}"), ("", "")])
def test_an_empty_list_that_stays_is_told_as_one(value: object, text: str) -> None:
    (row,) = call(Occasion(Direction.OUTBOUND, Phase.RESPONSE, "POST", "/send"), code=value).rows
    assert (row.value, row.treatment.value) == (text, "allowed")


def test_a_refused_leaf_says_why_and_nothing_leaves() -> None:
    found = push("<Kind>k</Kind><No>1</No><New>2</New>")
    assert found.refusal == "field_refused"
    assert found.carried is None
    assert [row.value for row in found.rows] == [None, None, None]
    kind, no, new = found.rows
    assert (kind.treatment.value, no.code, new.code) == ("allowed", "field_refused", "field_unknown")
    assert (new.rule, new.data_class, new.datum) == (None, "", "")
    assert no.rule is not None


def test_an_unclassified_leaf_is_said_to_be_one() -> None:
    policy = compiled(TEXT.replace("unmatched: refuse", "unmatched: encrypt"))
    (row,) = push("<New>2</New>", policy).rows
    assert (row.treatment.value, row.data_class, row.rule) == ("encrypted", "unclassified", None)
    assert row.why == "no rule knows it; the policy encrypts such fields"


def test_a_call_with_clear_values_is_refused_and_with_tokens_made_first_it_is_opened() -> None:
    plain = call(SEND, touser="o1", text="hi")
    assert [row.code for row in plain.rows] == ["clear_value_refused", "clear_value_refused", ""]
    found = call(SEND, protect=True, touser="o1", text="hi")
    assert [(row.treatment.value, row.value) for row in found.rows] == [
        ("revealed", "o1"),
        ("revealed", "hi"),
        ("allowed", "t"),
    ]
    assert found.refusal == ""


def test_a_token_that_does_not_open_is_told_at_its_leaf() -> None:
    foreign = "wg1." + "A" * 80
    found = call(SEND, touser="wd1." + "a" * 52, text=foreign)
    assert found.refusal == "token_refused"
    assert {row.selector: row.code for row in found.rows} == {
        "json:$.touser": "token_refused",
        "json:$.text": "token_refused",
        "query:token": "",
    }
    assert {row.treatment.value for row in found.rows} == {"refused", "allowed"}


@pytest.mark.parametrize(
    ("role", "value", "treatment", "why"),
    [
        ("agent", "hello", "revealed", 'opened for role "agent"'),
        ("analyst", "****o", "revealed masked", 'opened and masked for role "analyst"'),
    ],
)
def test_a_role_is_named_in_the_reason(role: str, value: str, treatment: str, why: str) -> None:
    occasion = Occasion(Direction.AGENT, Phase.RESPONSE, "GET", "/read/1", role)
    (row,) = call(occasion, protect=True, text="hello").rows
    assert (row.value, row.treatment.value, row.why) == (value, treatment, why)


def test_what_a_role_only_keeps_and_what_only_looks_like_a_token_is_told_apart() -> None:
    occasion = Occasion(Direction.AGENT, Phase.RESPONSE, "GET", "/read/1", "clerk")
    (clear,) = call(occasion, text="hello").rows
    assert clear.why == 'role "clerk" gets no more than the token'
    (alike,) = call(occasion, text="wg1." + "A" * 80).rows
    assert alike.why == "looks like a token but does not open: it is clear text"


def test_a_token_that_stays_says_so() -> None:
    occasion = Occasion(Direction.AGENT, Phase.RESPONSE, "GET", "/read/1", "clerk")
    entropy = Entropy()
    rules, keys = find_rules(POLICY, occasion, "json", ""), temporary_keys(POLICY, entropy)
    first = explain(POLICY, rules, read_json(b'{"text": "x"}'), occasion, keys, entropy)
    assert first.carried is not None
    (row,) = explain(POLICY, rules, read_json(first.carried.body), occasion, keys, entropy).rows
    assert row.why == "is a token already and stays"
    assert row.value == first.rows[0].value


@pytest.mark.parametrize(
    ("occasion", "form", "kind"),
    [
        (INBOUND, "xml", "image"),
        (INBOUND, "json", "text"),
        (Occasion(Direction.INBOUND, Phase.RESPONSE), "xml", "image"),
        (Occasion(Direction.OUTBOUND, Phase.REQUEST, "GET", "/send"), "json", ""),
        (Occasion(Direction.AGENT, Phase.REQUEST, "POST", "/send"), "json", ""),
        (Occasion(Direction.AGENT, Phase.RESPONSE, "GET", "/read/a%2fb"), "json", ""),
    ],
)
def test_a_message_the_policy_does_not_know_is_refused(occasion: Occasion, form: str, kind: str) -> None:
    assert refused(lambda: find_rules(POLICY, occasion, form, kind)) == "message_unknown"


@pytest.mark.parametrize(
    ("occasion", "name"),
    [
        (INBOUND, "push"),
        (Occasion(Direction.INBOUND, Phase.RESPONSE), "reply"),
        (SEND, "send"),
        (Occasion(Direction.AGENT, Phase.RESPONSE, "GET", "/read/1"), "read"),
    ],
)
def test_the_rules_are_those_of_direction_and_phase(occasion: Occasion, name: str) -> None:
    rules = find_rules(POLICY, occasion, "xml", "text")
    assert (rules.name, rules.direction, rules.phase) == (name, occasion.direction, occasion.phase)


def test_a_type_no_message_names_is_explained_by_the_fallback() -> None:
    policy = compiled(TEXT.replace("unmatched: refuse", "unmatched: encrypt"))
    assert find_rules(policy, INBOUND, "xml", "voice").name == "unknown-message"
    with_response = Occasion(Direction.INBOUND, Phase.RESPONSE)
    assert refused(lambda: find_rules(policy, with_response, "xml", "voice")) == "message_unknown"


@pytest.mark.parametrize("path", [("a",), ("a", 0, "b c"), ("0", 1), ("it's",), ("名",), ("*",), ("",), ("a.b", "_c")])
def test_a_leaf_s_selector_is_one_the_language_reads_back(path: tuple[str | int, ...]) -> None:
    assert parse_selector(selector_of("json", path)).pattern == path


def test_selectors_of_the_other_forms() -> None:
    assert selector_of("xml", ("xml", "A", "b")) == "xml:/xml/A/b"
    assert selector_of("query", ("q",)) == "query:q"


def test_keys_are_made_anew_for_every_group_and_purpose() -> None:
    policy = compiled("version: 1\nclasses: {a: {action: encrypt, group: chat}}")
    keys = temporary_keys(policy, Entropy())
    assert len(keys.sealing) == 4 and len(keys.replaced) == 2 and len(keys.opening) == 6


def test_the_keys_that_would_be_used_are_told() -> None:
    told = push("<From>o</From><Text>t</Text><Kind>k</Kind><Gone>g</Gone><Veil>v</Veil>")
    assert [row.keys for row in told.rows] == ["default lookup", "default data", "", "", ""]
    answer = Occasion(Direction.AGENT, Phase.RESPONSE, "GET", "/read/1", "agent")
    assert [row.keys for row in call(answer, protect=True, text="x").rows] == ["default data"]
    assert [row.keys for row in call(answer, text=None).rows] == [""]  # nothing is opened


def test_of_what_is_refused_no_key_is_told() -> None:
    assert [row.keys for row in push("<Text>t</Text><No>n</No>").rows] == ["default data", ""]
