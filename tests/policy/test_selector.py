"""Selectors: their grammar, what they refuse, and which of several wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.selector import ANY, Pattern, Segment, Table, parse_selector


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("xml:/xml/Content", ("xml", "Content")),
        ("xml:/xml/SendPicsInfo/PicList/item/PicMd5Sum", ("xml", "SendPicsInfo", "PicList", "item", "PicMd5Sum")),
        ("xml:/*/Content", (ANY, "Content")),
        ("xml:/xml/_a-b.c", ("xml", "_a-b.c")),
        ("json:$.a", ("a",)),
        ("json:$.data[*]['first name']", ("data", ANY, "first name")),
        ("json:$.*", (ANY,)),
        ("json:$[0].a", (0, "a")),
        ("json:$['0']", ("0",)),
        ('json:$["it\'s"]', ("it's",)),
        ("json:$['*']", ("*",)),
        ("json:$['']", ("",)),
        ("json:$.名字", ("名字",)),
        ("json:$['a.b']", ("a.b",)),
        ("query:access_token", ("access_token",)),
        ("query:a.b-c", ("a.b-c",)),
    ],
)
def test_a_selector_is_its_form_and_its_segments(text: str, pattern: Pattern) -> None:
    selector = parse_selector(text)
    assert (selector.form, selector.pattern, selector.text) == (text.partition(":")[0], pattern, text)
    assert selector.has_wildcard is (ANY in pattern)


@pytest.mark.parametrize(
    "text",
    [
        *("", "Content", "/xml/Content", "yaml:/a/b", "XML:/xml/a", " xml:/xml/a"),
        *("xml:", "xml:/", "xml:/xml", "xml:xml/a", "xml://a", "xml:/xml/", "xml:/xml//a", "xml:/xml/a/text()"),
        *("xml:/xml/@id", "xml:/xml/a[1]", "xml:/xml/n:a", "xml:/xml/1a", "xml:/xml/a b", "xml:/xml/" + "a" * 65),
        *("xml:/xml/..", "xml:/xml/.", "xml:/xml/内容", "xml:/xml/a\n", "xml:/xml/**"),
        *("json:", "json:$", "json:a", "json:.a", "json:$a", "json:$.", "json:$..a", "json:$.a..b", "json:$..*"),
        *(
            "json:$[?@.a]",
            "json:$[?(@.a>1)]",
            "json:$[1:2]",
            "json:$[:]",
            "json:$[::2]",
            "json:$['a','b']",
            "json:$[0,1]",
        ),
        *(
            "json:$[-1]",
            "json:$[01]",
            "json:$[ 0]",
            "json:$[]",
            "json:$[a]",
            "json:$['a]",
            "json:$['a\\'b']",
            "json:$[1.0]",
        ),
        *(
            "json:$.1a",
            "json:$.a-b",
            "json:$.a b",
            "json:$.a ",
            "json:$. a",
            "json:$[99999999]",
            "json:$.a\n",
            "json:$@",
        ),
        *("query:", "query:a b", "query:a=b", "query:*", "query:a&b", "query:" + "a" * 65, "query:名", "query:a\n"),
    ],
)
def test_what_is_no_selector_is_told_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]{3}"):
        parse_selector(text)


def best(patterns: list[Pattern], path: tuple[str | int, ...]) -> Pattern | None:
    """Specificity as the language defines it: left to right, a name or index before `*`."""
    fitting = [
        pattern
        for pattern in patterns
        if len(pattern) == len(path) and all(want in (ANY, have) for want, have in zip(pattern, path, strict=True))
    ]
    return min(fitting, key=lambda pattern: [segment is ANY for segment in pattern], default=None)


SEGMENTS = st.sampled_from(["a", "b", "*", "0", 0, 1])


@given(
    st.lists(st.lists(SEGMENTS | st.just(ANY), min_size=1, max_size=4).map(tuple), max_size=20, unique=True),
    st.lists(SEGMENTS, max_size=4).map(tuple),
)
def test_the_table_finds_the_most_specific_of_all(patterns: list[Pattern], path: tuple[str | int, ...]) -> None:
    table: Table[Pattern] = Table()
    for pattern in patterns:
        assert table.add(pattern, pattern) is None
    assert table.find(path) == best(patterns, path)


def test_a_literal_to_the_left_wins_over_two_to_the_right() -> None:
    table: Table[str] = Table()
    table.add(("a", ANY, ANY), "left")
    table.add((ANY, "b", "c"), "right")
    assert table.find(("a", "b", "c")) == "left"
    assert table.find(("x", "b", "c")) == "right"


def test_a_dead_end_on_the_literal_side_goes_back_to_the_wildcard() -> None:
    table: Table[str] = Table()
    table.add(("a", "x"), "literal")
    table.add((ANY, "y"), "any")
    assert table.find(("a", "y")) == "any"
    assert table.find(("a", "z")) is None


@pytest.mark.parametrize("path", [(), ("a",), ("a", "b", "c")])
def test_a_pattern_matches_neither_what_is_above_nor_what_is_below(path: tuple[Segment, ...]) -> None:
    table: Table[str] = Table()
    table.add(("a", "b"), "here")
    assert table.find(tuple(str(segment) for segment in path)) is None


def test_more_paths_than_are_remembered_are_still_found() -> None:
    table: Table[str] = Table()
    table.add((ANY, "a"), "here")
    assert {table.find((name, "a")) for name in range(3000)} == {"here"}
    assert {table.find((name, "b")) for name in range(3000)} == {None}


def test_the_same_pattern_twice_returns_the_first_and_keeps_it() -> None:
    table: Table[str] = Table()
    assert table.add(("a",), "first") is None
    assert table.add(("a",), "second") == "first"
    assert table.find(("a",)) == "first"
