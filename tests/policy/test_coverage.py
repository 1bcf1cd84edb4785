"""Which rules tests reach: counted by file, own rules at fault, shadowed ones told from misspelt ones."""

import pytest

from proxy.policy.check_tests import run_test
from proxy.policy.compiled import Policy
from proxy.policy.coverage import Coverage, coverage, untested
from proxy.wechat.push import message_type, read_body
from tests.policy.build import Entropy, compiled, place_of

BASE = """version: 1
common:
  - direction: inbound
    request:
      xml:/xml/MsgType: allow
      xml:/xml/Never: drop
"""
TEXT = """version: 1
extends: [base.yaml]
classes:
  words: {action: encrypt}
common:
  - direction: inbound
    request:
      json:$.of_no_message: drop
      xml:/xml/Both: drop
messages:
  - name: push
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/Text: {class: words, as: words}
      xml:/xml/Both: allow
      xml:/xml/List/a: allow
      xml:/xml/List/*: drop
      xml:/xml/Misspelt: drop
  - name: other
    direction: inbound
    match: {type: other}
    request:
      xml:/xml/Text: drop
      xml:/xml/*: drop
tests:
  - {sample: push, expect: {'xml:/xml/Text': allowed}}
  - {sample: gone, expect: {}}
"""
PUSH = b"<xml><MsgType>text</MsgType><Text>hi</Text><Both>1</Both><List><a>1</a></List></xml>"


def covered(policy: Policy, **samples: bytes) -> Coverage:
    entropy = Entropy()
    runs = [run_test(policy, test, samples.get(test.sample), read_body, message_type, entropy) for test in policy.tests]
    return coverage(policy, runs)


def of_text(text: str = TEXT, push: bytes = PUSH) -> Coverage:
    return covered(compiled(text, base=BASE), push=push)


def test_rules_are_counted_by_file_the_own_one_first_and_common_ones_once() -> None:
    # own: Text, Both and List/a of nine; what a test expects, and that it fails, does not matter
    assert list(of_text().figures().items()) == [("p.yaml", (3, 9)), ("base.yaml", (1, 2))]


def test_every_own_rule_that_decided_nothing_is_told_at_its_place() -> None:
    found = of_text().unreached(warning=True)
    assert {problem.code for problem in found} == {"rule-unreached"}
    assert all(problem.warning for problem in found)
    assert [(problem.place.line, problem.place.column) for problem in found] == [
        place_of(TEXT, "json:$.of_no_message"),
        (9, 7),  # the common rule; the message that was tested has its own
        place_of(TEXT, "xml:/xml/List/*"),
        place_of(TEXT, "xml:/xml/Misspelt"),
        place_of(TEXT, "xml:/xml/Text: drop"),
        place_of(TEXT, "xml:/xml/*: drop"),
    ]
    assert not any(problem.warning for problem in of_text().unreached(warning=False))


def test_a_selector_that_is_in_a_sample_but_never_the_most_specific_is_no_misspelt_one() -> None:
    unreached = {problem.place.line: problem.message for problem in of_text().unreached(warning=True)}
    line = place_of(TEXT, "xml:/xml/List/*")[0]
    assert unreached[line] == '"xml:/xml/List/*" is never the most specific rule in the samples of the tests'
    unmatched = of_text().unmatched()
    assert {problem.code for problem in unmatched} == {"selector-unmatched"}
    assert not any(problem.warning for problem in unmatched)
    assert {problem.place.line for problem in unmatched} == unreached.keys() - {line}
    assert unmatched[-1].message == '"xml:/xml/*" points at nothing in any sample of the tests'


def test_a_rule_matches_in_samples_of_its_own_message_only() -> None:
    # `xml:/xml/*` of "other" would fit every field of the sample of "push"
    assert place_of(TEXT, "xml:/xml/*: drop")[0] in {problem.place.line for problem in of_text().unmatched()}


@pytest.mark.parametrize("push", [b"", b"<xml>", b"<xml><MsgType>unknown</MsgType></xml>"])
def test_a_test_without_a_message_reaches_nothing(push: bytes) -> None:
    assert [reached for reached, _ in of_text(push=push).figures().values()] == [0, 0]


def test_a_refused_message_has_reached_the_rules_that_decided_its_fields() -> None:
    found = of_text(push=PUSH.replace(b"</xml>", b"<New>1</New></xml>"))
    assert found.figures() == of_text().figures()


def test_what_the_policy_encrypts_for_want_of_a_rule_is_no_rule() -> None:
    text = TEXT.replace("extends", "defaults: {unmatched: encrypt}\nextends")
    found = of_text(text, PUSH.replace(b"</xml>", b"<New>1</New></xml>"))
    assert found.figures() == of_text().figures()


def test_a_policy_with_messages_and_without_tests_is_told_and_a_mere_base_is_not() -> None:
    (problem,) = untested(compiled(TEXT.partition("tests:")[0], base=BASE))
    assert (str(problem.place), problem.code, problem.warning) == ("p.yaml:1:1", "policy-untested", False)
    assert untested(compiled(BASE)) == []
    assert untested(compiled(TEXT, base=BASE)) == []


def test_rules_of_answers_that_say_failure_count() -> None:
    text = """version: 1
messages:
  - name: read
    direction: agent
    match: {method: GET, path: /read}
    response: {'json:$.a': drop}
    errors:
      4xx: {'json:$.a': drop}
      5xx: {'json:$.a': drop}
tests:
  - {sample: a, direction: agent, phase: response, method: GET, path: /read, status: 404, expect: {}}
"""
    found = covered(compiled(text), a=b'{"a": 1}')
    assert found.figures() == {"p.yaml": (1, 3)}
    assert [problem.place.line for problem in found.unmatched()] == [6, 9]
