"""The reader of responses alone: the tables in one read and byte by byte. Over sockets: test_upstream_connection.py."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge.upstream_response import ResponseError, ResponseReader
from tests.edge.upstream_cases import MAX_BODY, REFUSED, TAKEN
from tests.edge.upstream_support import CHUNKED, OK


def _drip(reader: ResponseReader, raw: bytes) -> bool:
    """Feeds byte by byte until complete; True if it was."""
    return any(reader.feed(raw[at : at + 1]) for at in range(len(raw)))


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    raw, status, body, kept = TAKEN[name]
    reader = ResponseReader("POST", MAX_BODY)
    assert reader.feed(raw)
    assert (reader.keep_alive and not reader.excess) == kept
    response = reader.response()
    assert (response.status, response.body) == (status, body)


@pytest.mark.parametrize("name", TAKEN)
def test_taken_byte_by_byte(name: str) -> None:
    raw, status, body, _ = TAKEN[name]
    reader = ResponseReader("POST", MAX_BODY)
    assert _drip(reader, raw)
    assert not reader.excess
    response = reader.response()
    assert (response.status, response.body) == (status, body)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(ResponseError):
        ResponseReader("POST", MAX_BODY).feed(REFUSED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_byte_by_byte(name: str) -> None:
    with pytest.raises(ResponseError):
        _drip(ResponseReader("POST", MAX_BODY), REFUSED[name])


FIELDS = st.tuples(
    st.sampled_from(
        b"Content-Length content-length CONTENT-LENGTH Connection connection Content-Encoding X-Content-Length "
        b"Content-Lengthy Content Length Proxy-Connection Content-Length-".split()
    ),
    st.sampled_from(
        [b"0", b"2", b"02", b"close", b"Close", b"keep-alive", b"a, close", b"closed", b"identity", b"gzip"]
    )
    | st.sampled_from([b"", b"content-length: 7", b"connection: close", b":", b"Content-Encoding: br"]),
    st.sampled_from([b"", b" ", b"\t", b" \t "]),
)


@given(st.lists(FIELDS, max_size=4), st.booleans())
def test_fields_that_say_how_to_read_on_are_found_among_all_others(
    fields: list[tuple[bytes, bytes, bytes]], minor: bool
) -> None:
    def values(name: bytes) -> list[bytes]:
        return [value for key, value, _ in fields if key.lower() == name]

    head = b"HTTP/1.%d 200 OK\r\n%b\r\n" % (
        minor,
        b"".join([b"%b:%b%b%b\r\n" % (name, blank, value, blank) for name, value, blank in fields]),
    )
    reader, lengths = ResponseReader("POST", MAX_BODY), values(b"content-length")
    coded = any(value.lower() != b"identity" for value in values(b"content-encoding"))
    if coded or len(lengths) != 1 or not lengths[0].isdigit():
        with pytest.raises(ResponseError):
            reader.feed(head)
        return
    assert not reader.feed(head) or lengths == [b"0"]
    assert int(lengths[0]) == 0 or reader.feed(b"ok")
    options = b",".join(values(b"connection")).lower().replace(b" ", b"").split(b",")
    assert reader.keep_alive == (minor and b"close" not in options)
    assert reader.response().body == b"ok"[: int(lengths[0])]


def test_the_answer_to_head_has_no_body() -> None:
    reader = ResponseReader("HEAD", MAX_BODY)
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    assert reader.response().body == b""


@pytest.mark.parametrize(("lengths", "codings"), [([b"2", b"2"], []), ([b"2"], [b"chunked"])])
def test_ambiguous_framing_is_refused_even_if_the_parser_below_took_it(
    lengths: list[bytes], codings: list[bytes]
) -> None:
    with pytest.raises(ResponseError):
        ResponseReader("POST", MAX_BODY)._frame(lengths, codings, True)


def test_a_long_body_without_its_end_is_not_complete() -> None:
    assert not ResponseReader("POST", MAX_BODY).feed(OK[:-1])
    assert not ResponseReader("POST", MAX_BODY).feed(CHUNKED + b"2\r\nok\r\n0\r\n")


def test_a_huge_trailer_in_small_pieces_takes_no_memory() -> None:
    reader = ResponseReader("POST", 1 << 20)
    reader.feed(CHUNKED + b"0\r\n")
    tracemalloc.start()
    with pytest.raises(ResponseError):
        for _ in range(10_000):
            reader.feed(b"x" * 10_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20


def test_a_finished_reader_leaves_nothing_to_the_collector() -> None:
    class Watched(ResponseReader):
        __slots__ = ("__weakref__",)

    gc.disable()
    try:
        reader = Watched("POST", MAX_BODY)
        assert reader.feed(OK)
        reader.response()
        watch = weakref.ref(reader)
        del reader
        assert watch() is None
    finally:
        gc.enable()
