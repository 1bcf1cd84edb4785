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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@李娜\u2005看", ["李娜\u2005"]), ("@John Smith\u2005看 @b", ["John Smith\u2005", "b"]),
        ("＠🌸小美 hi, @bob_2.", ["🌸小美", "bob_2."]), ("@" + "李" * 64, ["李" * 64]), ("@ @", []), ("a@b", ["b"]),
    ],
)  # fmt: skip
def test_the_built_in_pattern_finds_mentions(text: str, found: list[str]) -> None:
    assert [part for name, part in parts(text, BUILT_IN["mention"]) or [] if name == "mention"] == found


@pytest.mark.parametrize("pattern", ["a{65}", "a{1,65}", "(?:a{2}){1000}"])
def test_a_pattern_repeats_nothing_too_often(pattern: str) -> None:
    """RE2 would compare letter by letter with each of them."""
    with pytest.raises(ValueError, match="repeats"):
        compile_pattern("p", pattern)
    assert compile_pattern("p", r"a{1,64}b{2,}\x{2005}")


@pytest.mark.parametrize(
    "pattern", ["", "a*", "(a)(b)", "(", r"a(?=b)", r"(a)\1", "x" * 257, r"(\pL{1,1000}){1,9}", "a|"]
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        compile_pattern("p", pattern)


def test_rest_is_no_name_for_a_pattern() -> None:
    with pytest.raises(ValueError, match="no pattern finds"):
        compile_pattern(REST, "a")
