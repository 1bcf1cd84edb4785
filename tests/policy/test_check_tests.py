"""A policy's own tests: what holds is silent, what does not is a problem at the test's line."""

import pytest

from proxy.policy.check_tests import check_tests
from proxy.source.problem import Problem
from proxy.wechat.push import message_type, read_body
from tests.policy.build import Entropy, codes, compiled

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
  - name: form
    direction: outbound
    match: {method: POST, path: /form}
    request:
      form:a: {class: words, as: agent.text, reveal: {'*': plain}}
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
    "form.txt": b"a=clear+words",
}
SEND = "direction: outbound, method: POST, path: /send, "
FORM = SEND.replace("/send", "/form")


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
        FORM + "sample: form.txt, expect: {'form:a': refused}",
        FORM + "sample: form.txt, protect: true, expect: {'form:a': revealed}",
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
    assert {(problem.code, problem.place.line, problem.place.column) for problem in found} == {
        ("test-failed", HEAD.count("\n") + 1, 5)
    }


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


CALLS = """version: 1
classes:
  words: {action: encrypt, mask: {keep_last: 1}}
  id: {action: encrypt, deterministic: true}
messages:
  - name: reply
    direction: inbound
    match: {reply: text}
    response:
      xml:/xml/MsgType: allow
      xml:/xml/Text: {class: words, as: said, reveal: {wechat: plain}}
  - name: send
    direction: outbound
    match: {method: POST, path: '/send/{to}'}
    request:
      path:to: {class: id, as: to, reveal: {'*': plain}}
      query:token: allow
      header:if-match: {class: words, as: etag}
      header:x-to: {class: id, as: to, reveal: {'*': plain}}
      json:$.touser: {class: id, as: openid, reveal: {'*': plain}}
      json:$.text: {class: words, as: said, bind: [openid], reveal: {'*': plain, clerk: mask, guest: keep}}
  - name: read
    direction: agent
    match: {method: GET, path: '/read/{id}'}
    request:
      path:id: allow
      query:q: {class: words, as: said}
    response:
      json:$.text: drop
    errors:
      4xx:
        json:$.touser: drop
        json:$.text: allow
tests:
"""
CALL_SAMPLES = {
    "send.json": '{"touser": "o1", "text": "您好"}'.encode(),
    "reply.xml": b"<xml><MsgType>text</MsgType><Text>hi</Text></xml>",
    "empty": b"",
}
TO = "direction: outbound, method: POST, path: /send/ab, sample: send.json, "
READ = "direction: agent, method: GET, path: /read/7, sample: empty, "
ANSWER = "direction: agent, phase: response, method: GET, path: /read/7, sample: send.json, "


def messages(test: str) -> list[str]:
    policy = compiled(CALLS + f"  - {{{test}}}\n")
    return [problem.message for problem in check_tests(policy, CALL_SAMPLES, read_body, message_type, Entropy())]


@pytest.mark.parametrize(
    "test",
    [
        TO + "protect: true, expect: {'json:$.text': revealed, 'json:$.touser': revealed, 'path:to': revealed}",
        TO + "protect: true, role: clerk, expect: {'json:$.text': revealed masked, 'json:$.touser': revealed}",
        TO + "protect: true, role: guest, expect: {'json:$.text': encrypted}",
        TO + "protect: false, expect: {'json:$.text': refused, 'path:to': refused}",
        TO + "protect: true, query: token=x, headers: {if-match: '\"1\"'}, "
        "expect: {'query:token': allowed, 'header:if-match': encrypted}",
        TO + "protect: true, headers: {x-to: o1}, expect: {'header:x-to': revealed}",
        "direction: inbound, phase: response, sample: reply.xml, protect: true, expect: {'xml:/xml/Text': revealed}",
        "direction: inbound, phase: response, sample: reply.xml, protect: true, role: nobody, "
        "expect: {'xml:/xml/Text': refused}",
        READ + "expect: {'path:id': allowed}",
        READ + "query: q=x, expect: {'query:q': encrypted}",
        READ + "protect: true, query: q=x, expect: {'query:q': encrypted}",
        ANSWER + "expect: {'json:$.text': dropped, 'json:$.touser': refused}",
        ANSWER + "status: 204, expect: {'json:$.text': dropped, 'json:$.touser': refused}",
        ANSWER + "status: 404, expect: {'json:$.text': allowed, 'json:$.touser': dropped}",
    ],
)
def test_a_test_says_all_that_a_call_says(test: str) -> None:
    assert messages(test) == []


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (TO + "expect: {'json:$.text': revealed}", "json:$.text should be revealed and is refused by p.yaml:21:7"),
        (TO.replace("ab", "o" * 300) + "protect: true, expect: {}", "the message is refused: message_unknown"),
        (READ + "headers: {if-match: x}, expect: {'header:if-match': allowed}", "header:if-match is not in the sample"),
        (TO + "headers: {if-match: 您}, expect: {}", "the message is refused: document_malformed"),
        (ANSWER + "status: 500, expect: {}", "the message is refused: message_unknown"),
        (READ + "query: 'q=%zz', expect: {}", "the message is refused: document_malformed"),
    ],
)
def test_a_call_that_cannot_be_is_told(test: str, message: str) -> None:
    found = messages(test)
    assert any(message in line for line in found), found


@pytest.mark.parametrize(
    ("test", "code"),
    [
        ("headers: {Host: x}", "selector-malformed"),
        ("headers: {content-length: 1}", "selector-malformed"),
        ("headers: {if-match: [x]}", "wrong-type"),
        ("headers: x", "wrong-type"),
        ("protect: 1", "wrong-type"),
        ("protect: yes", "wrong-type"),
        ("querry: x", "unknown-key"),
        ("status: 100", "wrong-value"),
        ("status: 4xx", "wrong-value"),
    ],
)
def test_what_a_test_cannot_say_is_a_problem(test: str, code: str) -> None:
    assert code in codes(CALLS + f"  - {{sample: empty, expect: {{}}, {test}}}\n")


def test_a_sample_without_a_body_is_no_push() -> None:
    (message,) = messages("sample: empty, expect: {}")
    assert "is no message" in message
