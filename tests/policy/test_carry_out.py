"""Carrying out: what leaves is what the plan says; a token is only what opens, for this datum and these binds."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy.crypto import field_token
from proxy.crypto.data_key import DataKey, Purpose
from proxy.crypto.field_token import Scope
from proxy.document.json_body import read_json
from proxy.document.xml_body import read_xml
from proxy.policy.carry_out import Carried, Keyset, carry_out
from proxy.policy.plan import make_plan
from proxy.policy.rules import Direction, RuleSet
from tests.policy.build import REGION, TENANT, House, compiled, refused

POLICY = """version: 1
classes:
  secret: {action: encrypt, mask: {keep_last: 2}}
  words: {action: encrypt}
  id: {action: encrypt, deterministic: true}
  veiled: {action: mask, mask: {keep_last: 2}}
  grouped: {action: encrypt, group: chat}
messages:
  - name: push
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/From: {class: id, as: openid}
      xml:/xml/Text: {class: words, as: words, bind: [openid]}
      xml:/xml/Item: {class: words, as: item}
      xml:/xml/Kind: allow
      xml:/xml/Gone: drop
  - name: answer
    direction: agent
    match: {method: POST, path: /answer}
    request:
      json:$.openid: {class: id, as: openid}
      json:$.text: {class: secret, as: agent.text, bind: [openid]}
      json:$.any: {class: secret, as: any}
      json:$.list[*]: {class: secret, as: any}
      json:$.phone: {class: veiled}
      json:$.chat: {class: grouped, as: chat}
      json:$.plain: allow
      json:$.gone: drop
  - name: read
    direction: agent
    match: {method: GET, path: /read}
    response:
      json:$.openid: {class: id, as: openid, reveal: {'*': keep}}
      json:$.text: {class: words, as: words, bind: [openid], reveal: {agent: plain, '*': keep}}
      json:$.any: {class: secret, as: any, reveal: {agent: plain, analyst: mask, clerk: keep}}
      json:$.list[*]: {class: secret, as: any, reveal: {agent: plain}}
  - name: send
    direction: outbound
    match: {method: POST, path: /send}
    request:
      query:token: allow
      query:openid: {class: id, as: openid, reveal: {'*': plain}}
      json:$.touser: {class: id, as: openid, reveal: {'*': plain}}
      json:$.text: {class: secret, as: agent.text, bind: [openid], reveal: {'*': plain}}
    response:
      json:$.text: {class: words, as: answer}
"""
HOUSE = House(compiled(POLICY))
PUSH = HOUSE.policy.pushes["xml", "text"]
ANSWER = HOUSE.rules(Direction.AGENT, "POST", "/answer")
READ = HOUSE.rules(Direction.AGENT, "GET", "/read", response=True)
SEND = HOUSE.rules(Direction.OUTBOUND, "POST", "/send")
SENT = HOUSE.rules(Direction.OUTBOUND, "POST", "/send", response=True)


def push(inner: str) -> Carried:
    return HOUSE.carry(PUSH, read_xml(f"<xml>{inner}</xml>".encode()))


def fields(rules: RuleSet, *, role: str = "", query: str = "", **body: object) -> dict[str, str]:
    """The JSON body of a call, as it leaves."""
    found = json.loads(HOUSE.json(rules, json.dumps(body, ensure_ascii=False), role=role, query=query))
    assert isinstance(found, dict)
    return found


def opened(token: str, datum: str, *binds: str) -> tuple[str, str]:
    parsed = field_token.parse(token)
    return field_token.open_token(HOUSE.keys.opening[parsed.key_id], parsed, Scope(TENANT, REGION, datum, binds))


def sealed(text: str, datum: str, *binds: str, tenant: str = TENANT, region: str = REGION, kind: str = "s") -> str:
    key = HOUSE.keys.sealing["default", Purpose.DATA]
    return field_token.seal(key, kind, text, Scope(tenant, region, datum, binds), HOUSE.entropy(24))


def sealed_id(text: str, datum: str = "openid") -> str:
    key = HOUSE.keys.sealing["default", Purpose.LOOKUP]
    return field_token.seal_equal(key, text, Scope(TENANT, REGION, datum))


# --- from WeChat: everything is encrypted


def test_a_push_leaves_with_tokens_that_open_for_datum_and_bind_and_nothing_else_changed() -> None:
    carried = push("<From><![CDATA[o1]]></From>\n<Kind>text</Kind><Text>你好</Text><Gone>x</Gone>")
    before, after = b"<xml><From><![CDATA[", b"</Text></xml>"
    assert carried.body.startswith(before)
    assert carried.body.endswith(after)
    assert b"]]></From>\n<Kind>text</Kind><Text>wg1." in carried.body
    assert "你好".encode() not in carried.body
    assert b"Gone" not in carried.body
    openid, kind, text, gone = carried.values
    assert (openid, kind, gone) == (sealed_id("o1"), "text", None)
    assert text is not None
    assert opened(text, "words", "o1") == ("s", "你好")


def test_the_same_follower_is_recognisable_and_the_same_words_are_not() -> None:
    one, two = (push("<From>o1</From><Text>hi</Text>").values for _ in range(2))
    assert one[0] == two[0]
    assert one[1] != two[1]


def test_repeated_elements_are_all_encrypted_each_with_a_nonce_of_its_own() -> None:
    values = push("<Item>a</Item><Item>a</Item><Item/>").values
    assert len(set(values)) == 3
    assert [opened(value or "", "item")[1] for value in values] == ["a", "a", ""]


@pytest.mark.parametrize(
    "make", [lambda: sealed("x", "item"), lambda: sealed("x", "words", "o1"), lambda: sealed_id("o1")]
)
def test_a_token_that_wechat_sends_is_encrypted_again(make: Callable[[], str]) -> None:
    token = make()
    (value,) = push(f"<Item>{token}</Item>").values
    assert value is not None
    assert value != token
    assert opened(value, "item") == ("s", token)


def test_a_token_in_wechat_s_answer_is_encrypted_again() -> None:
    token = sealed("x", "answer")
    assert opened(fields(SENT, text=token)["text"], "answer") == ("s", token)


def test_two_different_senders_or_none_leave_nothing_to_bind_to() -> None:
    assert refused(lambda: push("<Text>x</Text>")) == "bind_missing"
    assert refused(lambda: push("<From>a</From><From>b</From><Text>x</Text>")) == "bind_missing"
    push("<From>a</From><From>a</From><Text>x</Text>")


# --- from the CRM and agents: a token is what opens


def test_an_agent_s_clear_text_is_encrypted_for_the_follower_it_names() -> None:
    out = fields(ANSWER, openid="o1", text="dear", plain="p", gone=1)
    assert out == {"openid": sealed_id("o1"), "text": out["text"], "plain": "p"}
    assert opened(out["text"], "agent.text", "o1") == ("s", "dear")


def test_the_follower_may_be_named_by_token() -> None:
    out = fields(ANSWER, openid=sealed_id("o1"), text="dear")
    assert out["openid"] == sealed_id("o1")
    assert opened(out["text"], "agent.text", "o1") == ("s", "dear")


def test_a_token_that_opens_stays_as_it_is_and_is_counted() -> None:
    token = sealed("dear", "agent.text", "o1")
    carried = HOUSE.carry(ANSWER, read_json(json.dumps({"openid": "o1", "text": token}).encode()))
    assert carried.values[1] == token
    assert carried.counts["already protected"] == 1
    assert "token look-alike" not in carried.counts


FOREIGN = DataKey(b"f" * 32, Purpose.DATA)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: sealed("x", "words", "o1"), id="of another datum"),
        pytest.param(lambda: sealed("x", "agent.text", "o2"), id="for another follower"),
        pytest.param(lambda: sealed("x", "agent.text"), id="for nobody"),
        pytest.param(lambda: sealed("x", "agent.text", "o1", tenant="other"), id="of another tenant"),
        pytest.param(lambda: sealed("x", "agent.text", "o1", region="de"), id="of another region"),
        pytest.param(lambda: sealed_id("x", "agent.text"), id="deterministic, unbound"),
        pytest.param(
            lambda: field_token.seal(FOREIGN, "s", "x", Scope(TENANT, REGION, "agent.text", ("o1",)), b"n" * 24),
            id="under a key nobody has",
        ),
        pytest.param(lambda: sealed("x", "agent.text", "o1")[:-4] + "AAAA", id="altered"),
        pytest.param(lambda: "wn1." + sealed("x", "agent.text", "o1")[4:], id="of another type"),
    ],
)
class TestATokenThatDoesNotOpen:
    def test_is_clear_text_to_a_rule_that_protects(self, make: Callable[[], str]) -> None:
        token = make()
        carried = HOUSE.carry(ANSWER, read_json(json.dumps({"openid": "o1", "text": token}).encode()))
        assert carried.counts["token look-alike"] == 1
        assert opened(carried.values[1] or "", "agent.text", "o1") == ("s", token)

    def test_is_refused_by_a_rule_that_reveals(self, make: Callable[[], str]) -> None:
        token = make()
        assert refused(lambda: fields(SEND, touser=sealed_id("o1"), text=token)) == "token_refused"


def test_a_token_under_a_key_of_the_other_purpose_does_not_open() -> None:
    lookup = HOUSE.keys.sealing["default", Purpose.LOOKUP]
    token = field_token.seal(lookup, "s", "x", Scope(TENANT, REGION, "any"), HOUSE.entropy(24))
    assert refused(lambda: fields(READ, role="agent", any=token)) == "token_refused"


# --- towards WeChat


def test_an_answer_is_opened_for_the_follower_it_was_written_for() -> None:
    out = fields(SEND, touser=sealed_id("o1"), text=sealed("你好", "agent.text", "o1"))
    assert out == {"touser": "o1", "text": "你好"}


def test_it_is_opened_through_every_form_a_call_takes() -> None:
    body = json.dumps({"text": sealed("hi", "agent.text", "o1")}).encode()
    carried = HOUSE.carry(SEND, read_json(body), query=f"token=t%20t&openid={sealed_id('o1')}")
    assert (carried.body, carried.query) == (b'{"text": "hi"}', "token=t%20t&openid=o1")


def test_an_answer_for_one_follower_is_not_opened_towards_another() -> None:
    text = sealed("hi", "agent.text", "o1")
    assert refused(lambda: fields(SEND, touser=sealed_id("o2"), text=text)) == "token_refused"


def test_a_follower_s_own_token_in_an_answer_is_refused() -> None:
    words = push("<From>o1</From><Text>my words</Text>").values[1]
    assert refused(lambda: fields(SEND, touser=sealed_id("o1"), text=words)) == "token_refused"


def test_a_follower_s_token_where_the_addressee_stands_is_refused() -> None:
    words = push("<From>o1</From><Text>my words</Text>").values[1]
    assert refused(lambda: fields(SEND, touser=words)) == "token_refused"


def test_clear_text_in_an_answer_is_refused() -> None:
    assert refused(lambda: fields(SEND, touser=sealed_id("o1"), text="hi")) == "clear_value_refused"
    assert refused(lambda: fields(SEND, touser="o1")) == "clear_value_refused"


def test_two_addressees_are_refused() -> None:
    body = json.dumps({"touser": sealed_id("o1"), "text": sealed("hi", "agent.text", "o1")}).encode()
    query = f"openid={sealed_id('o2')}"
    assert refused(lambda: HOUSE.carry(SEND, read_json(body), query=query)) == "bind_missing"


# --- towards a person


def test_every_role_sees_its_own() -> None:
    token = sealed("13800138000", "any")
    assert fields(READ, role="agent", any=token) == {"any": "13800138000"}
    assert fields(READ, role="analyst", any=token) == {"any": "*********00"}
    assert fields(READ, role="clerk", any=token) == {"any": token}
    assert refused(lambda: fields(READ, role="guest", any=token)) == "role_forbidden"


def test_a_follower_s_words_are_bound_to_the_follower_in_the_record() -> None:
    words = push("<From>o1</From><Text>hi</Text>").values[1]
    assert fields(READ, role="agent", openid=sealed_id("o1"), text=words)["text"] == "hi"
    assert refused(lambda: fields(READ, role="agent", openid=sealed_id("o2"), text=words)) == "token_refused"


def test_a_clear_value_that_a_role_may_only_keep_is_encrypted() -> None:
    out = fields(READ, role="clerk", any="clear")
    assert opened(out["any"], "any") == ("s", "clear")


def test_a_clear_value_in_the_crm_is_not_shown_as_if_it_had_been_protected() -> None:
    for role in ("agent", "analyst"):
        assert refused(lambda role=role: fields(READ, role=role, any="clear")) == "clear_value_refused"


# --- types


@pytest.mark.parametrize(
    ("source", "prefix"),
    [
        *[('"x"', "wg1."), ('""', "wg1."), ('"你\\n\\u0000好"', "wg1."), ("1", "wn1."), ("-1.50e+3", "wn1.")],
        *[("123456789012345678901234567890", "wn1."), ("true", "wl1."), ("false", "wl1."), ("null", "wl1.")],
    ],
)
def test_a_value_comes_back_with_its_type_and_a_number_digit_for_digit(source: str, prefix: str) -> None:
    stored = HOUSE.json(ANSWER, f'{{"any": {source}}}')
    assert json.loads(stored)["any"].startswith(prefix)
    shown = HOUSE.json(READ, stored, role="agent")
    assert json.loads(shown)["any"] == json.loads(source)
    if prefix != "wg1.":
        assert shown == f'{{"any": {source}}}'


@pytest.mark.parametrize("source", ["{}", "[]", "{ }", "[\n]"])
def test_an_empty_container_is_a_leaf_and_becomes_a_token_of_null(source: str) -> None:
    stored = json.loads(HOUSE.json(ANSWER, f'{{"any": {source}}}'))
    assert opened(stored["any"], "any") == ("l", "null")


def test_every_item_of_a_list_comes_and_goes_with_its_type() -> None:
    stored = HOUSE.json(ANSWER, '{"list": [1, "1", null, true, "", 1.0]}')
    assert len(set(json.loads(stored)["list"])) == 6
    assert HOUSE.json(READ, stored, role="agent") == '{"list": [1, "1", null, true, "", 1.0]}'


def test_a_masked_value_is_a_string_of_stars() -> None:
    assert fields(ANSWER, phone="13800138000") == {"phone": "*********00"}
    assert fields(ANSWER, phone=123) == {"phone": "***"}
    assert fields(ANSWER, phone="") == {"phone": "*"}
    assert fields(ANSWER, phone=sealed("x", "any"))["phone"].startswith("****")


@pytest.mark.parametrize(
    ("body", "out"),
    [
        ('{"gone": 1}', "{}"),
        ('{"gone": {}, "plain": 1}', '{ "plain": 1}'),
        ('{"plain": 1, "gone": []}', '{"plain": 1}'),
        ('{"plain": 1, "gone": "x", "phone": ""}', '{"plain": 1,  "phone": "*"}'),
    ],
)
def test_a_dropped_field_goes_with_its_name_and_comma(body: str, out: str) -> None:
    left = HOUSE.json(ANSWER, body)
    assert json.loads(left) == json.loads(out)
    assert "gone" not in left


# --- keys, nonces, accounts


def without(keys: Keyset, **changes: dict[object, object]) -> Keyset:
    return replace(keys, **changes)  # type: ignore[arg-type]


def test_a_missing_key_refuses_what_needs_it() -> None:
    document = read_json(b'{"any": "x"}')
    assert refused(lambda: HOUSE.carry(ANSWER, document, keys=without(HOUSE.keys, sealing={}))) == "key_unavailable"
    stored = read_json(json.dumps({"any": sealed("x", "any")}).encode())
    blind = without(HOUSE.keys, opening={})
    assert refused(lambda: HOUSE.carry(READ, stored, role="agent", keys=blind)) == "token_refused"


def test_a_class_is_sealed_with_the_key_of_its_group() -> None:
    out = fields(ANSWER, chat="x", any="y")
    ids = {name: field_token.parse(out[name]).key_id for name in out}
    assert ids["chat"] == HOUSE.keys.sealing["chat", Purpose.DATA].id
    assert ids["any"] == HOUSE.keys.sealing["default", Purpose.DATA].id


def test_every_nonce_is_asked_for_anew_and_has_24_bytes() -> None:
    asked: list[int] = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return len(asked).to_bytes(size, "big")

    plan = make_plan(HOUSE.policy, ANSWER, read_json(b'{"any": "x", "list": ["x", "x"]}'), "", "")
    carry_out(plan, HOUSE.keys, TENANT, REGION, entropy)
    assert asked == [24, 24, 24]


def test_what_was_done_is_counted() -> None:
    counts = HOUSE.carry(ANSWER, read_json(b'{"any": 1, "plain": 2, "gone": 3, "phone": 4}')).counts
    assert counts == {"encrypted": 1, "allowed": 1, "dropped": 1, "masked": 1}


def test_unclassified_fields_are_counted() -> None:
    house = House(compiled(POLICY + "defaults: {unmatched: encrypt}\n"))
    carried = house.carry(house.policy.pushes["xml", "text"], read_xml(b"<xml><New>1</New><Kind>2</Kind></xml>"))
    assert carried.counts == {"encrypted": 1, "unclassified": 1, "allowed": 1}
    assert b">1<" not in carried.body


def test_a_message_is_complete_only_if_every_step_was_done() -> None:
    carried = HOUSE.carry(ANSWER, read_json(b'{"any": 1}'))
    assert carried.complete()
    assert not replace(carried, done=0).complete()
    assert not replace(carried, plan=replace(carried.plan, steps=())).complete()


def test_the_text_of_a_leaf_is_given_if_there_is_exactly_one() -> None:
    carried = push("<From>o1</From><Kind>a</Kind><Item>1</Item><Item>1</Item><Gone>x</Gone>")
    assert carried.final("xml", "Kind") == "a"
    assert carried.final("xml", "From") == sealed_id("o1")
    # two of them: whoever reads on may take the other one
    assert carried.final("xml", "Item") is None
    assert carried.final("xml", "Gone") is None
    assert carried.final("xml", "None") is None


def test_a_value_xml_cannot_write_is_refused_not_mangled() -> None:
    text = POLICY.replace(
        "      json:$.touser: {class: id, as: openid, reveal: {'*': plain}}\n"
        "      json:$.text: {class: secret, as: agent.text, bind: [openid], reveal: {'*': plain}}\n",
        "      xml:/xml/text: {class: secret, as: agent.text, reveal: {'*': plain}}\n",
    )
    house = House(compiled(text))
    rules = house.rules(Direction.OUTBOUND, "POST", "/send")
    key = house.keys.sealing["default", Purpose.DATA]
    for value, written in (("a\x01b", None), ("a<b>&", b"<xml><text>a&lt;b&gt;&amp;</text></xml>")):
        token = field_token.seal(key, "s", value, Scope(TENANT, REGION, "agent.text"), b"n" * 24)
        document = read_xml(f"<xml><text>{token}</text></xml>".encode())
        if written is None:
            assert refused(lambda document=document: house.carry(rules, document)) == "value_refused"
        else:
            assert house.carry(rules, document).body == written


def test_a_bind_too_long_for_the_aad_is_refused() -> None:
    assert refused(lambda: push(f"<From>{'o' * 70000}</From><Text>x</Text>")) == "value_refused"
