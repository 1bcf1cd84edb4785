"""The JSON reader: strict, bounded, agreeing with the standard library; what it writes is what was decided, no more."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.document.json_body import read_json
from proxy.document.tree import DROP, MAX_DEPTH, MAX_LEAVES, Change, Kind, Path, Value, render
from proxy.refusal import Refusal


class Number(str):
    """A number as it was spelled."""


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=14,
)
containers = values.filter(lambda value: isinstance(value, dict | list) and bool(value))
layouts = st.sampled_from(
    [{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}, {"separators": (" ,\r\n", "\t: ")}]
)


def spelled(body: bytes) -> Any:
    """The standard library's reading, with numbers as they were spelled."""
    return json.loads(body.decode(), parse_int=Number, parse_float=Number)


def flat(value: Any, path: Path = ()) -> list[tuple[Path, str, Kind]]:
    if isinstance(value, dict) and value:
        return [leaf for name, inner in value.items() for leaf in flat(inner, (*path, name))]
    if isinstance(value, list) and value:
        return [leaf for place, inner in enumerate(value) for leaf in flat(inner, (*path, place))]
    if isinstance(value, dict | list):
        return [(path, "", Kind.EMPTY)]
    if isinstance(value, Number):
        return [(path, str(value), Kind.NUMBER)]
    return [(path, value, Kind.STRING) if isinstance(value, str) else (path, json.dumps(value), Kind.LITERAL)]


def leaves(body: bytes) -> list[tuple[Path, str, Kind]]:
    return [(leaf.path, leaf.text, leaf.kind) for leaf in read_json(body).leaves]


GONE = object()


def rebuilt(value: Any, decide: Callable[[], Any]) -> Any:
    """`value` with every leaf, in order, as `decide` says: GONE drops it, None keeps it, a text replaces it."""
    if isinstance(value, dict) and value:
        members = [(name, rebuilt(inner, decide)) for name, inner in value.items()]
        return {name: inner for name, inner in members if inner is not GONE}
    if isinstance(value, list) and value:
        return [inner for inner in [rebuilt(inner, decide) for inner in value] if inner is not GONE]
    decision = decide()
    return value if decision is None else decision


def refused(body: bytes) -> str:
    with pytest.raises(Refusal) as raised:
        read_json(body)
    return raised.value.code


@settings(deadline=None)
@given(value=values, layout=layouts)
def test_reads_what_the_standard_library_reads(value: Any, layout: dict[str, Any]) -> None:
    body = json.dumps(value, **layout).encode()
    assert leaves(body) == flat(spelled(body))
    assert render(read_json(body), {}) == body


@settings(deadline=None, max_examples=150)
@given(value=values, layout=layouts, data=st.data())
def test_after_any_damage_it_refuses_or_agrees(value: Any, layout: dict[str, Any], data: st.DataObject) -> None:
    body = bytearray(json.dumps(value, **layout).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        piece = data.draw(st.one_of(st.binary(max_size=2), st.sampled_from([b",", b'"', b"{", b"]", b"\\ud800", b"0"])))
        body[start : start + data.draw(st.integers(0, 2))] = piece
    try:
        read = leaves(bytes(body))
    except Refusal:
        return
    assert read == flat(spelled(bytes(body)))
    assert render(read_json(bytes(body)), {}) == body


@settings(deadline=None)
@given(body=st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        assert render(read_json(body), {}) == body
    except Refusal as refusal:
        assert refusal.code in ("document_malformed", "document_too_large")


@settings(deadline=None)
@given(value=values, layout=layouts)
def test_every_leaf_can_be_replaced(value: Any, layout: dict[str, Any]) -> None:
    document = read_json(json.dumps(value, **layout).encode())
    markers = [f'm{index}"\\\n界🙂' for index in range(len(document.leaves))]
    written = render(document, {index: Value(marker) for index, marker in enumerate(markers)})
    assert leaves(written) == [
        (leaf.path, marker, Kind.STRING) for leaf, marker in zip(document.leaves, markers, strict=True)
    ]
    if markers:
        assert "界".encode() in written, "never written as an escape"


@settings(deadline=None, max_examples=150)
@given(value=containers, layout=layouts, data=st.data())
def test_any_subset_can_be_dropped_and_replaced(value: Any, layout: dict[str, Any], data: st.DataObject) -> None:
    document = read_json(json.dumps(value, **layout).encode())
    size = len(document.leaves)
    decisions = data.draw(st.lists(st.sampled_from([None, GONE, "new"]), min_size=size, max_size=size))
    changes: Change = {
        index: DROP if decision is GONE else Value("new") for index, decision in enumerate(decisions) if decision
    }
    rest = iter(decisions)
    expected = rebuilt(value, lambda: next(rest))
    written = render(document, changes)
    assert json.loads(written) == expected
    read_json(written)  # the strict reader takes it too


@pytest.mark.parametrize(
    ("source", "dropped", "expected"),
    [
        (b'{"a":1,"b":2,"c":3}', {0}, b'{"b":2,"c":3}'),
        (b'{"a":1,"b":2,"c":3}', {1}, b'{"a":1,"c":3}'),
        (b'{"a":1,"b":2,"c":3}', {2}, b'{"a":1,"b":2}'),
        (b'{"a":1,"b":2,"c":3}', {0, 2}, b'{"b":2}'),
        (b'{"a":1,"b":2,"c":3}', {0, 1, 2}, b"{}"),
        (b'[1,{"x":2},3]', {1}, b"[1,{},3]"),
        (b"[[],1]", {0}, b"[1]"),
        (b'{"a":{"b":[1,2]},"c":{}}', {0, 1, 2}, b'{"a":{"b":[]}}'),
    ],
)
def test_commas_go_with_what_is_dropped(source: bytes, dropped: set[int], expected: bytes) -> None:
    assert render(read_json(source), dict.fromkeys(dropped, DROP)) == expected


def test_a_number_or_literal_is_written_as_it_is_spelled() -> None:
    document = read_json(b'{"a":"x","b":"y"}')
    assert render(document, {0: Value("1.50E+3", Kind.NUMBER), 1: Value("null", Kind.LITERAL)}) == (
        b'{"a":1.50E+3,"b":null}'
    )


def test_a_64_bit_number_survives_digit_for_digit() -> None:
    body = b'{"MsgId":6054768590064713728,"big":123456789012345678901234567890.10,"e":1E400}'
    assert [text for _, text, _ in leaves(body)] == [
        "6054768590064713728",
        "123456789012345678901234567890.10",
        "1E400",
    ]
    assert leaves(b"9" * 5000)[0][1] == "9" * 5000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'{"o":{"a":1,"b":{},"a":{}}}',
        b'[{"a":1,"a":1}]',
        b'{"a":1}x',
        b'{"a":1}{"b":2}',
        b'{"a":1},',
        b"{} []",
        b'{"a":1,}',
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b'{"a" 1}',
        b'{"a":}',
        b"{a:1}",
        b"{'a':1}",
        b'{1:"a"}',
        b'{"a":1',
        b"[1",
        b"]",
        b"NaN",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":nan}',
        b'{"a":TRUE}',
        b'{"a":trues}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":1.}',
        b'{"a":1e}',
        b'{"a":-}',
        b'{"a":0x10}',
        b'{"a":1_000}',
        '{"a":１}'.encode(),
        b'{"a":"\n"}',
        b'{"a":"\\x41"}',
        b'{"a":"\\u12"}',
        b'{"a":"\\u 123"}',
        b'{"a":"',
        b'{"a":"\\',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"\\ud83d":1}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xff"}',
        b'{"a":"\xc0\x80"}',
        b'{"a":"\x00"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32"),
        b'{"a":1/*x*/}',
        b'{"a":1}//x',
        b'\xc2\xa0{"a":1}',
        b'\x0b{"a":1}',
        '{"a":1}\u2028'.encode(),
    ],
)
def test_what_is_not_strict_json_is_malformed(body: bytes) -> None:
    assert refused(body) == "document_malformed"


def test_a_surrogate_pair_is_one_character() -> None:
    assert leaves(b'["\\ud83d\\ude42"]') == [((0,), "🙂", Kind.STRING)]


def test_equal_names_in_different_objects_are_no_duplicates() -> None:
    assert [path for path, _, _ in leaves(b'[{"a":1},{"a":1},{"b":{"a":1}}]')] == [(0, "a"), (1, "a"), (2, "b", "a")]


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_bounded(opening: bytes, closing: bytes) -> None:
    assert len(leaves(opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH)) == 1
    assert refused(opening * (MAX_DEPTH + 1) + b"1" + closing * (MAX_DEPTH + 1)) == "document_too_large"
    assert refused(opening * 100_000) == "document_too_large"


@pytest.mark.parametrize("item", [b"1", b'""', b"{}", b"[]", b"null"])
def test_the_number_of_leaves_is_bounded(item: bytes) -> None:
    assert len(leaves(b"[" + b",".join([item] * MAX_LEAVES) + b"]")) == MAX_LEAVES
    assert refused(b"[" + b",".join([item] * (MAX_LEAVES + 1)) + b"]") == "document_too_large"


@settings(deadline=None)
@given(value=containers)
def test_places_are_where_the_values_stand(value: Any) -> None:
    document = read_json(json.dumps(value, ensure_ascii=False).encode())
    for leaf in document.leaves:
        source = json.loads(document.source[leaf.start : leaf.end], parse_int=Number, parse_float=Number)
        assert flat(source) == [((), leaf.text, leaf.kind)]
        assert leaf.whole[0] <= leaf.start
        assert leaf.whole[1] == leaf.end
