"""multipart/form-data bodies: parts, names, file names, types, and all that two readers could take apart otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.document.multipart import boundary_in, boundary_of, read_multipart
from proxy.document.tree import DROP, Document, Kind, Value, render
from proxy.refusal import Refusal

JPEG = b"\xff\xd8\xff\xe0\r\n--not\r\n\x00\n-"


def body(*parts: bytes, boundary: bytes = b"b") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value


PHOTO = part("media", JPEG, '; filename="照片.jpg"\r\nContent-Type: image/jpeg')
NOTE = part("note", "你好".encode())


def refused(data: bytes, boundary: str = "b") -> str:
    with pytest.raises(Refusal) as error:
        read_multipart(data, boundary)
    return error.value.code


def leaves(document: Document) -> list[tuple[object, ...]]:
    return [(*leaf.path, leaf.text, leaf.kind) for leaf in document.leaves]


def test_each_part_gives_its_body_file_name_and_type() -> None:
    assert leaves(read_multipart(body(PHOTO, NOTE), "b")) == [
        ("media", "filename", "照片.jpg", Kind.STRING),
        ("media", "type", "image/jpeg", Kind.STRING),
        ("media", "body", JPEG.decode("latin-1"), Kind.BINARY),
        ("note", "body", "你好", Kind.STRING),
    ]


def test_a_body_leaves_as_it_came_but_for_the_boundary() -> None:
    document = read_multipart(body(PHOTO, NOTE), "b")
    assert render(document, {}) == body(PHOTO, NOTE, boundary=b"wxgate-0")
    assert document.boundary == "wxgate-0"


def test_the_gateway_s_boundary_is_one_that_the_body_does_not_hold() -> None:
    document = read_multipart(body(part("a", b"wxgate-0 wxgate-1")), "b")
    assert document.boundary == "wxgate-2"
    assert refused(body(part("a", b" ".join(b"wxgate-%d" % number for number in range(8))))) == "document_malformed"


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_any_bytes_survive(values: list[bytes]) -> None:
    data = body(*(part(f"p{number}", value) for number, value in enumerate(values)), boundary=b"=_long.boundary_=")
    if data.count(b"--=_long.boundary_=") != len(values) + 1:
        return
    document = read_multipart(data, "=_long.boundary_=")
    assert render(document, {}).replace(b"wxgate-0", b"=_long.boundary_=") == data
    bodies = [leaf for leaf in document.leaves if leaf.path[-1] == "body"]
    assert [document.source[leaf.start : leaf.end].encode("latin-1") for leaf in bodies] == values


def test_values_take_the_place_of_what_they_were_made_of() -> None:
    document = read_multipart(body(PHOTO, NOTE), "b")
    out = render(document, {0: Value('a"b\r\n.jpg'), 1: Value("image/png"), 3: Value("再见")})
    more = '; filename="a%22b%0D%0A.jpg"\r\nContent-Type: image/png'
    assert out == body(part("media", JPEG, more), part("note", "再见".encode()), boundary=b"wxgate-0")
    assert read_multipart(out, "wxgate-0").leaves[0].text == 'a"b\r\n.jpg'


def test_what_is_dropped_goes_with_its_name() -> None:
    document = read_multipart(body(PHOTO, NOTE), "b")
    assert render(document, {0: DROP, 1: DROP}) == body(part("media", JPEG), NOTE, boundary=b"wxgate-0")
    assert render(document, {2: DROP}) == body(NOTE, boundary=b"wxgate-0")
    assert render(document, {0: Value("x"), 1: DROP, 2: DROP, 3: Value("y")}) == body(
        part("note", b"y"), boundary=b"wxgate-0"
    )


@pytest.mark.parametrize(
    ("index", "text"),
    [(0, "a\\b"), (1, "image/\r\nX: y"), (1, ""), (1, "图"), (3, "--wxgate-0"), (3, "x wxgate-0"), (0, "wxgate-0")],
)
def test_a_value_that_would_break_the_form_is_refused(index: int, text: str) -> None:
    with pytest.raises(Refusal) as error:
        render(read_multipart(body(PHOTO, NOTE), "b"), {index: Value(text)})
    assert error.value.code == "value_refused"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"--b--", b"--b--\r\n", b"preamble\r\n" + body(NOTE), b"\r\n" + body(NOTE), body(NOTE) + b"epilogue",
        body(NOTE)[:-4], body(NOTE).replace(b"\r\n", b"\n"), body(NOTE, b"no head"), body(b"\r\n" + b"x"),
        body(NOTE, NOTE), body(part("a", b"x\n--b\ny")), body(part("a", b"x --b y")),
        body(part("a", b"x\r\n--bc\r\ny")), body(part("a", b"x\n--b\r\n" + part("c", b"y"))),
        body(part("a", b"xy--b\r\n" + part("c", b"y"))),
        body(b"Content-Type: text/plain\r\n\r\nx"), body(part("a", b"x", "\r\nContent-Transfer-Encoding: base64")),
        body(part("a", b"x", "\r\nX-Any: 1")), body(part("a", b"x", "\r\n folded")), body(part("a", b"x", "\r\nbare")),
        body(part("a", b"x", '; filename*="y"')), body(part("a", b"x", "; filename=y")), body(part("a\\", b"x")),
        body(part("a", b"x", '; filename="y"; z="1"')), body(part("a", b"x", "\r\nContent-Type: ")),
        body(part("a", b"x", "\r\nContent-Type: a/b\r\ncontent-type: a/c")), body(part("a", b"x", "\nX: y")),
        body(b'Content-Disposition: attachment; name="a"\r\n\r\nx'), body(b"Content-Disposition: form-data\r\n\r\nx"),
        body(b'Content-Disposition: form-data; name=""\r\n\r\nx'),
        body(b'Content-Disposition: form-data; name="\xff"\r\n\r\nx'),
        b"--b \r\n" + body(NOTE)[5:], b"--b\r\n" + part("a" * 3000, b"x") + b"\r\n--b--", b"--b\r\n--b--",
    ],
)  # fmt: skip
def test_what_two_readers_could_take_apart_otherwise_is_refused(data: bytes) -> None:
    assert refused(data) == "document_malformed"


def test_parts_are_bounded() -> None:
    many = [part(f"p{number}", b"") for number in range(2001)]
    assert refused(body(*many)) == "document_too_large"
    assert len(read_multipart(body(*many[:2000]), "b").leaves) == 2000


@pytest.mark.parametrize(
    ("field", "boundary"),
    [
        ("multipart/form-data; boundary=b", "b"), ("Multipart/Form-Data;BOUNDARY=a_b-c.d", "a_b-c.d"),
        ('multipart/form-data; boundary="a b:c?"', "a b:c?"), ("multipart/form-data; boundary=" + "x" * 70, "x" * 70),
    ],
)  # fmt: skip
def test_the_boundary_stands_in_the_content_type(field: str, boundary: str) -> None:
    assert boundary_in(field) == boundary


@pytest.mark.parametrize(
    "field",
    [
        "", "multipart/form-data", "multipart/mixed; boundary=b", "multipart/form-data; boundary=",
        "multipart/form-data; boundary=b; boundary=c", "multipart/form-data; charset=x; boundary=b",
        'multipart/form-data; boundary="b "', 'multipart/form-data; boundary="b', "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=" + "x" * 71, "multipart/form-data; boundary=\u00e9",
    ],
)  # fmt: skip
def test_a_content_type_without_a_plain_boundary_is_refused(field: str) -> None:
    with pytest.raises(Refusal):
        boundary_in(field)


def test_a_sample_says_its_boundary_itself() -> None:
    assert boundary_of(body(NOTE, boundary=b"x y")) == "x y"
    for data in (b"", b"x", b"--" + b"x" * 80 + b"\r\n"):
        with pytest.raises(Refusal):
            boundary_of(data)
