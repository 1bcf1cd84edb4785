"""Runs the `tests:` of a policy against its samples. Pure: the samples come as bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy.document.tree import Document, Into, Path
from proxy.policy.compiled import Policy, PolicyTest
from proxy.policy.explain import (
    Entropy,
    Explanation,
    Occasion,
    Row,
    explain,
    find_rules,
    read_sample,
    temporary_keys,
    with_tokens,
)
from proxy.policy.plan import Treatment
from proxy.policy.rules import Direction, RuleSet
from proxy.policy.selector import ANY, Selector, parse_selector
from proxy.refusal import TABLE, Refusal
from proxy.source.problem import Place, Problem

# Who gets passive replies, as production names that caller (`proxy.caller.WECHAT`).
_WECHAT_ROLE = "wechat"


@dataclass(frozen=True, slots=True)
class Run:
    """What one test came to. `rules`, `leaves` (form and path) and `reached` (the places of the rules that decided the
    leaves): of the message that was judged; None and empty if there was none."""

    test: PolicyTest
    problems: tuple[Problem, ...]
    rules: RuleSet | None = None
    leaves: tuple[tuple[str, Path], ...] = ()
    reached: frozenset[Place] = frozenset()


def check_tests(
    policy: Policy,
    samples: Mapping[str, bytes],
    read: Callable[[bytes], Document],
    kind_of: Callable[[Document], str],
    entropy: Entropy,
) -> list[Problem]:
    """Every expectation of every test that does not hold. `samples`: by the name the test uses; the rest as in
    `run_test`."""
    return [
        problem
        for test in policy.tests
        for problem in run_test(policy, test, samples.get(test.sample), read, kind_of, entropy).problems
    ]


def run_test(
    policy: Policy,
    test: PolicyTest,
    data: bytes | None,
    read: Callable[[bytes], Document],
    kind_of: Callable[[Document], str],
    entropy: Entropy,
) -> Run:
    """`data`: of the sample, None if it cannot be read; `read` and `kind_of`: bytes to document and document to message
    type, as production has them; both may raise Refusal."""
    if data is None:
        message = f'the sample "{test.sample}" cannot be read'
        fix = "write its path as seen from the policy file"
        return Run(test, (Problem(test.place, "sample-missing", message, fix),))
    where = occasion_of(test)
    policy = policy.for_owner(test.tenant, test.region)
    try:
        document = read_sample(policy, where, data, read)
        kind = kind_of(document) if document and test.direction is Direction.INBOUND else ""
    except Refusal as refusal:
        message = f'the sample "{test.sample}" is no message: {refusal.row.message}'
        return Run(test, (Problem(test.place, "sample-malformed", message),))
    try:
        result = _explained(policy, where, document, kind, read if test.protect else None, entropy)
    except Refusal as refusal:
        return Run(test, (_failed(test, f"the message is refused: {refusal.code}, {refusal.row.message}"),))
    leaves = tuple((row.form, row.path) for row in result.rows)
    reached = frozenset(row.rule for row in result.rows if row.rule)
    return Run(test, tuple(_judge(test, result)), result.rules, leaves, reached)


def occasion_of(test: PolicyTest) -> Occasion:
    """When the message of `test` comes by."""
    role = test.role or (_WECHAT_ROLE if test.direction is Direction.INBOUND else "")
    headers = tuple((name.encode(), value.encode()) for name, value in test.headers)
    of_call = (test.method, test.path, role, test.query, test.status, headers)
    situation = (test.account, test.tenant, test.region, test.content_type)
    return Occasion(test.direction, test.phase, *of_call, *situation)


def _explained(
    policy: Policy,
    where: Occasion,
    document: Document | None,
    kind: str,
    read: Callable[[bytes], Document] | None,
    entropy: Entropy,
) -> Explanation:
    """`read`: given if clear values are to become tokens first."""
    rules, keys = find_rules(policy, where, document.form if document else "", kind), temporary_keys(policy, entropy)
    if read is not None:
        document, where = with_tokens(policy, rules, document, where, keys, read, entropy)
    return explain(policy, rules, document, where, keys, entropy)


def _failed(test: PolicyTest, message: str) -> Problem:
    return Problem(test.place, "test-failed", f'"{test.sample}": {message}')


def _judge(test: PolicyTest, result: Explanation) -> list[Problem]:
    found = []
    for text, word in test.expect.items():
        rows = [row for row in result.rows if points_at(parse_selector(text), row.form, row.path)]
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


def points_at(selector: Selector, form: str, path: Path) -> bool:
    """Whether `selector` means the leaf at `path` of a document of `form`."""
    pattern = selector.pattern
    return (
        selector.form == form
        and len(pattern) == len(path)
        and all(
            segment == part or (segment is ANY and not isinstance(part, Into))
            for segment, part in zip(pattern, path, strict=True)
        )
    )
