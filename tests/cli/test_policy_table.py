"""Texts made safe to show."""

import unicodedata

import pytest

from proxy.cli.policy_table import shown, table
from proxy.policy.explain import Row
from proxy.policy.plan import Treatment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("你好 a", "你好 a"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202e", "\\u202e"),
        ("\udcff", "\\udcff"),
        ("\u2028", "\\u2028"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text: str, expected: str) -> None:
    assert shown(text) == expected


def row(value: str | None, selector: str = "a") -> Row:
    return Row("query", (selector,), value, Treatment.ALLOWED, "", "", None, "why")


def test_columns_line_up_for_wide_characters() -> None:
    lines = table([row("你好"), row("abcdefgh"), row(None)], ["", "", ""]).splitlines()
    assert len(lines) == 4

    def column(line: str) -> int:
        before = line[: line.index("allowed")]
        return sum(2 if unicodedata.east_asian_width(character) == "W" else 1 for character in before)

    assert len({column(line) for line in lines[1:]}) == 1


def test_long_values_and_tokens_are_shortened_and_quotes_tell_a_text_from_nothing() -> None:
    token = "wg1." + "A" * 80
    lines = table([row("x" * 99), row(token), row(""), row(None)], [""] * 4).splitlines()[1:]
    values = [line.removeprefix("query:a").strip() for line in lines]
    assert values[0].startswith('"' + "x" * 36 + '…" (99 characters)')
    assert values[1].startswith("wg1.AAAAAAAA… (84 characters)")
    assert values[2].startswith('""')
    assert values[3].startswith("-")
