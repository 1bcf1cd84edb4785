"""A policy's own tests: what holds is silent, what does not is a problem at the test's line."""

import pytest

from proxy.policy.check_tests import check_tests
from proxy.source.problem import Problem
from proxy.wechat.push import message_type, read_body
from tests.policy.build import Entropy, compiled

HEAD = """version: 1
classes:
  words: {action: encrypt}
messages:
  - name: push
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/MsgType: allow
      xml:/xml/Text: {class: words, as: words}
      xml:/xml/No: refuse
  - name: send
    direction: outbound
    match: {method: POST, path: /send}
    request:
      json:$.a: {class: words, as: agent.text, reveal: {'*': plain}}
      json:$.list[*]: {class: words, as: item}
tests:
"""
SAMPLES = {
    "push.xml": b"<xml><MsgType>text</MsgType><Text>hi</Text><Text>ho</Text></xml>",
    "no.xml": b"<xml><MsgType>text</MsgType><No>1</No></xml>",
    "new.xml": b"<xml><MsgType>text</MsgType><New>1</New></xml>",
    "voice.xml": b"<xml><MsgType>voice</MsgType></xml>",
    "untyped.xml": b"<xml><Text>x</Text></xml>",
    "broken.xml": b"<xml><MsgType>",
    "binary.xml": b"\x00\xff",
    "send.json": b'{"a": "clear", "list": [1, 2]}',
    "list.json": b'{"list": [1, 2]}',
}
SEND = "direction: outbound, method: POST, path: /send, "


def run(test: str) -> list[Problem]:
    policy = compiled(HEAD + f"  - {{{test}}}\n")
    return check_tests(policy, SAMPLES, read_body, message_type, Entropy())


@pytest.mark.parametrize(
    "test",
    [
        "sample: push.xml, expect: {'xml:/xml/MsgType': allowed, 'xml:/xml/Text': encrypted}",
        "sample: push.xml, expect: {}",
        "sample: push.xml, expect: {'xml:/xml/*': encrypted, 'xml:/xml/Text': encrypted}",
        "sample: no.xml, expect: {'xml:/xml/No': refused}",
        "sample: new.xml, expect: {'xml:/xml/New': refused, 'xml:/xml/MsgType': allowed}",
        SEND + "sample: send.json, expect: {'json:$.a': refused, 'json:$.list[*]': encrypted}",
        SEND + "sample: list.json, expect: {'json:$.list[1]': encrypted}",
    ],
)
def test_what_holds_is_silent(test: str) -> None:
    # a wildcard speaks of every leaf under it; here one of them is allowed
    failed = [problem.message for problem in run(test)]
    expected = ['"push.xml": xml:/xml/MsgType should be encrypted and is allowed by p.yaml:9:7'] if "/*" in test else []
    assert failed == expected


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            "sample: push.xml, expect: {'xml:/xml/Text': allowed}",
            '"push.xml": xml:/xml/Text should be allowed and is encrypted by p.yaml:10:7',
        ),
        ("sample: push.xml, expect: {'xml:/xml/Gone': dropped}", '"push.xml": xml:/xml/Gone is not in the sample'),
        ("sample: push.xml, expect: {'json:$.Text': encrypted}", '"push.xml": json:$.Text is not in the sample'),
        (
            "sample: new.xml, expect: {'xml:/xml/MsgType': allowed}",
            '"new.xml": the message is refused: field_unknown at xml:/xml/New, '
            "a field is not covered by any rule of the policy",
        ),
        (
            "sample: new.xml, expect: {'xml:/xml/New': encrypted, 'xml:/xml/MsgType': refused}",
            '"new.xml": xml:/xml/New should be encrypted and is refused for want of a rule',
        ),
        (
            "sample: voice.xml, expect: {}",
            '"voice.xml": the message is refused: message_unknown, no message of the policy matches',
        ),
        (
            "direction: agent, method: POST, path: /send, sample: send.json, expect: {}",
            '"send.json": the message is refused: message_unknown, no message of the policy matches',
        ),
        (
            SEND + "sample: push.xml, expect: {}",
            '"push.xml": the message is refused: document_type, the body is of another type than this route takes',
        ),
    ],
)
def test_what_does_not_hold_is_told_with_the_rule_that_did_it(test: str, message: str) -> None:
    found = run(test)
    assert message in [problem.message for problem in found]
    assert {(problem.code, problem.place.line, problem.place.column) for problem in found} == {("test-failed", 19, 5)}


@pytest.mark.parametrize(
    ("sample", "code"),
    [
        ("nowhere.xml", "sample-missing"),
        ("untyped.xml", "sample-malformed"),
        ("broken.xml", "sample-malformed"),
        ("binary.xml", "sample-malformed"),
    ],
)
def test_a_sample_that_is_none_is_told(sample: str, code: str) -> None:
    (problem,) = run(f"sample: {sample}, expect: {{}}")
    assert (problem.code, problem.warning) == (code, False)


def test_no_tests_no_problems() -> None:
    assert check_tests(compiled("version: 1"), {}, read_body, message_type, Entropy()) == []
