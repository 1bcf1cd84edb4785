"""One file as written: every fault of shape, at its place."""

import pytest

from proxy.policy.plan import Treatment
from proxy.policy.read_file import read_extends
from proxy.policy.rules import Action, Phase
from proxy.source.problem import Place
from tests.policy.build import ONE_PUSH, codes, compiled, problems, require_told


@pytest.mark.parametrize(
    ("text", "code", "at"),
    [
        ("a: 1", "missing-key", "a: 1"),
        ("version: 2", "wrong-value", "2"),
        ("version: '1'", "wrong-value", "'1'"),
        ("version: 1\nmesages: []", "unknown-key", "mesages"),
        ("version: 1\nextends: base.yaml", "wrong-type", "base.yaml"),
        ("version: 1\nextends: [[base.yaml]]", "wrong-type", "[base.yaml]"),
        ("version: 1\ndefaults: {unmatched: allow}", "wrong-value", "allow"),
        ("version: 1\ndefaults: {unmatch: refuse}", "unknown-key", "unmatch"),
        ("version: 1\ndefaults: []", "wrong-type", "[]"),
        ("version: 1\nclasses: []", "wrong-type", "[]"),
        ("version: 1\nclasses: {a: encrypt}", "wrong-type", "encrypt"),
        ("version: 1\nclasses: {a: {}}", "missing-key", "{}"),
        ("version: 1\nclasses: {a: {action: encript}}", "wrong-value", "encript"),
        ("version: 1\nclasses: {a: {action: encrypt, determinstic: true}}", "unknown-key", "determinstic"),
        ("version: 1\nclasses: {a: {action: encrypt, deterministic: yes}}", "wrong-type", "yes"),
        ("version: 1\nclasses: {a: {action: drop, deterministic: true}}", "deterministic-action", "{action"),
        ("version: 1\nclasses: {a: {action: mask}}", "mask-missing", "{action"),
        ("version: 1\nclasses: {a: {action: mask, mask: {keep_last: 33}}}", "wrong-value", "33"),
        ("version: 1\nclasses: {a: {action: mask, mask: {keep: 3}}}", "unknown-key", "keep"),
        ("version: 1\nclasses: {a: {action: encrypt, group: Chat}}", "wrong-value", "Chat"),
        ("version: 1\nmessages: {}", "wrong-type", "{}"),
        ("version: 1\nmessages: [m]", "wrong-type", "m]"),
        ("version: 1\ncommon: [{direction: inbound, name: x}]", "unknown-key", "name"),
        ("version: 1\ncommon: [{direction: sideways}]", "wrong-value", "sideways"),
        (ONE_PUSH.replace("{type: text}", "{typ: text}") + "      xml:/xml/a: allow", "unknown-key", "typ: text"),
        (
            ONE_PUSH.replace("{type: text}", "{type: text, method: GET}") + "      xml:/xml/a: drop",
            "unknown-key",
            "method",
        ),
    ],
)
def test_a_fault_of_shape_is_a_problem_at_its_place(text: str, code: str, at: str) -> None:
    require_told(text, code, at)


def test_hints_name_the_nearest_known_word() -> None:
    fixes = {problem.fix for problem in problems(ONE_PUSH + "      xml:/xml/a: {class: secert, as: a}")}
    assert 'did you mean "secret"?' in fixes
    assert problems("version: 1\nmesages: []")[0].fix == 'did you mean "messages"?'


def test_everything_wrong_is_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        ONE_PUSH
        + """      xml:/xml/*: allow
      xml:/xml/b: {class: secret}
      nonsense: drop
      xml:/xml/c: {class: nothing, as: c}
tests:
  - sample: a
"""
    )
    found = problems(text)
    assert [problem.code for problem in found] == [
        "allow-wildcard",
        "as-missing",
        "selector-malformed",
        "class-unknown",
        "missing-key",
    ]
    assert [problem.place.line for problem in found] == sorted(problem.place.line for problem in found)


def test_a_file_that_is_right_is_what_it_says() -> None:
    policy = compiled(
        ONE_PUSH
        + """      xml:/xml/a: {class: secret, as: a.b, bind: [c]}
      xml:/xml/c: {action: allow, as: c}
      xml:/xml/d: refuse
tests:
  - {sample: s.xml, phase: response, direction: agent, method: GET, path: /x, role: r, expect: {'json:$.a': revealed}}
"""
    )
    rules = policy.pushes["xml", "text"].rules
    assert [(rule.action, rule.datum, rule.binds) for rule in rules] == [
        (Action.ENCRYPT, "a.b", ("c",)),
        (Action.ALLOW, "c", ()),
        (Action.REFUSE, "", ()),
    ]
    (test,) = policy.tests
    assert (test.sample, test.phase, test.method, test.path, test.role) == ("s.xml", Phase.RESPONSE, "GET", "/x", "r")
    assert test.expect == {"json:$.a": Treatment.REVEALED.value}


def test_extends_are_read_with_their_places_whatever_else_is_wrong() -> None:
    assert read_extends(b"nonsense: 1\nextends: [a, {}, 'b']\n", "f") == [
        (Place("f", 2, 11), "a"),
        (Place("f", 2, 18), "b"),
    ]
    assert read_extends(b"[a]", "f") == []
    assert read_extends(b"extends: a", "f") == []


def test_a_file_that_is_no_yaml_is_told_by_the_reader_alone() -> None:
    assert codes("version: 1\nclasses: [\n") == ["yaml-syntax"]
    assert codes("") == ["yaml-empty"]
    assert codes("just words") == ["missing-key", "wrong-type"]
