"""Runs the `tests:` of a policy against its samples. Pure: the samples come as bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.document.tree import Document, Path
from proxy.policy.explain import Entropy, Explanation, Occasion, Row, explain, find_rules, temporary_keys
from proxy.policy.plan import Treatment
from proxy.policy.rules import Direction, Policy, PolicyTest
from proxy.policy.selector import ANY, Selector, parse_selector
from proxy.refusal import TABLE, Refusal
from proxy.source.problem import Problem


def check_tests(
    policy: Policy,
    samples: Mapping[str, bytes],
    read: Callable[[bytes], Document],
    kind_of: Callable[[Document], str],
    entropy: Entropy,
) -> list[Problem]:
    """Every expectation of every test that does not hold. `samples`: by the name the test uses; `read` and `kind_of`:
    bytes to document and document to message type, as production has them; both may raise Refusal."""
    found: list[Problem] = []
    for test in policy.tests:
        if (data := samples.get(test.sample)) is None:
            message = f'the sample "{test.sample}" cannot be read'
            found.append(Problem(test.place, "sample-missing", message, "write its path as seen from the policy file"))
        else:
            found += _check(policy, test, data, read, kind_of, entropy)
    return found


def _check(
    policy: Policy,
    test: PolicyTest,
    data: bytes,
    read: Callable[[bytes], Document],
    kind_of: Callable[[Document], str],
    entropy: Entropy,
) -> list[Problem]:
    occasion = Occasion(test.direction, test.phase, test.method, test.path, test.role)
    try:
        document = read(data)
        kind = kind_of(document) if test.direction is Direction.INBOUND else ""
    except Refusal as refusal:
        message = f'the sample "{test.sample}" is no message: {refusal.row.message}'
        return [Problem(test.place, "sample-malformed", message)]
    try:
        rules = find_rules(policy, occasion, document.form, kind)
        result = explain(policy, rules, document, occasion, temporary_keys(policy, entropy), entropy)
    except Refusal as refusal:
        return [_failed(test, f"the message is refused: {refusal.code}, {refusal.row.message}")]
    return _judge(test, result)


def _failed(test: PolicyTest, message: str) -> Problem:
    return Problem(test.place, "test-failed", f'"{test.sample}": {message}')


def _judge(test: PolicyTest, result: Explanation) -> list[Problem]:
    found = []
    for text, word in test.expect.items():
        rows = [row for row in result.rows if _points_at(parse_selector(text), row.form, row.path)]
        if not rows:
            found.append(_failed(test, f"{text} is not in the sample"))
        wrong = [row for row in rows if row.treatment.value != word]
        found += [_failed(test, f"{row.selector} should be {word} and is {_is(row)}") for row in wrong]
    if result.refusal and Treatment.REFUSED.value not in test.expect.values():
        row = next(row for row in result.rows if row.code)
        found.append(_failed(test, f"the message is refused: {row.code} at {row.selector}, {TABLE[row.code].message}"))
    return found


def _is(row: Row) -> str:
    return row.treatment.value + (f" by {row.rule}" if row.rule else " for want of a rule")


def _points_at(selector: Selector, form: str, path: Path) -> bool:
    pattern = selector.pattern
    return (
        selector.form == form
        and len(pattern) == len(path)
        and all(segment is ANY or segment == part for segment, part in zip(pattern, path, strict=True))
    )
