"""The plan: every leaf decided, by one rule or by what the policy says of the others. Nothing is clear by silence.

The property tests build random policies and random documents, and judge the result by other means than the code does:
a rule is found by brute force, clear values are markers that are searched for in the bytes that leave.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto import field_token
from proxy.crypto.data_key import Purpose
from proxy.document.json_body import read_json
from proxy.document.tree import Document
from proxy.document.xml_body import read_xml
from proxy.policy.plan import Treatment, draft_plan, make_plan
from proxy.policy.rules import Direction, RuleSet
from proxy.policy.selector import ANY, Pattern
from proxy.refusal import Refusal
from tests.policy.build import House, compiled, refused

CLASSES = """version: 1
defaults: {unmatched: UNMATCHED}
classes:
  secret: {action: encrypt}
  id: {action: encrypt, deterministic: true}
  veiled: {action: mask, mask: {keep_first: 1, keep_last: 2}}
"""
RULES = {
    "allow": "allow",
    "drop": "drop",
    "refuse": "refuse",
    "encrypt": "{class: secret, as: secret}",
    "equal": "{class: id, as: id}",
    "mask": "{class: veiled}",
}
NAMES = ["a", "b", "c"]
Segments = tuple[str | int, ...]


# --- random policies


def selector(form: str, pattern: Pattern) -> str:
    if form == "xml":
        return "xml:/" + "/".join("*" if segment is ANY else str(segment) for segment in pattern)
    parts = ["[*]" if segment is ANY else f"[{json.dumps(segment).replace(chr(34), chr(39))}]" for segment in pattern]
    return "json:$" + "".join(parts)


@st.composite
def rules(draw: st.DrawFn, form: str) -> dict[Pattern, str]:
    names: list[st.SearchStrategy[object]] = [st.sampled_from(NAMES), st.just(ANY)]
    if form == "json":
        names += [st.integers(0, 2), st.just("*"), st.just("0")]
    tails = draw(st.lists(st.lists(st.one_of(names), min_size=1, max_size=3).map(tuple), max_size=14, unique=True))
    found = {}
    for tail in tails:
        pattern = ("xml", *tail) if form == "xml" else tail
        actions = [name for name in RULES if name != "allow" or ANY not in pattern]
        found[pattern] = draw(st.sampled_from(actions))
    return found


def policy_text(form: str, found: dict[Pattern, str], unmatched: str) -> str:
    lines = "".join(f'      "{selector(form, pattern)}": {RULES[action]}\n' for pattern, action in found.items())
    # One rule at least says which form the body has; no document of these tests has such a field.
    lines += f"      {'xml:/xml/never' if form == 'xml' else 'json:$.never'}: drop\n"
    head = "messages:\n  - name: m\n    direction: inbound\n    match: {type: text}\n    request:\n"
    return CLASSES.replace("UNMATCHED", unmatched) + head + lines


def rule_for(found: dict[Pattern, str], path: Segments) -> str | None:
    """The action of the most specific fitting pattern: left to right, a name before `*`."""
    fitting = [
        pattern
        for pattern in found
        if len(pattern) == len(path)
        and all(
            want is ANY or (want == have and type(want) is type(have)) for want, have in zip(pattern, path, strict=True)
        )
    ]
    best = min(fitting, key=lambda pattern: [segment is ANY for segment in pattern], default=None)
    return None if best is None else found[best]


# --- random documents, every value a marker of its own


@dataclass
class Written:
    """A document, and its leaves in order: path, what stands there, whether it can be searched for."""

    body: bytes
    leaves: list[tuple[Segments, str, bool]]


SHAPES = st.recursive(
    st.sampled_from(["text", "number", "null", "true", "empty"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*NAMES, "*", "0", "x y"]), inner, max_size=4),
    ),
    max_leaves=12,
)
XML_SHAPES = st.recursive(
    st.sampled_from(["text", "cdata", "blank", "tag"]),
    lambda inner: st.lists(st.tuples(st.sampled_from([*NAMES, "d"]), inner), min_size=1, max_size=4),
    max_leaves=12,
)


def written_json(shape: object) -> Written:
    leaves: list[tuple[Segments, str, bool]] = []

    def value(part: object, path: Segments) -> str:
        if isinstance(part, dict) and part:
            return (
                "{" + ", ".join(f"{json.dumps(key)}: {value(item, (*path, key))}" for key, item in part.items()) + "}"
            )
        if isinstance(part, list) and part:
            return "[" + ",".join(value(item, (*path, at)) for at, item in enumerate(part)) + "]"
        marker = f"734{len(leaves):06}"
        text, source, searched = {
            "text": (f"<{marker}>", f'"<{marker}>"', True),
            "number": (marker, marker, True),
            "null": ("null", "null", False),
            "true": ("true", "true", False),
        }.get(part if isinstance(part, str) else "", ("", "{}" if isinstance(part, dict) else "[]", False))
        if part == "empty":
            text, source, searched = "", '""', False
        leaves.append((path, text, searched))
        return source

    return Written(value(shape, ()).encode(), leaves)


def written_xml(shape: object) -> Written:
    leaves: list[tuple[Segments, str, bool]] = []

    def element(name: str, part: object, path: Segments) -> str:
        here = (*path, name)
        if isinstance(part, list):
            return f"<{name}>" + "\n".join(element(inner, item, here) for inner, item in part) + f"</{name}>"
        marker = f"734{len(leaves):06}"
        leaves.append((here, "" if part in ("blank", "tag") else marker, part not in ("blank", "tag")))
        if part == "tag":
            return f"<{name}/>"
        inner = {"text": marker, "cdata": f"<![CDATA[{marker}]]>"}.get(str(part), "")
        return f"<{name}>{inner}</{name}>"

    return Written(element("xml", shape if isinstance(shape, list) else [("a", shape)], ()).encode(), leaves)


def judge(form: str, found: dict[Pattern, str], unmatched: str, written: Written, document: Document) -> None:
    house = House(compiled(policy_text(form, found, unmatched)))
    ruled = house.policy.pushes[form, "text"]
    assert [leaf.path for leaf in document.leaves] == [path for path, _, _ in written.leaves]
    actions = [
        rule_for(found, path) or ("encrypt" if unmatched == "encrypt" else "refuse") for path, _, _ in written.leaves
    ]
    if "refuse" in actions:
        assert refused(lambda: make_plan(house.policy, ruled, document, "", "")) in ("field_unknown", "field_refused")
        return
    carried = house.carry(ruled, document)
    assert len(carried.values) == len(written.leaves)
    for (_, text, _), action, value in zip(written.leaves, actions, carried.values, strict=True):
        assert became(house, action, value, text), (action, text, value)
    judge_bytes(carried.body, actions, written)
    if form == "json":
        json.loads(carried.body)


def became(house: House, action: str, value: str | None, text: str) -> bool:
    """Whether `value` is what `action` makes of `text`."""
    if action == "drop" or value is None:
        return value is None and action == "drop"
    if action == "allow":
        return value == text
    if action == "mask":
        return value != text and "*" in value
    token = field_token.parse(value)
    return token.key_id in house.keys.opening and token.deterministic == (action == "equal")


def judge_bytes(body: bytes, actions: list[str], written: Written) -> None:
    """What leaves in clear is what was allowed, counted in the bytes themselves."""
    markers = [(text, action) for (_, text, searched), action in zip(written.leaves, actions, strict=True) if searched]
    in_clear = re.findall(r"734\d{6}", body.decode())
    allowed = [text.strip("<>") for text, action in markers if action == "allow"]
    assert in_clear == allowed


@settings(max_examples=300, deadline=None)
@given(SHAPES.map(written_json), rules("json"), st.sampled_from(["refuse", "encrypt"]))
def test_no_leaf_of_any_json_document_is_clear_unless_a_rule_allows_it(
    written: Written, found: dict[Pattern, str], unmatched: str
) -> None:
    judge("json", found, unmatched, written, read_json(written.body))


@settings(max_examples=300, deadline=None)
@given(XML_SHAPES.map(written_xml), rules("xml"), st.sampled_from(["refuse", "encrypt"]))
def test_no_leaf_of_any_xml_document_is_clear_unless_a_rule_allows_it(
    written: Written, found: dict[Pattern, str], unmatched: str
) -> None:
    judge("xml", found, unmatched, written, read_xml(written.body))


# --- single decisions


CALL = """messages:
  - name: call
    direction: DIRECTION
    match: {method: POST, path: /a}
    PHASE:
      query:q: allow
      query:gone: drop
"""
TOKEN = "wg1." + "A" * 80


def ruled(rules_text: str, *, direction: str = "agent", phase: str = "request", unmatched: str = "refuse") -> House:
    call = CALL if phase == "request" else "".join(line for line in CALL.splitlines(True) if "query:" not in line)
    text = CLASSES.replace("UNMATCHED", unmatched) + call.replace("DIRECTION", direction).replace("PHASE", phase)
    return House(compiled(text + "".join(f"      {line}\n" for line in rules_text.splitlines())))


def rule_set(house: House, *, response: bool = False) -> RuleSet:
    call = house.policy.calls[0]
    return call.response if response else call.request


def code_for(house: House, body: str, *, query: str = "", role: str = "", response: bool = False) -> str:
    document = read_json(body.encode()) if body else None
    return refused(lambda: make_plan(house.policy, rule_set(house, response=response), document, query, role))


def treatments(house: House, body: str, *, query: str = "", role: str = "", response: bool = False) -> Iterable[str]:
    plan = draft_plan(house.policy, rule_set(house, response=response), read_json(body.encode()), query, role)
    return [step.code or step.treatment.value for step in plan.steps]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"b": 1}', "field_unknown"),
        ('{"a": 1, "b": 1}', "field_unknown"),
        ('{"a": {"a": 1}}', "field_unknown"),
        ('{"a": []}', ""),
        ('{"A": 1}', "field_unknown"),
        ('{"a ": 1}', "field_unknown"),
        ("[1]", "field_unknown"),
        ('"a"', "field_unknown"),
        ("{}", "field_unknown"),
        ('{"no": 1}', "field_refused"),
    ],
)
def test_a_field_no_rule_knows_refuses_the_message(body: str, code: str) -> None:
    house = ruled("json:$.a: allow\njson:$.no: refuse")
    if code:
        assert code_for(house, body) == code
    else:
        make_plan(house.policy, rule_set(house), read_json(body.encode()), "", "")


def test_a_query_parameter_is_refused_if_unknown_even_where_fields_are_encrypted() -> None:
    house = ruled("json:$.a: allow", unmatched="encrypt")
    assert code_for(house, '{"z": 1}', query="q=1&x=1") == "field_unknown"
    assert treatments(house, '{"z": 1}', query="q=1&gone=2") == ["encrypted", "allowed", "dropped"]


@pytest.mark.parametrize("query", ["q=1&q=2", "q=%zz", "q=%00", "q=1&&x=2", "=1", "q=ä", "q=%ff"])
def test_a_query_that_can_be_read_in_two_ways_is_refused(query: str) -> None:
    assert code_for(ruled("json:$.a: allow"), '{"a": 1}', query=query) == "document_malformed"


def test_a_query_selector_is_not_a_body_selector() -> None:
    assert code_for(ruled("json:$.a: allow"), '{"q": 1}') == "field_unknown"


@pytest.mark.parametrize(("body", "rules_text"), [('{"a": 1}', ""), ("<x><a>1</a></x>", "json:$.a: allow")])
def test_a_body_of_another_form_than_the_rules_is_refused(body: str, rules_text: str) -> None:
    house = ruled(rules_text)
    document = read_xml(body.encode()) if body[0] == "<" else read_json(body.encode())
    assert refused(lambda: draft_plan(house.policy, rule_set(house), document, "", "")) == "document_type"


def test_no_body_where_rules_speak_of_one_has_nothing_to_decide() -> None:
    house = ruled("json:$.a: allow")
    assert make_plan(house.policy, rule_set(house), None, "", "").steps == ()


def test_a_message_without_body_has_its_query_decided_all_the_same() -> None:
    house = ruled("")
    assert [step.treatment for step in make_plan(house.policy, rule_set(house), None, "q=1", "").steps] == [
        Treatment.ALLOWED
    ]
    assert code_for(house, "", query="x=1") == "field_unknown"


REVEAL = "json:$.a: {class: secret, as: a, reveal: {agent: plain, clerk: keep, ROLE}}"


@pytest.mark.parametrize(
    ("role", "star", "value", "expected"),
    [
        ("agent", "x: keep", TOKEN, "revealed"),
        ("agent", "x: keep", "clear", "clear_value_refused"),
        ("agent", "x: keep", TOKEN + "=", "clear_value_refused"),
        ("clerk", "x: keep", TOKEN, "encrypted"),
        ("clerk", "x: keep", "clear", "encrypted"),
        ("other", "x: keep", TOKEN, "role_forbidden"),
        ("", "x: keep", TOKEN, "role_forbidden"),
        ("other", "'*': plain", TOKEN, "revealed"),
        ("clerk", "'*': plain", TOKEN, "encrypted"),
    ],
)
def test_a_role_gets_what_is_written_for_it(role: str, star: str, value: str, expected: str) -> None:
    house = ruled(REVEAL.replace("ROLE", star), phase="response")
    assert treatments(house, json.dumps({"a": value}), role=role, response=True) == [expected]


def test_only_values_that_can_be_tokens_are_taken_apart_and_wechat_s_never_are() -> None:
    body = json.dumps({"a": TOKEN, "b": TOKEN, "c": "clear"})
    rules_text = "json:$.a: {class: secret, as: a}\njson:$.b: allow\njson:$.c: {class: secret, as: c}"
    house = ruled(rules_text)
    plan = make_plan(house.policy, rule_set(house), read_json(body.encode()), "", "")
    assert [step.token is not None for step in plan.steps] == [True, False, False]
    assert plan.needs().ids == {field_token.parse(TOKEN).key_id}
    house = ruled(rules_text, direction="outbound", phase="response")
    plan = make_plan(house.policy, rule_set(house, response=True), read_json(body.encode()), "", "")
    assert [step.token for step in plan.steps] == [None, None, None]
    assert plan.needs().ids == set()


def test_a_plan_names_the_keys_it_seals_with() -> None:
    house = ruled("json:$.a: {class: secret, as: a}\njson:$.b: {class: id, as: b}\njson:$.c: allow")

    def needed(body: str) -> set[tuple[str, Purpose]]:
        return make_plan(house.policy, rule_set(house), read_json(body.encode()), "", "").needs().groups

    assert needed('{"a": 1, "b": 2, "c": 3}') == {("default", Purpose.DATA), ("default", Purpose.LOOKUP)}
    assert needed('{"b": 2, "c": 3}') == {("default", Purpose.LOOKUP)}
    assert needed('{"c": 3}') == set()


def test_a_plan_with_a_step_missing_is_not_complete() -> None:
    house = ruled("json:$.a: allow")
    plan = make_plan(house.policy, rule_set(house), read_json(b'{"a": 1}'), "q=1", "")
    assert plan.complete()
    for kept in (plan.steps[:1], plan.steps[1:], ()):
        assert not replace(plan, steps=kept).complete()


def test_a_draft_says_what_a_plan_refuses_and_why() -> None:
    house = ruled("json:$.a: allow\njson:$.no: refuse")
    plan = draft_plan(house.policy, rule_set(house), read_json(b'{"a": 1, "no": 2, "z": 3}'), "x=1", "")
    assert [(step.treatment, step.code) for step in plan.steps] == [
        (Treatment.ALLOWED, ""),
        (Treatment.REFUSED, "field_refused"),
        (Treatment.REFUSED, "field_unknown"),
        (Treatment.REFUSED, "field_unknown"),
    ]
    with pytest.raises(Refusal, match="field_refused"):
        make_plan(house.policy, rule_set(house), read_json(b'{"a": 1, "no": 2, "z": 3}'), "x=1", "")


def test_a_rule_for_a_call_of_one_direction_is_not_one_for_the_other() -> None:
    house = ruled("json:$.a: allow")
    assert house.policy.find_call(Direction.OUTBOUND, "POST", "/a") is None
