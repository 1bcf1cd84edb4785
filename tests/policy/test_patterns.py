"""Patterns for parts of a text: those that are built in, and what is none."""

import pytest

from proxy.document.parts import REST
from proxy.policy.patterns import BUILT_IN, compile_pattern
from tests.document.test_parts import parts


@pytest.mark.parametrize("prefix", ["wg1", "wn1", "wl1", "wg2"])
def test_the_built_in_pattern_finds_tokens(prefix: str) -> None:
    token = f"{prefix}.{'Az09-_' * 20}"
    assert parts(f"您好 {token}。", BUILT_IN["token"]) == [(REST, "您好 "), ("token", token), (REST, "。")]


def test_the_built_in_pattern_finds_deterministic_tokens() -> None:
    assert parts("to wd1." + "a2" * 30, BUILT_IN["token"]) == [(REST, "to "), ("token", "wd1." + "a2" * 30)]


def test_the_built_in_pattern_finds_mentions() -> None:
    assert parts("@李娜\u2005看, @bob_2", BUILT_IN["mention"]) == [
        (REST, "@"), ("mention", "李娜"), (REST, "\u2005看, @"), ("mention", "bob_2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "pattern", ["", "a*", "(a)(b)", "(", r"a(?=b)", r"(a)\1", "x" * 257, r"(\pL{1,1000}){1,9}", "a|"]
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        compile_pattern("p", pattern)


def test_rest_is_no_name_for_a_pattern() -> None:
    with pytest.raises(ValueError, match="no pattern finds"):
        compile_pattern(REST, "a")
