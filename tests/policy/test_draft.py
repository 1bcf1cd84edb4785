"""A first policy from samples: it compiles, knows every field of them, opens nothing and holds no value of theirs."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.document.json_body import read_json
from proxy.document.tree import Document
from proxy.document.xml_body import read_xml
from proxy.policy.compile import compile_policy
from proxy.policy.compiled import Policy
from proxy.policy.draft import ENVELOPE, KNOWN, DraftError, Sample, Shape, draft_policy
from proxy.policy.explain import Occasion, find_rules
from proxy.policy.plan import draft_plan
from proxy.policy.rules import Action, Direction, Phase, Rule
from proxy.wechat.push import message_type, read_body

POLICIES = Path(__file__).parents[2] / "policies"
BASE = (POLICIES / ENVELOPE).read_bytes()
PUSH = Shape(Direction.INBOUND, Phase.REQUEST, "draft")
CALL = Shape(Direction.AGENT, Phase.REQUEST, "draft", "POST", "/data/{version}/Case")


def compiled(text: str) -> Policy:
    return compile_policy("draft.yaml", lambda name: BASE if name == ENVELOPE else text.encode())


def own_rules(policy: Policy) -> list[Rule]:
    """The rules of the draft itself."""
    calls = [rules for call in policy.calls for rules in (call.request, call.response)]
    sets = [*policy.pushes.values(), *policy.replies.values(), *calls]
    return [rule for rules in sets for rule in rules.rules if rule.place.file == "draft.yaml"]


def drafted(samples: Sequence[Sample], shape: Shape) -> str:
    """The draft, after everything it promises has been looked at."""
    text = draft_policy(samples, shape)
    policy = compiled(text)
    for sample in samples:
        where = Occasion(shape.direction, shape.phase, shape.method, re.sub(r"\{\w+\}", "x", shape.path))
        rules = find_rules(policy, where, sample.document.form, sample.kind)
        steps = draft_plan(policy, rules, sample.document, "", "").steps
        assert {step.code for step in steps if step.rule.place.file != ENVELOPE} <= {"", "field_refused"}
    assert all(rule.reveal is None for rule in own_rules(policy))
    allowed = [rule for rule in own_rules(policy) if rule.action is Action.ALLOW]
    assert all(rule.selector and rule.selector.pattern[-1] == "MsgType" for rule in allowed)
    assert [value for value in values(samples) if any(value in name.casefold() for name in names(policy))] == []
    return text


def names(policy: Policy) -> set[str]:
    """All that a draft has from its samples: names in selectors."""
    patterns = [rule.selector.pattern for rule in own_rules(policy) if rule.selector]
    return {part for pattern in patterns for part in pattern if isinstance(part, str)}


def values(samples: Sequence[Sample]) -> set[str]:
    leaves = [leaf for sample in samples for leaf in sample.document.leaves]
    types = (("xml", "MsgType"), ("xml", "Event"), ("MsgType",), ("Event",), ("msgtype",))
    told = [leaf.text for leaf in leaves if leaf.path not in types]
    return {text.casefold() for text in told if len(text) > 3}


def push(data: str | bytes) -> Sample:
    document = read_body(data.encode() if isinstance(data, str) else data)
    return Sample(document, message_type(document))


def call(value: object) -> Sample:
    return Sample(read_json(json.dumps(value, ensure_ascii=False).encode()))


def rule_lines(value: object) -> dict[str, str]:
    """Selector to treatment, as drafted for one body of a call."""
    lines = drafted([call(value)], CALL).splitlines()
    found = (re.fullmatch(r"      (json:.*?): (.*)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def shipped() -> list[tuple[Path, Document]]:
    files = [file for file in sorted(POLICIES.glob("samples/**/*")) if file.suffix in (".xml", ".json")]
    return [(file, read_body(file.read_bytes())) for file in files]


def test_every_shipped_push_alone_and_all_together() -> None:
    pushes = [push(file.read_bytes()) for file, document in shipped() if _is_push(document)]
    assert len(pushes) > 150
    for sample in pushes:
        drafted([sample], PUSH)
    drafted(pushes, PUSH)


def test_every_shipped_message_of_a_crm() -> None:
    bodies = [Sample(document) for _, document in shipped() if not _is_push(document)]
    assert len(bodies) > 10
    for sample in bodies:
        for phase in Phase:
            for direction in (Direction.OUTBOUND, Direction.AGENT):
                drafted([sample], Shape(direction, phase, "draft", "POST", "/data/{version}/Case"))


def _is_push(document: Document) -> bool:
    return document.single("xml", "MsgType") is not None or document.single("MsgType") is not None


def test_what_the_envelope_knows_is_left_to_it() -> None:
    policy = compile_policy(
        "p", lambda _: BASE + b"messages:\n" + b"".join(map(_message, (("type", "request"), ("reply", "response"))))
    )
    for phase, sets in ((Phase.REQUEST, policy.pushes), (Phase.RESPONSE, policy.replies)):
        for form, root in (("xml", ("xml",)), ("json", ())):
            found = {rule.selector.pattern for rule in sets[form, "x"].rules if rule.selector}
            assert found - {(*root, "own")} == {(*root, name) for name in KNOWN[phase]}


def _message(what: tuple[str, str]) -> bytes:
    entry = "  - {{name: {2}-{0}, direction: inbound, match: {{{0}: x}}, {1}: {{{3}: drop}}}}\n"
    both = (("xml", "xml:/xml/own"), ("json", "json:$.own"))
    return "".join(entry.format(*what, form, selector) for form, selector in both).encode()


def test_a_draft_in_full() -> None:
    text = drafted([push((POLICIES / "samples" / "location.xml").read_bytes())], PUSH)
    assert text.splitlines()[3:] == [
        "version: 1",
        "extends: [wechat-envelope.yaml]",
        "defaults: {unmatched: refuse}",
        "",
        "classes:",
        "  person.position: {action: encrypt}",
        "  content.text: {action: encrypt}",
        "",
        "messages:",
        "  - name: draft-location",
        "    direction: inbound",
        "    match: {type: location}",
        "    request:",
        "      xml:/xml/Location_X: {class: person.position, as: person.position}",
        "      xml:/xml/Location_Y: {class: person.position, as: person.position}",
        "      xml:/xml/Scale: refuse  # to decide: a short word or number",
        "      xml:/xml/Label: {class: content.text, as: content.text}",
    ]


def test_a_push_with_the_protocols_own_fields_alone() -> None:
    text = drafted([push('{"MsgType":"x","FromUserName":"o1234567890123456789012345678"}')], PUSH)
    assert "json:$.MsgType: allow" in text


def test_a_reply_has_no_reveal_by_guess() -> None:
    reply = push("<xml><ToUserName>o1</ToUserName><MsgType>text</MsgType><Content>Guten Tag</Content></xml>")
    text = drafted([reply], Shape(Direction.INBOUND, Phase.RESPONSE, "draft"))
    assert "match: {reply: text}" in text
    assert "reveal" not in text.partition("version")[2]


@pytest.mark.parametrize("kind", ["null", "TRUE", "_", "a-b", "a" * 40])
@pytest.mark.parametrize("form", ["xml", "json"])
def test_types_that_yaml_could_take_for_something_else(kind: str, form: str) -> None:
    xml = f"<xml><MsgType>event</MsgType><Event>{kind}</Event></xml>"
    body = xml if form == "xml" else json.dumps({"MsgType": kind})
    drafted([push(body)], Shape(Direction.INBOUND, Phase.REQUEST, "d" * 32))


def test_samples_of_one_message_are_one_entry_with_the_gravest_guess() -> None:
    one, two = call({"a": "x", "b": [1]}), call({"a": "13800138000", "b": ["e@x.de", 2], "c": None})
    text = drafted([one, two], CALL)
    assert text.count("- name:") == 1
    assert "json:$.a: {class: person.phone, as: person.phone}" in text
    assert "json:$.b[*]: {class: person.email, as: person.email}" in text
    assert "json:$.c: refuse" in text
    assert set(text.splitlines()) == set(drafted([two, one], CALL).splitlines())


def test_positions_and_hidden_names_are_one_selector() -> None:
    assert list(rule_lines({"a": {"13800138000": "x y"}})) == ["json:$.a[*]"]
    assert list(rule_lines([{"a": {"b c": 1}}, {"a": {"b c": 2}}])) == ["json:$[*].a['b c']"]
    mixed = drafted([call({"a": {"13800138000": "x y"}}), call({"a": ["x y"]})], CALL)
    assert mixed.count("json:$.a[*]") == 1


@pytest.mark.parametrize(
    "name",
    [
        *(
            "13800138000",
            "oyORnuP8q7ou2gfYjqLzSIWZf0rs",
            "li@example.com",
            "5003000000D8cuIAAR",
            "张三",
            "",
            " ",
            "a" * 65,
        ),
        *(
            "a'b",
            'a"b',
            "a\\b",
            "a\nb",
            "a: b",
            "a #b",
            "*",
            "a]",
            "$",
            "\u202ea",
            "{a}",
            "<<",
            "~",
            "? a",
            "- a",
            "é",
            "a ",
        ),
    ],
)
def test_a_name_that_is_a_value_or_no_word_is_a_star(name: str) -> None:
    for body in ({name: 1}, {"list": [{name: {"x": "y"}}]}, {"a": {name: []}}):
        selectors = list(rule_lines(body))
        assert all("[*]" in selector for selector in selectors)


def test_a_name_that_says_what_a_value_says_is_a_star() -> None:
    found = rule_lines({"Zhang": {"age": 1}, "by_zhang": "x", "person": {"event": "Zhang"}, "abc": "abc"})
    assert set(found) == {"json:$[*].age", "json:$[*]", "json:$.person.event", "json:$.abc"}


def test_the_type_of_a_message_may_be_the_name_of_a_field() -> None:
    assert set(rule_lines({"msgtype": "text", "text": {"content": "Guten Tag"}})) == {
        "json:$.msgtype",
        "json:$.text.content",
    }


def test_no_value_is_in_the_draft_whatever_the_field() -> None:
    names = ["Phone", "email", "Id", "x", "openid", "MediaId", "lat", "Content", "date", "amount", "Status", "token"]
    texts = [
        "13812345678",
        "s3ntinel@ex.de",
        "Zz9Qx7Kp",
        "Zz9 Qx7 Kp",
        "2024-12-31",
        "99.95",
        "王小明",
        "https://q.example/Zz9",
    ]
    for text in texts:
        draft = drafted([call(dict.fromkeys(names, text) | {"more": [[text], {"y": text}]})], CALL)
        assert text not in draft
        xml = "".join(f"<{name}>{text}</{name}>" for name in names)
        assert text not in drafted([push(f"<xml><MsgType>text</MsgType>{xml}</xml>")], PUSH)


@pytest.mark.parametrize(
    ("samples", "shape", "message"),
    [
        ([call({})], CALL, "has no fields"),
        ([call([])], CALL, "has no fields"),
        ([Sample(read_xml(b"<xml>words</xml>"))], CALL, "has no fields"),
        ([call({"a": 1}), Sample(read_xml(b"<xml><a>1</a></xml>"))], CALL, "several formats"),
        ([push("<xml><MsgType>13800138000</MsgType></xml>")], PUSH, "looks like a value"),
        ([push('{"MsgType": "0x1f"}')], PUSH, "looks like a value"),
        (
            [push("<xml><MsgType>event</MsgType><Event>oyORnuP8q7ou2gf</Event></xml>")],
            PUSH,
            "like a value",
        ),
        ([call({"a": 1})], Shape(Direction.AGENT, Phase.REQUEST, "d", "GET", "/data/5003000000D8cuIAAR"), "a variable"),
    ],
)
def test_what_nothing_can_be_drafted_from(samples: list[Sample], shape: Shape, message: str) -> None:
    with pytest.raises(DraftError, match=message) as error:
        draft_policy(samples, shape)
    assert not any(value in str(error.value) for value in values(samples))


def test_variables_of_the_path_are_to_be_decided() -> None:
    for phase in Phase:
        text = drafted([call({"a": 1})], Shape(Direction.AGENT, phase, "d", "GET", "/data/{version}/Case/{id}"))
        assert "path:version: refuse  # to decide" in text
        assert "path:id: refuse  # to decide" in text


_NAMES = st.sampled_from(["a", "Phone", "x y", "@t", "Ab_c", "1", "*", "[*]", "张"]) | st.text(max_size=6)
_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(["13800138000", "a@b.de"])
_TREES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4), max_leaves=12
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(_NAMES, _TREES, min_size=1, max_size=4), min_size=1, max_size=3))
def test_any_samples_make_a_policy_that_knows_them(bodies: list[object]) -> None:
    drafted([call(body) for body in bodies], CALL)


def test_the_largest_samples_take_bounded_time() -> None:
    wide = {f"field{'abcdefghij'[n % 10] * (n // 40)}_{n % 1000}": "v" * 8 for n in range(1990)}
    drafted([call(wide)], CALL)
