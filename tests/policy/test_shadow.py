"""A policy on trial: what it would decide otherwise is told in its author's words, and never with a value."""

import pytest

from proxy.document.json_body import read_json
from proxy.document.xml_body import read_xml
from proxy.policy.explain import Occasion, find_rules, head_of
from proxy.policy.plan import make_plan
from proxy.policy.rules import Direction, Phase
from proxy.policy.shadow import Difference, compare
from tests.policy.build import compiled

NOW = """version: 1
classes: {words: {action: encrypt}, id: {action: encrypt, deterministic: true}}
messages:
  - name: text
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/MsgType: allow
      xml:/xml/Content: {class: words, as: words}
      xml:/xml/From: {class: id, as: openid}
"""
BODY = "<xml><MsgType>text</MsgType><Content>SECRET-WORDS</Content><From>SECRET-ID</From></xml>"
PUSH = Occasion(Direction.INBOUND, Phase.REQUEST)


def differences(following: str, body: str = BODY) -> list[Difference]:
    now = compiled(NOW)
    plan = make_plan(now, now.pushes["xml", "text"], read_xml(body.encode()), "", "")
    return list(compare(plan, compiled(following), PUSH, "text"))


def test_the_same_policy_decides_the_same() -> None:
    assert differences(NOW + "# another revision\n") == []


def test_every_difference_is_told_by_its_selector() -> None:
    following = NOW.replace("xml:/xml/Content: {class: words, as: words}", "xml:/xml/Content: drop")
    following = following.replace("as: openid", "as: follower")
    assert differences(following) == [
        Difference("xml:/xml/Content", "encrypted words words", "dropped"),
        Difference("xml:/xml/From", "encrypted id openid", "encrypted id follower"),
    ]


def test_a_field_the_next_one_does_not_know_would_be_refused() -> None:
    following = NOW.replace("      xml:/xml/From: {class: id, as: openid}\n", "")
    assert differences(following) == [
        Difference("xml:/xml/From", "encrypted id openid", "refused unclassified unclassified field_unknown")
    ]


def test_a_message_the_next_one_does_not_know_is_one_difference() -> None:
    other = NOW.replace("{type: text}", "{type: image}")
    assert differences(other) == [Difference("the message", "decided", "refused: message_unknown")]


def test_a_difference_is_told_once_and_never_with_a_value() -> None:
    body = BODY.replace("</xml>", "<Content>SECRET-AGAIN</Content></xml>")
    found = differences(NOW.replace("{class: words, as: words}", "drop"), body)
    assert len(found) == 1
    assert "SECRET" not in str(found)


HEADED = """version: 1
messages:
  - name: m
    direction: agent
    match: {method: POST, path: '/m/{id}'}
    request: {path:id: allow, json:$.a: allow}
"""


@pytest.mark.parametrize(
    ("then", "found"),
    [
        ("path:id: allow, header:x-note: refuse", [("header:x-note", "not sent", "refused field_refused")]),
        ("path:id: allow, header:x-note: allow", [("header:x-note", "not sent", "allowed")]),
        ("path:person: allow", []),
    ],
)
def test_header_fields_count_and_names_of_variables_do_not(then: str, found: list[tuple[str, str, str]]) -> None:
    now = compiled(HEADED)
    name = "{person}" if "person" in then else "{id}"
    following = compiled(HEADED.replace("path:id: allow", then).replace("{id}", name))
    where = Occasion(Direction.AGENT, Phase.REQUEST, "POST", "/m/7", headers=((b"x-note", b"n"),))
    rules, body = find_rules(now, where, "json", ""), read_json(b'{"a": 1}')
    plan = make_plan(now, rules, body, "", "", head_of(now, rules, where))
    assert [tuple(item) for item in compare(plan, following, where, "")] == found
