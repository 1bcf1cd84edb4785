"""What stands inside the text of a leaf."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.document.inside import read_inside
from proxy.document.tree import Into, Kind, Leaf, Value, render


def leaf(text: str, kind: Kind = Kind.STRING) -> Leaf:
    return Leaf(("xml", "Content"), text, kind, 0, 0, (0, 0))


@pytest.mark.parametrize(
    ("into", "text", "inner"),
    [
        (Into.JSON, ' {"a": [1, "x"]} ', [(("a", 0), "1"), (("a", 1), "x")]),
        (Into.JSON, "[true]", [((0,), "true")]),
        (Into.XML, "<m><n>x</n></m>", [(("m", "n"), "x")]),
        (Into.FORM, "a=1&b=%20", [(("a",), "1"), (("b",), " ")]),
        (Into.BASE64, "5L2g5aW9", [(("text",), "你好")]),
    ],
)
def test_leaves_inside_have_the_path_they_have_in_the_whole(
    into: Into, text: str, inner: list[tuple[tuple[str | int, ...], str]]
) -> None:
    document = read_inside(leaf(text), into)
    assert document is not None
    found = [(each.path, each.text) for each in document.leaves]
    assert found == [(("xml", "Content", into, *path), value) for path, value in inner]


@pytest.mark.parametrize(
    ("into", "text"),
    [
        (Into.JSON, "1"), (Into.JSON, '"x"'), (Into.JSON, "null"), (Into.JSON, "{}"), (Into.JSON, "[]"),
        (Into.JSON, ""), (Into.JSON, '{"a":1'), (Into.JSON, '{"a":1,"a":2}'), (Into.JSON, "[" * 17 + "1" + "]" * 17),
        (Into.XML, "x"), (Into.XML, "<m>"), (Into.XML, '<!DOCTYPE m><m/>'),
        (Into.FORM, ""), (Into.FORM, "a b"), (Into.FORM, "a=1&a=2"),
        (Into.BASE64, ""), (Into.BASE64, "5L2g5aW9="), (Into.BASE64, "5L2g 5aW9"), (Into.BASE64, "/w=="),
        (Into.BASE64, "YR=="), (Into.BASE64, "你好"), (Into.BASE64, "AA=="),
    ],
)  # fmt: skip
def test_what_cannot_be_read_so_is_one_value(into: Into, text: str) -> None:
    assert read_inside(leaf(text), into) is None


@pytest.mark.parametrize("kind", [Kind.NUMBER, Kind.LITERAL, Kind.EMPTY])
def test_only_a_text_has_an_inside(kind: Kind) -> None:
    assert read_inside(leaf('{"a":1}', kind), Into.JSON) is None


@given(st.text(min_size=1))
def test_base64_is_written_as_it_was_read(text: str) -> None:
    spelled = base64.b64encode(text.encode()).decode()
    document = read_inside(leaf(spelled), Into.BASE64)
    if "\0" in text or text.startswith("\ufeff"):  # what no document may hold
        assert document is None
        return
    assert document is not None
    assert render(document, {0: Value(text + "!")}).decode() == base64.b64encode((text + "!").encode()).decode()
