"""What was tried on texts with rules inside, on multipart bodies and on what `diff` says of them."""

import json

import pytest

from proxy.document.multipart import read_multipart
from proxy.document.tree import DROP, render
from proxy.document.xml_body import read_xml
from proxy.policy.diff import diff_policies
from proxy.policy.insight import MOST_INSIDE
from proxy.policy.plan import draft_plan, read_call
from proxy.refusal import Refusal
from proxy.wechat.push import read_body
from tests.document.test_multipart import body, part
from tests.document.test_multipart import refused as refused_parts
from tests.policy.build import House, codes, compiled, refused
from tests.policy.test_inside import HEAD, SECRET, call, house, rules

PHONE = "{class: phone}"


def leaves(it: House, **fields: str) -> dict[str, str]:
    return dict(json.loads(it.json(call(it), json.dumps(fields))))


# --- parts


@pytest.mark.parametrize("rule", ["{class: secret, as: f}", "drop"])
def test_a_header_line_inside_another_is_not_taken_for_it(rule: str) -> None:
    it = house(f"multipart:photo/body: allow\nmultipart:photo/type: allow\nmultipart:photo/filename: {rule}")
    line = 'Content-Disposition: form-data; name="photo"; filename="SECRET.jpg"'
    data = f"--b\r\nContent-Type: image/jpeg; {line}\r\n{line}\r\n\r\nx\r\n--b--\r\n".encode()
    document = read_call(call(it), data, "multipart/form-data; boundary=b", read_body)
    out = it.carry(call(it), document).body.decode()
    assert out.count("SECRET") == 1  # in the type, which the policy allows
    assert "SECRET" in out.split("\r\n")[1]


def test_a_type_inside_a_file_name_is_not_taken_for_it() -> None:
    it = house("multipart:p/body: allow\nmultipart:p/type: drop\nmultipart:p/filename: allow")
    line = "Content-Type: SECRET/13800138000"
    data = body(f'Content-Disposition: form-data; name="p"; filename="{line}"\r\n{line}\r\n\r\nx'.encode())
    out = it.carry(call(it), read_multipart(data, "b")).body.decode()
    assert (
        out == f'--wxgate-0\r\nContent-Disposition: form-data; name="p"; filename="{line}"\r\n\r\nx\r\n--wxgate-0--\r\n'
    )


def test_a_body_that_lost_all_its_parts_is_none() -> None:
    document = read_multipart(body(part("a", b"x"), part("b", b"y")), "b")
    assert render(document, {0: DROP})
    with pytest.raises(Refusal) as error:
        render(document, {0: DROP, 1: DROP})
    assert error.value.code == "value_refused"


def test_an_encoded_word_is_no_name_of_a_part() -> None:
    """Python's email package reads this name as `note`."""
    assert refused_parts(body(part("=?utf-8?q?note?=", b"x"))) == "document_malformed"


# --- names and values that no rule knows


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ("json:$.* > form:b", '{"SECRET WORDS":""}'),
        ("json:$.* > form:b", '{"SECRET WORDS":"b=1"}'),
        ("xml:/*/* > form:b", "<SECRET><WORDS/></SECRET>"),
        ("json:$.a > json:$.* > json:$[0]", '{"a":"{\\"SECRET\\":\\"[1]\\"}"}'),
    ],
)
def test_names_do_not_pass_for_want_of_values(selector: str, text: str) -> None:
    assert leaves(house(f"json:$.t: {SECRET}\n'json:$.t > {selector}': {SECRET}"), t=text)["t"].startswith("wg1.")
    alone = house(f"'json:$.t > {selector}': {SECRET}")
    assert refused(lambda: leaves(alone, t=text)) == "field_unknown"


@pytest.mark.parametrize("pattern", ["tel:([0-9]*)", "(?:none|tel:([0-9]+))"])
def test_an_empty_match_does_not_switch_a_pattern_off(pattern: str) -> None:
    within = "json:$.t > within:tel: {class: secret, as: s}\njson:$.t > within:rest: {action: allow, because: x}"
    it = house(f"json:$.t: {SECRET}\n{within}", more=f"patterns: {{tel: '{pattern}'}}\n")
    for text in ("tel: x tel:13800138000 x", "none x tel:13800138000 x"):
        assert "13800138000" not in leaves(it, t=text)["t"]


# --- whose word counts


@pytest.mark.parametrize("rule", ["refuse", "drop", "{class: veiled}"])
def test_a_rule_for_the_field_goes_before_a_star_that_looks_into_any(rule: str) -> None:
    veiled = "classes:\n  veiled: {action: redact, text: gone}"
    it = House(compiled(rules(f"json:$.a: {rule}", f"json:$.* > json:$.x: {PHONE}").replace("classes:", veiled)))
    text = '{"x":"13800138000"}'
    if rule == "refuse":
        assert refused(lambda: leaves(it, a=text)) == "field_refused"
    else:
        assert leaves(it, a=text, b=text) == ({} if rule == "drop" else {"a": "gone"}) | {"b": '{"x":"*******8000"}'}


def test_a_message_s_own_rule_goes_before_a_common_one_for_its_inside() -> None:
    common = "common:\n  - direction: agent\n    request: {'json:$.a > json:$.x': {action: allow, because: x}}\n"
    it = House(compiled(rules(f"json:$.a: {SECRET}").replace("messages:", common + "messages:")))
    assert leaves(it, a='{"x":"SECRET"}')["a"].startswith("wg1.")


@pytest.mark.parametrize(
    "selector",
    ["json:$.text.content > json:$.touser", "json:$.a > form:openid", "query:q > form:openid", "json:$.x.touser"],
)
def test_an_addressee_stands_where_the_api_takes_one(selector: str) -> None:
    text = f"""version: 1
classes: {{id: {{action: encrypt, deterministic: true}}}}
messages:
  - {{name: in, direction: inbound, match: {{type: text}}, request: {{'xml:/xml/From': {{class: id, as: told}}}}}}
  - name: out
    direction: outbound
    match: {{method: POST, path: /send}}
    request: {{'{selector}': {{class: id, as: told, reveal: {{'*': plain}}}}}}
"""
    assert codes(text) == ["reveal-oracle"]


# --- tokens in sentences

SENTENCE = (
    "xml:/xml/Content: {class: secret, as: whole}\nxml:/xml/Content > within:mention: {class: secret, as: s}\n"
    "xml:/xml/Content > within:rest: {action: allow, because: x}"
)


def test_a_follower_plants_no_look_alike_among_clear_words() -> None:
    """The CRM's answer with it would be refused whenever an agent reads it."""
    it = house(SENTENCE, direction="inbound")

    def content(text: str) -> str:
        push = read_xml(f"<xml><Content>{text}</Content></xml>".encode())
        return it.carry(it.policy.pushes["xml", "text"], push).body.decode()

    assert content("hi @Li").startswith("<xml><Content>hi @wg1.")
    planted = content("hi @Li wg1.aaaaaaaaaaaaaaaaaaaaaaaa")
    assert planted.startswith("<xml><Content>wg1.") and "hi" not in planted


def test_what_was_sealed_whole_is_read_whole() -> None:
    fields = "json:$.t: {class: secret, as: whole%s}\njson:$.t > within:%s: {class: secret, as: s%s}\n"
    rest = "json:$.t > within:rest: {action: allow, because: x}"
    writer = house(fields % ("", "mention", "") + rest)
    reveal = ", reveal: {'*': plain}"
    reader = house(fields % (reveal, "token", reveal) + rest, phase="response")
    for text in ("@a " * 70, "hi @Li\u2005, ok", "@", "x" * 9000, ""):
        sealed = leaves(writer, t=text)["t"]
        rules_of = call(reader, response=True)
        document = read_body(json.dumps({"t": sealed}).encode())
        assert json.loads(reader.carry(rules_of, document, keys=writer.keys).body) == {"t": text}


@pytest.mark.parametrize("rule", ["drop", "{class: secret, as: s, on_error: drop}"])
def test_parts_are_not_dropped(rule: str) -> None:
    assert codes(rules(f"json:$.t > within:mention: {rule}", "json:$.t > within:rest: refuse")) == ["part-action"]


# --- what it costs


def test_texts_are_read_within_bounds_whatever_comes_of_it() -> None:
    it = house(f"'json:$.t[*] > json:$[*]': {SECRET}\njson:$.t[*]: {{class: secret, as: w}}")
    broken = "[" + "1," * 1998 + "x"
    few, many = (read_body(json.dumps({"t": [broken] * number}).encode()) for number in (8, MOST_INSIDE // 4000 + 2))
    assert len(draft_plan(it.policy, call(it), few, "", "").steps) == 8
    assert refused(lambda: draft_plan(it.policy, call(it), many, "", "")) == "document_too_large"


def test_sentences_are_searched_within_bounds() -> None:
    names = "abcdef"
    lines = [
        f"json:$.{n} > within:{what}"
        for n in names
        for what in ("mention: refuse", "rest: {action: allow, because: x}")
    ]
    it = house("\n".join(lines))
    few, many = (read_body(json.dumps(dict.fromkeys(part, "字" * 8000)).encode()) for part in (names[:4], names))
    assert len(draft_plan(it.policy, call(it), few, "", "").steps) == 8
    assert refused(lambda: draft_plan(it.policy, call(it), many, "", "")) == "document_too_large"


# --- what diff says

REST = "json:$.t > within:rest: {action: allow, because: x}"


def test_other_patterns_are_told_as_weaker() -> None:
    text = rules(f"json:$.t > within:tel: {SECRET}", REST).replace("classes:", "patterns: {tel: '1[0-9]+'}\nclasses:")
    (change,) = diff_policies(compiled(text), compiled(text.replace("1[0-9]+", "NEVER")))
    assert (change.selector, change.before, change.after, change.weaker) == (
        "json:$.t", "within: tel 1[0-9]+", "within: tel NEVER", True,
    )  # fmt: skip


def test_a_name_that_opens_a_text_for_its_siblings_is_told_as_weaker() -> None:
    allowed = "json:$.t > json:$.x: {action: allow, because: x}"
    one = compiled(rules(f"json:$.t: {SECRET}", allowed))
    two = compiled(rules(f"json:$.t: {SECRET}", allowed, "json:$.t > json:$.y: drop"))
    (change,) = diff_policies(one, two)
    assert (change.selector, change.weaker) == ("json:$.t > json:$.y", True)


def test_looking_into_fields_a_star_means_is_told() -> None:
    whole, inside = f"json:$.*: {SECRET}", f"json:$.* > json:$.x: {PHONE}"
    (change,) = diff_policies(compiled(rules(whole)), compiled(rules(whole, inside)))
    assert (change.selector, change.after) == ("json:$[*] > json:$.x", "mask; mask: first 0, last 4")


def test_lengths_are_for_fields_that_stay_whole() -> None:
    fits = "{class: secret, as: a, fits: crm:A.B__c, max: 20}"
    assert codes(rules(f"json:$.t: {fits}", f"json:$.t > json:$.x: {SECRET}")) == ["fits-action"]
    assert HEAD
