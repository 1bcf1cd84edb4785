"""The common form: what is not changed leaves byte for byte, and no change touches another."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.document.json_body import read_json
from proxy.document.query import read_query
from proxy.document.tree import DROP, Document, Kind, Leaf, Value, decode, render
from proxy.document.xml_body import read_xml
from proxy.refusal import Refusal


def _leaf(start: int, end: int, whole: tuple[int, int]) -> Leaf:
    return Leaf(("x",), "", Kind.STRING, start, end, whole)


def _document(source: str, *leaves: Leaf) -> Document:
    return Document("test", source, leaves, lambda _leaf, value: value.text)


def test_without_changes_nothing_changes() -> None:
    assert render(_document("你 x"), {}) == "你 x".encode()


def test_changes_come_in_any_order_and_keep_what_is_between() -> None:
    document = _document("<aa|bb|cc>", _leaf(1, 3, (1, 3)), _leaf(4, 6, (4, 6)), _leaf(7, 9, (7, 9)))
    assert render(document, {2: Value("3"), 0: Value("longer"), 1: DROP}) == b"<longer||3>"


def test_an_empty_place_can_be_filled() -> None:
    document = _document("<>", _leaf(1, 1, (0, 2)))
    assert render(document, {0: Value("x")}) == b"<x>"


def test_only_the_one_drop_drops() -> None:
    """An equal value made elsewhere is a value: dropping has to be meant."""
    document = _document("<aa>", _leaf(1, 3, (0, 4)))
    assert Value("", Kind.EMPTY) == DROP
    assert render(document, {0: Value("", Kind.EMPTY)}) == b"<>"
    assert render(document, {0: DROP}) == b""


@pytest.mark.parametrize("changes", [{0: Value("x"), 1: Value("y")}, {0: DROP, 1: DROP}, {0: DROP, 1: Value("y")}])
def test_changes_that_overlap_are_a_fault(changes: dict[int, Value]) -> None:
    document = _document("abcdef", _leaf(1, 4, (0, 5)), _leaf(3, 5, (3, 6)))
    with pytest.raises(ValueError, match="overlap"):
        render(document, changes)


def test_gaps_are_asked_for_only_when_something_is_dropped() -> None:
    asked: list[frozenset[int]] = []

    def gaps(dropped: frozenset[int]) -> list[tuple[int, int]]:
        asked.append(dropped)
        return [(2, 3)]

    document = Document("test", "aa,bb", (_leaf(0, 2, (0, 2)), _leaf(3, 5, (3, 5))), lambda _, v: v.text, gaps)
    assert render(document, {0: Value("x")}) == b"x,bb"
    assert asked == []
    assert render(document, {0: DROP, 1: Value("y")}) == b"y"
    assert asked == [frozenset({0})]


def test_single() -> None:
    document = read_json(b'{"a":"1","b":{"a":"2"},"c":[{"d":"3"}],"e":""}')
    assert (document.single("a"), document.single("b", "a"), document.single("e")) == ("1", "2", "")
    assert (document.single("b"), document.single("A"), document.single()) == (None, None, None)


def test_single_refuses_to_choose() -> None:
    document = read_xml(b"<xml><a>1</a><b/><a>1</a></xml>")
    with pytest.raises(Refusal, match="document_malformed"):
        document.single("xml", "a")


def test_a_document_shows_no_functions() -> None:
    assert "lambda" not in repr(_document("x"))


@pytest.mark.parametrize(
    "body", [b"\x00", b"a\x00", b"\xef\xbb\xbf", b"\xef\xbb\xbfa", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf"]
)
def test_decode_refuses(body: bytes) -> None:
    with pytest.raises(Refusal, match="document_malformed"):
        decode(body)


@settings(deadline=None)
@given(body=st.binary(max_size=30))
def test_decode_loses_nothing(body: bytes) -> None:
    try:
        assert decode(body).encode() == body
    except Refusal as refusal:
        assert refusal.code == "document_malformed"


MEMBERS = (("x", "<1>"), ("y", 'a"&]]> 你'))


def test_members_take_the_place_of_one_and_are_read_as_what_was_meant() -> None:
    json_text = render(read_json('{"你":1, "b" : {"c":[]} ,"d":3}'.encode()), {1: Value("", members=MEMBERS)}).decode()
    assert json_text == '{"你":1, "b" : {"x":"<1>","y":"a\\"&]]> 你"} ,"d":3}'
    for middle in ("<b/>", "<b>2</b>", "<b><![CDATA[2]]></b>"):
        source = f"<xml><a>你</a> {middle} <c>3</c></xml>"
        changed = render(read_xml(source.encode()), {1: Value("", members=MEMBERS)})
        written = '<x><![CDATA[<1>]]></x><y><![CDATA[a"&]]]]><![CDATA[> 你]]></y>'
        assert changed.decode() == source.replace(middle, written)
        assert [leaf.text for leaf in read_xml(changed).leaves] == ["你", "<1>", 'a"&]]> 你', "3"]
    changed = render(read_query("a=1&b=2&c"), {1: Value("", members=MEMBERS)})
    assert changed == b"a=1&x=%3C1%3E&y=a%22%26%5D%5D%3E%20%E4%BD%A0&c"
    assert read_query(changed.decode()).single("y") == 'a"&]]> 你'


def test_members_beside_what_is_dropped_leave_a_document() -> None:
    for dropped in (0, 2):
        changed = render(read_json(b'{"a":1,"b":2,"c":3}'), {1: Value("", members=MEMBERS), dropped: DROP})
        assert set(json.loads(changed)) == {"x", "y", "c" if dropped == 0 else "a"}


@pytest.mark.parametrize(
    "members", [(("a b", "1"),), (("1a", "1"),), (("", "1"),), (("a", "\x01"),), (("a", "\uffff"),)]
)
def test_an_element_of_no_name_or_with_what_xml_cannot_carry_is_refused(members: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(Refusal, match="value_refused"):
        render(read_xml(b"<xml><a>1</a></xml>"), {0: Value("", members=members)})


def test_a_document_without_names_takes_no_members() -> None:
    with pytest.raises(Refusal, match="value_refused"):
        render(_document("<x>", _leaf(1, 2, (0, 3))), {0: Value("", members=MEMBERS)})
