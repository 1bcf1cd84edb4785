"""Typed access to a file: what is taken is checked, what nobody asked for is a problem."""

import pytest

from proxy.source.problem import Problem
from proxy.source.section import Section
from proxy.source.yaml_reader import read_yaml


def section(text: str) -> Section:
    return Section(read_yaml(text.encode(), "f"), [], "the thing")


def found(taken: Section) -> list[tuple[str, int, int]]:
    return [(problem.code, problem.place.line, problem.place.column) for problem in taken.problems]


def only(taken: Section) -> Problem:
    assert len(taken.problems) == 1
    return taken.problems[0]


def test_what_is_taken_rightly_is_no_problem() -> None:
    taken = section("t: x\nc: b\nn: 3\nf: true\nd: 500ms\ns: 2MiB\nl: [a, b]\nm: {k: v}\nms: [{k: w}]\n")
    assert taken.text("t") == "x"
    assert taken.choice("c", ["a", "b"]) == "b"
    assert taken.number("n", 0, least=1, most=3) == 3
    assert taken.flag("f") is True
    assert taken.duration("d", 0) == 0.5
    assert taken.size("s", 0, most=2 * 1024 * 1024) == 2 * 1024 * 1024
    assert taken.texts("l") == ("a", "b")
    inner = taken.section("m")
    assert inner is not None
    assert inner.text("k") == "v"
    assert [item.text("k") for item in taken.sections("ms")] == ["w"]
    taken.done()
    assert taken.problems == []


def test_what_is_not_there_gives_the_default() -> None:
    taken = section("{}")
    assert taken.text("a", "d") == "d"
    assert taken.choice("a", ["x"], "x") == "x"
    assert taken.number("a", 7) == 7
    assert taken.flag("a", True) is True
    assert taken.duration("a", 1.5) == 1.5
    assert taken.size("a", 9, most=10) == 9
    assert (taken.section("a"), taken.sections("a"), taken.texts("a"), taken.take("a")) == (None, [], (), None)
    assert taken.problems == []


def test_what_is_required_and_missing_is_a_problem_each_at_the_section() -> None:
    taken = section("\n x: 1")
    taken.text("a", required=True)
    taken.choice("b", ["x"], required=True)
    taken.number("c", 0, required=True)
    taken.section("d", required=True)
    taken.texts("e", required=True)
    assert found(taken) == [("missing-key", 2, 2)] * 5
    assert taken.problems[0].message == 'the thing needs "a"'


@pytest.mark.parametrize("value", ["12", "true", "~", "1.5", "[a]", "{a: 1}", ""])
def test_a_text_is_a_text(value: str) -> None:
    taken = section(f"a: {value}")
    assert taken.text("a", "d") == "d"
    assert only(taken).code == "wrong-type"


def test_a_text_of_another_form_is_told_the_form() -> None:
    taken = section("a: x y")
    assert taken.text("a", "d", pattern="[a-z]+", hint="letters") == "d"
    assert (only(taken).code, only(taken).fix) == ("wrong-value", "letters")


def test_a_pattern_matches_all_of_the_text_and_only_ascii() -> None:
    for value in ('"x\\n"', '"ⅻ"', '"١"'):
        assert section(f"a: {value}").text("a", "d", pattern=r"\w+") == "d"


def test_a_choice_hints_at_the_nearest() -> None:
    taken = section("a: encript")
    assert taken.choice("a", ["encrypt", "drop"], "drop") == "drop"
    assert (only(taken).code, only(taken).fix) == ("wrong-value", 'did you mean "encrypt"?')
    assert only(section_with("a: [encrypt]")).code == "wrong-value"


def section_with(text: str) -> Section:
    taken = section(text)
    taken.choice("a", ["encrypt"])
    return taken


@pytest.mark.parametrize("value", ["0", "11", "-1", "1.0", "true", "'1'", "1e1", "x", "~", "[1]", "9" * 30])
def test_a_number_is_whole_and_within_its_bounds(value: str) -> None:
    taken = section(f"a: {value}")
    assert taken.number("a", 5, least=1, most=10) == 5
    assert only(taken).code == "wrong-value"


@pytest.mark.parametrize("value", ["yes", "on", "1", "'true'", "~", "[true]"])
def test_a_flag_is_true_or_false(value: str) -> None:
    taken = section(f"a: {value}")
    assert taken.flag("a") is False
    assert only(taken).code == "wrong-type"


@pytest.mark.parametrize("value", ["0s", "5", "1 s", "-1s", "1.5s", "1w", "400d", "s", "~", "[1s]", "١s", "1s x"])
def test_a_duration_has_a_unit_and_a_bound(value: str) -> None:
    taken = section(f"a: {value}")
    assert taken.duration("a", 4.0) == 4.0
    assert only(taken).code == "wrong-value"


@pytest.mark.parametrize("value", ["0", "1GiB", "1kb", "-1", "2MiB", "x", "1 KiB"])
def test_a_size_has_a_unit_and_a_bound(value: str) -> None:
    taken = section(f"a: {value}")
    assert taken.size("a", 7, most=1024 * 1024) == 7
    assert only(taken).code == "wrong-value"


@pytest.mark.parametrize(("value", "seconds"), [("2m", 120), ("3h", 10800), ("1d", 86400), ("4s", 4)])
def test_durations_are_seconds(value: str, seconds: float) -> None:
    assert section(f"a: {value}").duration("a", 0) == seconds


@pytest.mark.parametrize(("value", "size"), [("100", 100), ("100B", 100), ("64KiB", 65536)])
def test_sizes_are_bytes(value: str, size: int) -> None:
    assert section(f"a: {value}").size("a", 0, most=2**30) == size


def test_lists_and_mappings_are_what_they_are() -> None:
    taken = section("l: x\nm: [1]\nitems: [1, {}]\ntexts: [a, 2, [b]]\n")
    assert taken.nodes("l") == ()
    assert taken.section("m") is not None
    assert len(taken.sections("items")) == 2
    assert taken.texts("texts") == ("a",)
    assert found(taken) == [
        ("wrong-type", 1, 4),
        ("wrong-type", 2, 4),
        ("wrong-type", 3, 9),
        ("wrong-type", 4, 12),
        ("wrong-type", 4, 15),
    ]


@pytest.mark.parametrize(("key", "name"), [("policies", "policy"), ("classes", "class"), ("messages", "message")])
def test_an_entry_of_a_list_is_named_in_the_singular(key: str, name: str) -> None:
    taken = section(f"{key}: [1]")
    taken.sections(key)
    assert only(taken).message == f"a {name} entry must be a mapping"


def test_a_document_that_is_no_mapping_is_one_problem() -> None:
    taken = section("[a]")
    taken.done()
    assert found(taken) == [("wrong-type", 1, 1)]


def test_every_key_nobody_asked_for_is_a_problem_with_a_hint() -> None:
    taken = section("clases: 1\nx: 2\nok: 3\n")
    taken.take("classes")
    taken.take("ok")
    taken.done()
    assert found(taken) == [("unknown-key", 1, 1), ("unknown-key", 2, 1)]
    assert [problem.fix for problem in taken.problems] == ['did you mean "classes"?', "known here: classes, ok"]
    taken.done()
    assert len(taken.problems) == 2


def test_the_rest_is_what_was_not_taken_and_then_nothing_is_left() -> None:
    taken = section("a: 1\nb: 2\nc: 3\n")
    taken.take("b")
    assert [key.text for key, _ in taken.rest()] == ["a", "c"]
    taken.done()
    assert taken.problems == []
