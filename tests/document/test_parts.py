"""Parts of a text: what patterns find and the rest, and what may take a part's place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.document.parts import MAX_PARTS, MAX_TEXT, REST, read_parts
from proxy.document.tree import DROP, Value, render
from proxy.policy.patterns import BUILT_IN, compile_pattern
from proxy.refusal import Refusal

NAME = compile_pattern("name", r"@(\pL{1,8})")
PHONE = compile_pattern("phone", r"\b1[3-9][0-9]{9}\b")


def parts(text: str, *finders) -> list[tuple[str, str]] | None:  # type: ignore[no-untyped-def]
    document = read_parts(text, finders)
    return document and [(leaf.path[0], leaf.text) for leaf in document.leaves]


def test_a_sentence_falls_into_parts_and_the_rest() -> None:
    assert parts("问 @李娜, 13800138000!", NAME, PHONE) == [
        (REST, "问 @"), ("name", "李娜"), (REST, ", "), ("phone", "13800138000"), (REST, "!"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "nothing here", "@ 1380013800"])
def test_a_text_without_parts_is_the_rest(text: str) -> None:
    assert parts(text, NAME, PHONE) == [(REST, text)]


def test_of_two_that_begin_together_the_first_goes_first() -> None:
    long, short = compile_pattern("long", "ab"), compile_pattern("short", "a")
    assert parts("ab", long, short) == [("long", "ab")]
    assert parts("ab", short, long) == [("short", "a"), (REST, "b")]


def test_the_one_that_begins_first_goes_first() -> None:
    assert parts("xab", compile_pattern("b", "b"), compile_pattern("ab", "ab")) == [(REST, "x"), ("ab", "ab")]


def test_what_follows_is_searched_behind_the_part() -> None:
    assert parts("aaa", compile_pattern("one", "aa")) == [("one", "aa"), (REST, "a")]


@pytest.mark.parametrize("pattern", [r"a(x*)", r"none|a(b)?", r"\b"])
def test_with_an_empty_part_a_text_is_one_value(pattern: str) -> None:
    """Where the pattern would find something further on, nothing may be overlooked."""
    for text in ("a ax", "a none ab"):
        assert parts(text, compile_pattern("part", pattern)) is None


def test_a_text_that_is_too_long_or_has_too_many_parts_is_not_looked_into() -> None:
    every = compile_pattern("every", "a")
    assert len(parts("a" * MAX_PARTS, every) or ()) == MAX_PARTS
    assert parts("a" * (MAX_PARTS + 1), every) is None
    assert parts("b" * MAX_TEXT, every) is not None
    assert parts("b" * (MAX_TEXT + 1), every) is None


@given(st.text(alphabet="@a1李 .-_x3800\n", max_size=60))
def test_the_parts_are_the_text(text: str) -> None:
    document = read_parts(text, (NAME, PHONE, compile_pattern("a", "a+")))
    if document is not None:
        assert "".join(leaf.text for leaf in document.leaves) == text
        assert render(document, {}).decode() == text
        assert all(leaf.text == text[leaf.start : leaf.end] for leaf in document.leaves)


def put(text: str, value: Value, *finders) -> str:  # type: ignore[no-untyped-def]
    document = read_parts(text, finders)
    assert document is not None
    at = {index: value for index, leaf in enumerate(document.leaves) if leaf.path[0] != REST}
    return render(document, at).decode()


def test_a_value_takes_the_place_of_its_part() -> None:
    assert put("hi @Li, ok", Value("wg1.AAAA"), NAME) == "hi @wg1.AAAA, ok"
    assert put("hi @Li, ok", DROP, NAME) == "hi @, ok"


@pytest.mark.parametrize("text", ["x1", "1x", "1-", "_1", "1_", "11"])
def test_a_value_that_would_run_together_with_what_is_beside_it_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as error:
        put(text, Value("wg1.AAAA"), compile_pattern("digit", "[0-9]"))
    assert error.value.code == "value_refused"


@given(st.text(alphabet="wg1.A-_ 号@", max_size=12), st.text(alphabet="wg1.A-_ 号@", max_size=12))
def test_a_token_that_was_put_in_is_found_again(before: str, after: str) -> None:
    token = "wg1." + "Ab0_-" * 20
    try:
        out = put(f"{before}#{after}", Value(token), compile_pattern("place", "#"))
    except Refusal:
        return
    assert ("token", token) in (parts(out, BUILT_IN["token"]) or [])


def test_beside_other_writing_it_may_stand() -> None:
    digit = compile_pattern("digit", "[0-9]")
    assert put("号1码", Value("wg1.AAAA"), digit) == "号wg1.AAAA码"
    assert put("No-1. .1,", Value("wg1.AAAA"), digit) == "No-wg1.AAAA. .wg1.AAAA,"
    assert put("x1x", Value("***"), digit) == "x***x"
