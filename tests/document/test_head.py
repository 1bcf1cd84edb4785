"""The head of a request: variables of a path stay in their segment, of header fields only declared ones are known."""

import string
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.document.head import field_values, read_header, read_path
from proxy.document.tree import Kind, Value, render
from proxy.refusal import Refusal
from tests.policy.build import refused

PATH = "/data/v61.0/Case/500x"
NAMES = (None, "version", None, "id")


def with_id(text: str) -> str:
    """The path with `text` for its id."""
    return render(read_path(PATH, NAMES), {1: Value(text)}).decode()


# --- paths


def test_every_variable_is_a_leaf_by_its_name_and_literal_segments_are_none() -> None:
    document = read_path(PATH, NAMES)
    assert document.form == "path"
    assert [(leaf.path, leaf.text, leaf.kind) for leaf in document.leaves] == [
        (("version",), "v61.0", Kind.STRING),
        (("id",), "500x", Kind.STRING),
    ]
    assert [PATH[leaf.start : leaf.end] for leaf in document.leaves] == ["v61.0", "500x"]
    assert render(document, {}) == PATH.encode()


def test_two_variables_of_one_text_are_told_apart_by_their_places() -> None:
    document = read_path("/a/a/a", ("one", None, "two"))
    assert render(document, {0: Value("x"), 1: Value("longer")}) == b"/x/a/longer"


@pytest.mark.parametrize("names", [(), (None,), (None, None, None), ("a", "b", "c")])
def test_names_that_are_not_those_of_the_path_are_a_fault_not_a_guess(names: tuple[str | None, ...]) -> None:
    with pytest.raises(ValueError, match="zip"):
        read_path("/a/b", names)


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "a/b", "/", "../x", "..\\x", "a\\b", "a;b=c", "..;", "%2e%2e", "%2F", "a%", "a?b", "a#b"),
        *("/etc/passwd", "a/..", "..%2f"),
    ],
)
def test_a_value_that_would_make_another_path_is_refused(text: str) -> None:
    assert refused(lambda: with_id(text)) == "value_refused"


@pytest.mark.parametrize(
    ("text", "segment"),
    [
        ("500y", "500y"),
        ("...", "..."),
        ("-._~", "-._~"),
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("a&b=c", "a%26b%3Dc"),
        ("你", "%E4%BD%A0"),
        ("a\r\nHost: x", "a%0D%0AHost%3A%20x"),
        ("\x00", "%00"),
        ("***1", "%2A%2A%2A1"),
        ("[redacted]", "%5Bredacted%5D"),
        ("．．", "%EF%BC%8E%EF%BC%8E"),
    ],
)
def test_a_value_is_written_so_that_it_stays_in_its_segment(text: str, segment: str) -> None:
    assert with_id(text) == "/data/v61.0/Case/" + segment


@given(text=st.text(max_size=12))
def test_whatever_is_written_the_path_has_as_many_segments_and_the_value_comes_back(text: str) -> None:
    try:
        path = with_id(text)
    except Refusal as refusal:
        assert refusal.code == "value_refused"
        return
    assert set(path) <= set(string.ascii_letters + string.digits + "-._~%/")
    *before, last = path.split("/")
    assert before == ["", "data", "v61.0", "Case"]
    assert last not in ("", ".", "..")
    assert unquote(last) == text


# --- header fields

DECLARED = frozenset({"if-match", "x-a"})


def fields(*headers: tuple[bytes, bytes]) -> dict[str, str]:
    document = read_header(headers, DECLARED)
    return {str(leaf.path[0]): leaf.text for leaf in document.leaves}


def test_of_fields_that_are_not_declared_nothing_is_known() -> None:
    secret = (b"authorization", b"Bearer s3cret")
    document = read_header((secret, (b"x-a", b"1"), (b"cookie", b"c"), (b"x-ab", b"2"), (b"x", b"3")), DECLARED)
    assert [(leaf.path, leaf.text) for leaf in document.leaves] == [(("x-a",), "1")]
    assert document.form == "header"
    assert "s3cret" not in repr(document) + document.source
    assert field_values(document, ["1"]) == ((b"x-a", b"1"),)


def test_declared_fields_that_are_not_there_are_no_leaves() -> None:
    assert fields() == {}
    assert read_header(((b"x-a", b"1"),), frozenset()).leaves == ()


@pytest.mark.parametrize(
    "headers",
    [
        ((b"x-a", b"1"), (b"x-a", b"1")),
        ((b"x-a", b""), (b"x-a", b"1")),
        ((b"x-a", b"1"), (b"if-match", b"2"), (b"x-a", b"3")),
    ],
)
def test_a_declared_field_that_is_repeated_is_malformed(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    assert refused(lambda: fields(*headers)) == "document_malformed"


@pytest.mark.parametrize(
    "value",
    [
        *(b"\xc3\xa9", b"\xe9", b"a\tb", b"a\r\nb", b"\x00", b"\x7f", b"a\nb", b"\n", b"a\n", b"\xff"),
        b"a" * 4097,
    ],
)
def test_a_declared_field_of_other_than_visible_ascii_is_malformed(value: bytes) -> None:
    assert refused(lambda: fields((b"x-a", value))) == "document_malformed"
    assert fields((b"x-b", value)) == {}


@pytest.mark.parametrize("value", [b"", b'"etag"', b"a, b", b"~ !", b"a" * 4096])
def test_a_declared_field_of_visible_ascii_is_a_text(value: bytes) -> None:
    assert fields((b"x-a", value)) == {"x-a": value.decode()}


def test_a_field_without_a_rule_that_is_repeated_is_no_matter() -> None:
    assert fields((b"via", b"1"), (b"via", b"2"), (b"x-a", b"3")) == {"x-a": "3"}


def test_fields_go_on_in_their_order_without_those_that_were_dropped() -> None:
    document = read_header(((b"x-a", b"1"), (b"if-match", b"2")), DECLARED)
    assert field_values(document, ["one", "two"]) == ((b"x-a", b"one"), (b"if-match", b"two"))
    assert field_values(document, [None, "two"]) == ((b"if-match", b"two"),)
    assert field_values(document, [None, None]) == ()


@pytest.mark.parametrize("value", ["é", "你", "a\r\nSet-Cookie: x", "a\nb", "\n", "\x00", "\x7f", "a\tb", "a" * 4097])
def test_a_value_no_field_can_hold_is_refused(value: str) -> None:
    document = read_header(((b"x-a", b"1"),), DECLARED)
    assert refused(lambda: field_values(document, [value])) == "value_refused"


@pytest.mark.parametrize("values", [[], ["1", "2"]])
def test_values_that_are_not_one_for_each_field_are_a_fault(values: list[str | None]) -> None:
    document = read_header(((b"x-a", b"1"),), DECLARED)
    with pytest.raises(ValueError, match="zip"):
        field_values(document, values)


def test_fields_have_no_text_that_could_be_changed() -> None:
    document = read_header(((b"x-a", b"1"),), DECLARED)
    assert refused(lambda: render(document, {0: Value("x")})) == "internal"
