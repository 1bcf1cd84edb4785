"""Rules for what stands inside a text: JSON in CDATA, base64 in JSON, tokens and mentions in a sentence."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.document.json_body import read_json
from proxy.document.tree import Into
from proxy.document.xml_body import read_xml
from proxy.policy.explain import Occasion, explain, pattern_text, with_tokens
from proxy.policy.plan import Treatment, make_plan
from proxy.policy.rules import Direction, Phase, RuleSet
from proxy.policy.selector import Table, parse_selector
from proxy.policy.shadow import compare
from proxy.wechat.push import read_body
from tests.policy.build import House, codes, compiled, problems, refused

HEAD = """version: 1
classes:
  secret: {action: encrypt}
  phone: {action: mask, mask: {keep_last: 4}}
  fixed: {action: encrypt, deterministic: true}
"""


def house(rules: str, *, direction: str = "agent", phase: str = "request", more: str = "") -> House:
    match = "{type: text}" if direction == "inbound" else "{method: POST, path: /m}"
    lines = "".join(f"      {line}\n" for line in rules.strip().splitlines())
    message = f"messages:\n  - name: m\n    direction: {direction}\n    match: {match}\n    {phase}:\n{lines}"
    return House(compiled(HEAD + more + message))


def call(it: House, *, response: bool = False) -> RuleSet:
    return it.rules(Direction.AGENT, "POST", "/m", response=response)


SECRET = "{class: secret, as: s}"
JSON_IN_XML = f"""
xml:/xml/MsgType: allow
xml:/xml/Content: {SECRET}
'xml:/xml/Content > json:$.order.phone': {{class: phone}}
'xml:/xml/Content > json:$.order.id': {{action: allow, because: order numbers are public}}
'xml:/xml/Content > json:$.notes[*]': {SECRET}
"""


def push(it: House, content: str) -> str:
    body = f"<xml><MsgType>text</MsgType><Content><![CDATA[{content}]]></Content></xml>"
    return it.carry(it.policy.pushes["xml", "text"], read_xml(body.encode())).body.decode()


def content_of(body: str) -> str:
    return read_xml(body.encode()).leaves[1].text


def test_json_inside_a_cdata_section_has_rules_of_its_own() -> None:
    it = house(JSON_IN_XML, direction="inbound")
    text = '{"order": {"phone": "13800138000", "id": 7},  "notes": ["a", "b"]}'
    out = content_of(push(it, text))
    inner = json.loads(out)
    assert inner["order"] == {"phone": "*******8000", "id": 7}
    assert all(note.startswith("wg1.") for note in inner["notes"])
    assert out.startswith('{"order": {"phone": "*******8000", "id": 7},  "notes": ["wg1.')  # the rest as it came


@pytest.mark.parametrize(
    "text",
    [
        "hello", '{"order": {"id": 7}, "more": 1}', '{"order": {"id": 7}, "": 1}', '{"order": 7}', "{}", "7",
        '{"order": {"id": 7}} trailing', '{"order": {"id": [7]}}',
    ],
)  # fmt: skip
def test_a_text_that_does_not_fit_its_inner_rules_is_one_value(text: str) -> None:
    """Names are their writer's words too: with an unknown one the whole text is sealed."""
    out = content_of(push(house(JSON_IN_XML, direction="inbound"), text))
    assert out.startswith("wg1.") and "order" not in out


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ("json:$.*", '{"words": "x"}'), ("json:$.a.*", '{"a": {"words": 1}}'), ("xml:/m/*", "<m><words>x</words></m>"),
        ("json:$.* > json:$.b", r'{"words": "{\"b\":1}"}'), ("json:$.a > json:$.*", r'{"a": "{\"words\":1}"}'),
    ],
)  # fmt: skip
def test_a_star_inside_a_text_stands_for_positions_not_for_a_writer_s_names(selector: str, text: str) -> None:
    it = house(f"json:$.t: {SECRET}\n'json:$.t > {selector}': {SECRET}")
    out = json.loads(it.json(call(it), json.dumps({"t": text})))["t"]
    assert out.startswith("wg1.")


def test_a_star_outside_of_the_text_stands_for_any_name() -> None:
    it = house(f"'json:$.* > json:$[*].a': {SECRET}")
    out = json.loads(it.json(call(it), json.dumps({"any": '[{"a": "x"}, {"a": "y"}]'})))["any"]
    assert [item["a"][:4] for item in json.loads(out)] == ["wg1.", "wg1."]


def test_without_a_rule_for_the_whole_what_does_not_fit_is_unknown() -> None:
    it = house("'json:$.a > json:$.x': {action: allow, because: x}")
    assert it.json(call(it), r'{"a": "{\"x\":1}"}') == r'{"a": "{\"x\":1}"}'
    assert refused(lambda: it.json(call(it), '{"a": "secret"}')) == "field_unknown"
    sealed = house("'json:$.a > json:$.x': {action: allow, because: x}", more="defaults: {unmatched: encrypt}\n")
    assert json.loads(sealed.json(call(sealed), '{"a": "secret"}'))["a"].startswith("wg1.")


@given(st.recursive(st.text(max_size=6), lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=3)))
def test_nothing_a_writer_thinks_of_passes_in_clear(value: object) -> None:
    it = house(f"json:$.a: {SECRET}\n'json:$.a > json:$.x': {SECRET}")
    marked = json.dumps(value, ensure_ascii=False).replace('"', '"M@RK')
    out = it.json(call(it), json.dumps({"a": marked}, ensure_ascii=False))
    assert "M@RK" not in out


def test_base64_inside_json_with_json_inside() -> None:
    it = house(f"'json:$.p > base64:text > json:$.name': {SECRET}\n'json:$.q > base64:text': {{class: phone}}")
    inner = base64.b64encode(b'{"name":"Li"}').decode()
    phone = base64.b64encode(b"13800138000").decode()
    out = json.loads(it.json(call(it), json.dumps({"p": inner, "q": phone})))
    assert json.loads(base64.b64decode(out["p"]))["name"].startswith("wg1.")
    assert base64.b64decode(out["q"]) == b"*******8000"


def test_xml_and_forms_inside() -> None:
    it = house(f"'json:$.x > xml:/m/n': {SECRET}\n'json:$.f > form:phone': {{class: phone}}")
    out = json.loads(it.json(call(it), '{"x": "<m><n>Li</n></m>", "f": "phone=13800138000"}'))
    assert out["x"].startswith("<m><n>wg1.")
    assert out["f"] == "phone=%2A%2A%2A%2A%2A%2A%2A8000"


def test_the_inside_of_a_query_parameter() -> None:
    it = house("'query:q > json:$.phone': {class: phone}")
    carried = it.carry(call(it), None, query="q=%7B%22phone%22%3A%2213800138000%22%7D")
    assert carried.query == "q=%7B%22phone%22%3A%22%2A%2A%2A%2A%2A%2A%2A8000%22%7D"


SENTENCE = """
json:$.t > within:token: {class: secret, as: s, reveal: {'*': plain}}
json:$.t > within:rest: {action: allow, because: the CRM's own words}
"""


def test_a_token_inside_a_sentence_is_revealed() -> None:
    it = house(f"json:$.t: {SECRET}")
    token = json.loads(it.json(call(it), '{"t": "李娜"}'))["t"]
    reader = House(house(SENTENCE, phase="response").policy)
    out = reader.carry(
        call(reader, response=True), read_json(json.dumps({"t": f"您好 {token}，再见"}).encode()), keys=it.keys
    )
    assert json.loads(out.body)["t"] == "您好 李娜，再见"


def test_a_token_in_a_sentence_that_does_not_open_refuses_the_message() -> None:
    it = house(SENTENCE, phase="response")
    body = json.dumps({"t": f"hello wg1.{'A' * 100}"})
    assert refused(lambda: it.json(call(it, response=True), body)) == "token_refused"


def test_mentions_in_a_message() -> None:
    it = house(
        f"json:$.t > within:mention: {SECRET}\n"
        "json:$.t > within:phone: {class: phone}\n"
        "json:$.t > within:rest: {action: allow, because: x}",
        more="patterns: {phone: '\\b1[3-9][0-9]{9}\\b'}\n",
    )
    out = json.loads(it.json(call(it), '{"t": "问 @李娜 13800138000 好"}'))["t"]
    assert out.startswith("问 @wg1.") and out.endswith(" *******8000 好")
    assert json.loads(it.json(call(it), '{"t": ""}'))["t"] == ""


def test_a_sentence_of_parts_only() -> None:
    it = house(f"json:$.t > within:token: {SECRET}\njson:$.t > within:rest: refuse")
    assert refused(lambda: it.json(call(it), '{"t": "free words"}')) == "field_refused"


def test_a_datum_inside_a_text_can_be_bound_to() -> None:
    rules = f"'json:$.a > json:$.id': {{class: fixed, as: id}}\njson:$.t: {SECRET.replace('}', ', bind: [id]}')}"
    it = house(rules)
    one, two = (it.json(call(it), json.dumps({"a": f'{{"id":"{name}"}}', "t": "x"})) for name in ("i", "j"))
    assert "wg1." in one and "wg1." in two


def test_the_leaves_of_all_texts_together_are_bounded() -> None:
    it = house(f"'json:$.a[*] > json:$[*]': {SECRET}")
    inner = json.dumps([1] * 100)
    assert it.json(call(it), json.dumps({"a": [inner] * 19}))
    assert refused(lambda: it.json(call(it), json.dumps({"a": [inner] * 20}))) == "document_too_large"


# --- what authors are told


@pytest.mark.parametrize(
    "selector",
    [
        "json:$.a > ", "json:$.a > b", "json:$.a > query:x", "json:$.a > json:", "json:$.a > base64:x",
        "json:$.a > within:", "json:$.a > within:A", "path:id > json:$.a", "header:x-a > json:$.a",
        "json:$.a" + " > base64:text" * 4,
    ],
)  # fmt: skip
def test_what_is_no_selector_of_an_inside(selector: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_selector(selector)


@pytest.mark.parametrize(
    "text",
    [
        "xml:/xml/Content > json:$.order.phone", "json:$.a[*] > base64:text > json:$['b c']",
        "json:$.t > within:rest", "query:q > form:a", "form:f > xml:/a/*",
    ],
)  # fmt: skip
def test_a_selector_is_written_as_it_is_read(text: str) -> None:
    selector = parse_selector(text)
    assert pattern_text(selector.form, selector.pattern) == text


def test_a_wildcard_stands_for_names_not_for_an_inside() -> None:
    table: Table[str] = Table()
    table.add(parse_selector("json:$.a.*.*").pattern, "outer")
    assert table.find(("a", "b", "c")) == "outer"
    assert table.find(("a", Into.JSON, "c")) is None


def rules(*lines: str) -> str:
    text = "".join(f"      {line}\n" for line in lines)
    return (
        HEAD
        + f"messages:\n  - name: m\n    direction: agent\n    match: {{method: POST, path: /m}}\n    request:\n{text}"
    )


def test_one_text_is_looked_into_in_one_way() -> None:
    assert codes(rules("json:$.a > json:$.x: drop", "json:$.a > xml:/m/x: drop")) == ["inside-mixed"]


def test_a_pattern_must_be_there() -> None:
    found = problems(rules("json:$.a > within:mentoin: refuse", "json:$.a > within:rest: refuse"))
    assert [(problem.code, "mention" in problem.fix) for problem in found] == [("pattern-unknown", True)]


@pytest.mark.parametrize("line", ["drop", "{class: secret, as: s}", "{class: phone}"])
def test_the_rest_is_allowed_or_refused(line: str) -> None:
    assert codes(rules(f"json:$.a > within:rest: {line}")) == ["rest-action"]


def test_allow_inside_a_text_needs_a_reason() -> None:
    policy = compiled(rules("json:$.a > json:$.x: allow"))
    assert [problem.code for problem in policy.warnings] == ["allow-inside"]
    assert compiled(rules("json:$.a > json:$.x: {action: allow, because: fixed words}")).warnings == ()


def test_fits_is_for_a_whole_field() -> None:
    assert codes(rules("json:$.a > json:$.x: {class: secret, as: s, fits: crm:A.B__c}")) == ["fits-action"]


def test_companions_need_names_beside_them() -> None:
    assert codes(rules("json:$.a > base64:text: {class: secret, as: s, write: {b: token}}")) == ["write-place"]
    it = house("json:$.a > json:$.p: {class: secret, as: s, write: {q: token}}")
    assert '\\"q\\":\\"wg1.' in it.json(call(it), r'{"a": "{\"p\":\"x\"}"}')


@pytest.mark.parametrize(
    ("patterns", "code"),
    [
        ("{A: a}", "pattern-malformed"), ("{rest: a}", "pattern-malformed"), ("{token: a}", "pattern-malformed"),
        ("{a: '('}", "pattern-malformed"), ("{a: [x]}", "wrong-type"), ("[a]", "wrong-type"),
        ("{" + ", ".join(f"p{n}: a" for n in range(40)) + "}", "pattern-malformed"),
    ],
)  # fmt: skip
def test_patterns_that_are_none(patterns: str, code: str) -> None:
    assert code in codes(f"version: 1\npatterns: {patterns}\n")


# --- the tools see inside as production does


def test_explain_tells_of_the_text_and_of_what_stands_inside() -> None:
    it = house(JSON_IN_XML, direction="inbound")
    text = '{"order": {"phone": "13800138000", "id": 7}}'
    body = read_xml(f"<xml><MsgType>text</MsgType><Content>{text}</Content></xml>".encode())
    where = Occasion(Direction.INBOUND, Phase.REQUEST)
    told = explain(it.policy, it.policy.pushes["xml", "text"], body, where, it.keys, it.entropy)
    assert [(row.selector, row.treatment) for row in told.rows] == [
        ("xml:/xml/MsgType", Treatment.ALLOWED),
        ("xml:/xml/Content", Treatment.LOOKED_INTO),
        ("xml:/xml/Content > json:$.order.phone", Treatment.MASKED),
        ("xml:/xml/Content > json:$.order.id", Treatment.ALLOWED),
    ]


def test_what_cannot_be_carried_out_inside_is_told_where_it_is() -> None:
    it = house("json:$.t > within:digit: {class: secret, as: s}\njson:$.t > within:rest: {action: allow, because: x}",
               more="patterns: {digit: '[0-9]'}\n")  # fmt: skip
    where = Occasion(Direction.AGENT, Phase.REQUEST, "POST", "/m")
    told = explain(it.policy, call(it), read_json(b'{"t":"x1"}'), where, it.keys, it.entropy)
    assert told.refusal == "value_refused"


def test_clear_values_inside_become_tokens_first() -> None:
    it = house(f"json:$.t > json:$.a: {SECRET[:-1]}, reveal: {{'*': plain}}}}", phase="response")
    where = Occasion(Direction.AGENT, Phase.RESPONSE, "POST", "/m")
    body = read_json(rb'{"t":"{\"a\":\"x\"}"}')
    protected, _ = with_tokens(it.policy, call(it, response=True), body, where, it.keys, read_body, it.entropy)
    assert protected is not None and "wg1." in protected.source
    told = explain(it.policy, call(it, response=True), protected, where, it.keys, it.entropy)
    assert told.carried is not None and told.carried.body == body.source.encode()


def test_a_next_policy_that_looks_into_a_text_differs_where_it_does() -> None:
    now, then = house(f"json:$.a: {SECRET}"), house(f"json:$.a: {SECRET}\njson:$.a > json:$.x: drop")
    where = Occasion(Direction.AGENT, Phase.REQUEST, "POST", "/m")
    plan = make_plan(now.policy, call(now), read_json(rb'{"a":"{\"x\":1}"}'), "", "")
    assert [(item.selector, item.now, item.then) for item in compare(plan, then.policy, where, "")] == [
        ("json:$.a", "encrypted secret s", "looked into"),
        ("json:$.a > json:$.x", "not looked into", "dropped"),
    ]
    plain = make_plan(now.policy, call(now), read_json(b'{"a":"words"}'), "", "")
    assert compare(plain, then.policy, where, "") == ()
