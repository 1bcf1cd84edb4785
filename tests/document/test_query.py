"""The query reader: every name once, every escape whole, agreeing with the standard library on what it takes."""

import string
from urllib.parse import parse_qsl, quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.document.query import read_form, read_query
from proxy.document.tree import DROP, MAX_LEAVES, Change, Kind, Value, render
from proxy.refusal import Refusal

PLAIN = string.ascii_letters + string.digits + "._~!$'()*,:@/?-"
texts = st.text(max_size=8).filter(lambda text: "\0" not in text and not text.startswith("\ufeff"))


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Parameters with different names, in all the ways to spell them."""
    pairs = draw(st.lists(st.tuples(texts.filter(bool), texts), unique_by=lambda pair: pair[0], max_size=6))
    spell = st.sampled_from([quote, quote_plus, lambda text: quote(text, safe=PLAIN), lambda text: quote(text).lower()])
    parts = []
    for name, value in pairs:
        text = value if draw(st.booleans()) else ""
        equals = "=" if text or draw(st.booleans()) else ""
        parts.append(_spelled(draw(spell), name) + equals + _spelled(draw(spell), text))
    return "&".join(parts)


def _spelled(spell: object, text: str) -> str:
    spelled = spell(text)  # type: ignore[operator]
    # Lower-casing must spell the same text: only the escapes may change.
    return spelled if parse_qsl(f"x={spelled}", keep_blank_values=True)[0][1] == text else quote(text)


def pairs(query: str) -> list[tuple[str, str]]:
    return [(str(leaf.path[0]), leaf.text) for leaf in read_query(query).leaves]


def refused(query: str) -> str:
    with pytest.raises(Refusal) as raised:
        read_query(query)
    return raised.value.code


@settings(deadline=None)
@given(query=queries())
def test_reads_what_the_standard_library_reads(query: str) -> None:
    assert pairs(query) == parse_qsl(query, keep_blank_values=True)
    assert render(read_query(query), {}) == query.encode()


@settings(deadline=None, max_examples=300)
@given(query=st.one_of(st.text(max_size=20), st.text("ab=&%+41EFBBBF0;# ", max_size=20)))
def test_arbitrary_text_is_read_as_the_standard_library_does_or_refused(query: str) -> None:
    try:
        read = pairs(query)
    except Refusal as refusal:
        assert refusal.code in ("document_malformed", "document_too_large")
        return
    assert read == parse_qsl(query, keep_blank_values=True)
    assert render(read_query(query), {}) == query.encode()


@settings(deadline=None)
@given(query=queries(), data=st.data())
def test_every_value_can_be_replaced(query: str, data: st.DataObject) -> None:
    document = read_query(query)
    markers = [f"{index}" + data.draw(texts) for index in range(len(document.leaves))]
    written = render(document, {index: Value(marker) for index, marker in enumerate(markers)}).decode()
    assert pairs(written) == [
        (str(leaf.path[0]), marker) for leaf, marker in zip(document.leaves, markers, strict=True)
    ]
    assert written.isascii()


@settings(deadline=None, max_examples=200)
@given(query=queries(), data=st.data())
def test_any_subset_can_be_dropped_and_replaced(query: str, data: st.DataObject) -> None:
    document = read_query(query)
    size = len(document.leaves)
    decisions = data.draw(st.lists(st.sampled_from(["keep", "drop", "new"]), min_size=size, max_size=size))
    changes: Change = {
        index: DROP if decision == "drop" else Value("new")
        for index, decision in enumerate(decisions)
        if decision != "keep"
    }
    written = render(document, changes).decode()
    assert pairs(written) == [
        (name, "new" if decision == "new" else text)
        for (name, text), decision in zip(pairs(query), decisions, strict=True)
        if decision != "drop"
    ]


@pytest.mark.parametrize(
    ("dropped", "expected"),
    [
        ({0}, b"b=2&c"),
        ({1}, b"a=1&c"),
        ({2}, b"a=1&b=2"),
        ({0, 1}, b"c"),
        ({0, 2}, b"b=2"),
        ({1, 2}, b"a=1"),
        ({0, 1, 2}, b""),
    ],
)
def test_ampersands_go_with_what_is_dropped(dropped: set[int], expected: bytes) -> None:
    assert render(read_query("a=1&b=2&c"), dict.fromkeys(dropped, DROP)) == expected


def test_forms_of_a_parameter() -> None:
    document = read_query("a&b=&c=1%3d2&d%20+e=%E4%BD%A0+%2B&f=%26%3D")
    assert [(leaf.path, leaf.text, leaf.kind) for leaf in document.leaves] == [
        (("a",), "", Kind.STRING),
        (("b",), "", Kind.STRING),
        (("c",), "1=2", Kind.STRING),
        (("d  e",), "你 +", Kind.STRING),
        (("f",), "&=", Kind.STRING),
    ]
    written = render(document, {0: Value("界&"), 1: Value("a b"), 3: Value("=/?")})
    assert written == b"a=%E7%95%8C%26&b=a%20b&c=1%3d2&d%20+e=%3D%2F%3F&f=%26%3D"


def test_an_escape_is_decoded_once() -> None:
    assert pairs("a=%2541&b%2541=1") == [("a", "%41"), ("b%41", "1")]


def test_no_query_has_no_leaves() -> None:
    assert read_query("").leaves == ()


@pytest.mark.parametrize(
    "query",
    [
        "&",
        "a=1&",
        "&a=1",
        "a=1&&b=2",
        "=1",
        "=",
        "a=1&a=2",
        "a=1=2",
        "a==",
        "a=1&a=1",
        "a&a",
        "a=1&%61=2",
        "a+b=1&a%20b=2",
        "é=1",
        "a=é",
        "a=1#x",
        "a= 1",
        "a=\t",
        "a=1\n",
        "a=\x00",
        "a=%00",
        "%00=1",
        "a=%",
        "a=%4",
        "a=%4g",
        "a=%u4f60",
        "a=% 41",
        "%=1",
        "a=%ff",
        "a=%C0%80",
        "a=%ED%A0%80",
        "a=%EF%BB%BF1",
        'a="1"',
        "a=<x>",
        "a=[1]",
        "a[]=1",
        "a={}",
        "a=\\",
        "a=^",
        "a=`",
        "a=|",
        "a=\u0661",
        "a=\ud800",
    ],
)
def test_what_can_be_understood_in_two_ways_is_malformed(query: str) -> None:
    assert refused(query) == "document_malformed"


def test_the_number_of_parameters_is_bounded() -> None:
    assert len(read_query("&".join(f"p{n}" for n in range(MAX_LEAVES))).leaves) == MAX_LEAVES
    assert refused("&".join(f"p{n}" for n in range(MAX_LEAVES + 1))) == "document_too_large"


@pytest.mark.parametrize("part", ["a", "%41", "a%41", "=", "a&"])
def test_a_long_query_with_a_stray_end_is_refused_at_once(part: str) -> None:
    """A pattern that backtracks would take years."""
    assert refused(part * 20_000 + "#") == "document_malformed"


# --- forms


@settings(deadline=None)
@given(query=queries())
def test_a_form_is_read_as_a_query_and_comes_out_as_it_came(query: str) -> None:
    form = read_form(query.encode())
    assert form.form == "form"
    assert [(leaf.path, leaf.text) for leaf in form.leaves] == [
        (leaf.path, leaf.text) for leaf in read_query(query).leaves
    ]
    assert render(form, {}) == query.encode()


def test_a_form_can_be_changed_and_grow() -> None:
    form = read_form(b"a=1&b=2&c=3")
    changes = {0: DROP, 1: Value("x&y"), 2: Value("", members=(("c", "*"), ("c enc", "t=1")))}
    assert render(form, changes) == b"b=x%26y&c=%2A&c%20enc=t%3D1"


def test_an_empty_form_has_no_leaves_and_is_still_a_form() -> None:
    assert (read_form(b"").form, read_form(b"").leaves, read_query("").form) == ("form", (), "query")


@pytest.mark.parametrize(
    "body",
    [
        *(b"a=1&a=2", b"a=1&%61=2", b"a+b=1&a%20b=2", b"=1", b"a=1&", b"a=1;b=2", b"a=%", b"a=%ff", b"a=%00"),
        *(b"a=\xff", b"a=\xe4\xbd\xa0", b"\xef\xbb\xbfa=1", b"a=1\r\n", b"\x00", b'{"a": 1}', b"<xml/>", b"a[]=1"),
        b"--boundary\r\ncontent-disposition: form-data\r\n\r\n",
    ],
)
def test_a_form_that_can_be_understood_in_two_ways_is_malformed(body: bytes) -> None:
    with pytest.raises(Refusal) as raised:
        read_form(body)
    assert raised.value.code == "document_malformed"


def test_the_size_of_a_form_is_bounded_like_that_of_a_query() -> None:
    with pytest.raises(Refusal) as raised:
        read_form("&".join(f"p{n}" for n in range(MAX_LEAVES + 1)).encode())
    assert raised.value.code == "document_too_large"
