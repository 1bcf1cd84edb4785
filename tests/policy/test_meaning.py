"""When one rule is weaker than another: the order is fixed, and what cannot be ordered counts as weaker."""

from itertools import pairwise, product

import pytest

from proxy.policy.meaning import NOT_SENT, REFUSED, SEALED, meaning, weaker
from proxy.policy.rules import Rule
from tests.policy.build import compiled

CLASSES = """version: 1
classes:
  refused: {action: refuse}
  dropped: {action: drop}
  redacted: {action: redact, text: gone}
  masked: {action: mask, mask: {keep_last: 2}}
  masked3: {action: mask, mask: {keep_last: 3}}
  phone: {action: mask, mask: {kind: phone}}
  starred: {action: mask, mask: {}}
  secret: {action: encrypt, mask: {keep_last: 2}, text: gone, index: {bits: 64}, normalise: [trim], alphabet: digits}
  again: {action: encrypt, mask: {keep_last: 2}, text: gone, index: {bits: 64}, normalise: [trim], alphabet: digits}
  finer: {action: encrypt, index: {bits: 128}, normalise: [trim]}
  chat: {action: encrypt, group: chat}
  id: {action: encrypt, deterministic: true}
  hashed: {action: hash, normalise: [trim]}
  indexed: {action: index, index: {bits: 64}}
  indexed128: {action: index, index: {bits: 128}}
  preserved: {action: format_preserving, alphabet: digits}
  allowed: {action: allow}
messages:
  - name: m
    direction: agent
    match: {method: POST, path: /m}
"""


def rule(text: str, phase: str = "request") -> Rule:
    lines = f"    {phase}:\n      json:$.a: {text}\n      json:$.o: {{action: allow, as: o}}\n"
    (call,) = compiled(CLASSES + lines).calls
    return next(rule for rule in (*call.request.rules, *call.response.rules) if rule.datum != "o")


def answer(reveal: str, name: str = "secret") -> Rule:
    return rule(f"{{class: {name}, as: a, reveal: {reveal}}}", "response")


def keyed(name: str) -> Rule:
    return rule(f"{{class: {name}, as: a}}")


ORDER = [
    [rule("refuse"), rule("{class: refused}")],
    [rule("drop"), rule("{class: dropped}")],
    [rule("{class: redacted}")],
    [rule("{class: masked}")],
    [keyed("secret"), keyed("chat"), answer("{'*': keep}")],
    [keyed(name) for name in ("id", "hashed", "indexed", "preserved")],
    [answer("{'*': mask}")],
    [answer("{'*': plain}"), answer("{'*': plain}", "id")],
    [rule("allow"), rule("{class: allowed}")],
]


def test_the_order_holds_between_all_steps_in_both_ways() -> None:
    for at, stronger in enumerate(ORDER):
        for later in ORDER[at + 1 :]:
            for one, two in product(stronger, later):
                assert weaker(one, two)
                assert not weaker(two, one)


def test_on_one_step_nothing_is_weaker() -> None:
    for step in ORDER:
        for one, two in product(step, step):
            assert not weaker(one, two)


def test_what_happens_without_a_rule_has_its_place_in_the_order() -> None:
    for one, two in pairwise([REFUSED, NOT_SENT, SEALED, rule("allow")]):
        assert weaker(one, two)
        assert not weaker(two, one)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("{class: masked}", "{class: masked3}", id="more of it stays"),
        pytest.param("{class: masked}", "{class: phone}", id="a mask that cannot be compared"),
        pytest.param("{class: phone}", "{class: masked}", id="nor the other way"),
        pytest.param("{class: secret, as: a, bind: [o]}", "{class: secret, as: a}", id="bound to nobody"),
        pytest.param("{class: masked}", "{class: masked, on_error: drop}", id="dropped instead of refused"),
        pytest.param("{class: masked, on_error: drop}", "{class: masked, on_error: redact}", id="redacted instead"),
        pytest.param(
            "{class: secret, as: a}", "{class: secret, as: a, write: {a: token, b: mask}}", id="a mask beside"
        ),
        pytest.param(
            "{class: secret, as: a, write: {a: token}}",
            "{class: secret, as: a, write: {a: token, b: index}}",
            id="index",
        ),
        pytest.param("{class: indexed, as: a}", "{class: indexed128, as: a}", id="finer index"),
        pytest.param("{class: indexed, as: a}", "{class: preserved, as: a, on_error: drop}", id="same step, and error"),
        pytest.param(
            "{class: secret, as: a, write: {b: index}}",
            "{class: finer, as: a, write: {b: index}}",
            id="finer companion",
        ),
    ],
)
def test_weaker_within_a_step(old: str, new: str) -> None:
    assert weaker(rule(old), rule(new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{class: masked3}", "{class: masked}"),
        ("{class: phone}", "{class: starred}"),
        ("{class: secret, as: a}", "{class: secret, as: a, bind: [o]}"),
        ("{class: masked, on_error: redact}", "{class: masked}"),
        ("{class: secret, as: a, write: {a: token, b: mask}}", "{class: secret, as: a}"),
        ("{class: secret, as: a, write: {a: token}}", "{class: secret, as: a, write: {a: token, b: redaction}}"),
        ("{class: indexed128, as: a}", "{class: indexed, as: a}"),
        ("{class: masked, on_error: redact}", "refuse"),
        ("{class: secret, as: a, bind: [o]}", "drop"),
    ],
)
def test_not_weaker_within_a_step(old: str, new: str) -> None:
    assert not weaker(rule(old), rule(new))
    assert meaning(rule(old)) != meaning(rule(new))


@pytest.mark.parametrize(
    ("old", "new", "worse"),
    [
        ("{agent: plain}", "{agent: plain, analyst: mask}", True),
        ("{agent: plain}", "{agent: plain, '*': keep}", True),
        ("{agent: plain, '*': keep}", "{agent: plain}", False),
        ("{agent: mask, '*': keep}", "{agent: plain, '*': keep}", True),
        ("{agent: plain, '*': keep}", "{agent: mask, '*': keep}", False),
        # one role gets more, another less: for somebody it is weaker
        ("{agent: plain, clerk: keep}", "{agent: keep, clerk: plain}", True),
        ("{agent: keep, '*': plain}", "{'*': plain}", True),
    ],
)
def test_what_a_role_gets_to_see_counts_for_each(old: str, new: str, worse: bool) -> None:
    assert weaker(answer(old), answer(new)) is worse
    assert meaning(answer(old)) != meaning(answer(new))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (answer("{agent: plain, '*': keep}"), answer("{'*': keep, agent: plain}")),
        (answer("{agent: keep, '*': keep}"), answer("{'*': keep}")),
        (answer("{'*': keep}"), rule("{class: secret, as: a}", "response")),
        (keyed("secret"), keyed("again")),
        (rule("drop"), rule("{class: dropped}")),
        (rule("refuse"), REFUSED),
    ],
)
def test_two_ways_to_say_the_same_have_one_meaning(one: Rule, two: Rule) -> None:
    assert meaning(one) == meaning(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("{class: secret, as: a}", "{class: secret, as: b}"),
        ("{class: secret, as: a}", "{class: chat, as: a}"),
        ("{class: secret, as: a}", "{class: id, as: a}"),
        ("{class: secret, as: a, write: {x: token}}", "{class: secret, as: a, write: {y: token}}"),
        ("{class: hashed, as: a}", "{class: indexed, as: a}"),
        ("{action: allow, as: n}", "allow"),
    ],
)
def test_what_differs_otherwise_has_another_meaning(one: str, two: str) -> None:
    assert meaning(rule(one)) != meaning(rule(two))
