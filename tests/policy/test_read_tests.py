"""Tests as written: every fault of shape, at its place."""

import pytest

from tests.policy.build import require_told


@pytest.mark.parametrize(
    ("text", "code", "at"),
    [
        ("version: 1\ntests: [{expect: {}}]", "missing-key", "{expect"),
        ("version: 1\ntests: [{sample: a}]", "missing-key", "{sample"),
        ("version: 1\ntests: [{sample: a, expect: {Content: allowed}}]", "selector-malformed", "Content"),
        ("version: 1\ntests: [{sample: a, expect: {'xml:/xml/a': encrypt}}]", "wrong-value", "encrypt"),
        ("version: 1\ntests: [{sample: a, expect: {'xml:/xml/a': [allowed]}}]", "wrong-value", "[allowed]"),
        ("version: 1\ntests: [{sample: a, expects: {}, expect: {}}]", "unknown-key", "expects"),
        ("version: 1\ntests: [{sample: a, expect: {}, tenant: 'A B'}]", "wrong-value", "'A B'"),
        ("version: 1\ntests: [{sample: a, expect: {}, headers: {host: x}}]", "selector-malformed", "host"),
        ("version: 1\ntests: [{sample: a, expect: {}, headers: {a: [x]}}]", "wrong-type", "[x]"),
    ],
)
def test_a_fault_of_shape_is_a_problem_at_its_place(text: str, code: str, at: str) -> None:
    require_told(text, code, at)
