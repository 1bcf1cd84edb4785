"""Request bodies over real TLS: counted or in chunks, bounded, and read in time that grows with their size only."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from proxy.edge.http_body import Body
from proxy.refusal import Refusal
from tests.support.edge import GET, MAX_BODY, Edge
from tests.support.servers import Authority

CHUNKED = b"POST /hook HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def edge(authority: Authority) -> Iterator[Edge]:
    with Edge(authority) as one:
        yield one


def counted(size: int) -> bytes:
    return b"POST /hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("framed", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"1\r\nh\r\n0004\r\nello\r\n00\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\n\r\n", b"0123456789abcdefghij"),
        (b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n\r\n"),
    ],
)
def test_chunks_are_put_together(edge: Edge, framed: bytes, body: bytes) -> None:
    with edge.caller() as caller:
        assert [caller.ask(CHUNKED + framed).status, caller.ask(GET).status] == [200, 200]
        for at in range(len(framed)):  # the same in single bytes
            caller.send((CHUNKED if at == 0 else b"") + framed[at : at + 1])
        assert caller.answer().status == 200
    assert [edge.gateway.arrived[at].request.body for at in (-3, -2, -1)] == [body, b"", body]


BAD_CHUNKS = {
    "extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "extension of the last": b"5\r\nhello\r\n0;a\r\n\r\n",
    "trailer": b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "trailer that frames": b"0\r\nContent-Length: 5\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "blank before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "blank behind the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "no hex": b"g\r\nhello\r\n0\r\n\r\n",
    "empty size": b"\r\nhello\r\n0\r\n\r\n",
    "bare lf behind the size": b"5\nhello\r\n0\r\n\r\n",
    "bare lf behind the data": b"5\r\nhello\n0\r\n\r\n",
    "bare cr behind the size": b"5\rhello\r\n0\r\n\r\n",
    "data longer than said": b"4\r\nhello\r\n0\r\n\r\n",
    "data shorter than said": b"6\r\nhello\r\n0\r\n\r\n",
    "nine digits": b"000000005\r\nhello\r\n0\r\n\r\n",
    "size of 2**64": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_malformed_chunks_are_refused(edge: Edge, name: str) -> None:
    _refused(edge, CHUNKED + BAD_CHUNKS[name] + GET, "http_malformed")


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_the_reader_of_chunks_refuses_alone(name: str) -> None:
    """Without the help of the second reader."""
    with pytest.raises(Refusal, match="http_malformed"):
        Body(None, MAX_BODY).feed(bytearray(BAD_CHUNKS[name] + GET))


def test_trailers_are_refused_wherever_they_are_cut(edge: Edge) -> None:
    body = b"0\r\nX: y\r\n\r\n"
    for at in range(1, len(body)):
        with edge.caller() as caller:
            caller.send(CHUNKED + body[:at])
            assert caller.ask(body[at:]).code == "http_malformed"


def test_bodies_that_are_too_large_are_refused(edge: Edge) -> None:
    _refused(edge, counted(MAX_BODY + 1), "http_body_too_large")  # at once, before any of it
    _refused(edge, counted(9_999_999_999), "http_body_too_large")
    _refused(edge, CHUNKED + b"%x\r\n" % (MAX_BODY + 1), "http_body_too_large")
    half = bytes(MAX_BODY // 2)
    _refused(edge, CHUNKED + chunk(half) + chunk(half) + b"1\r\n", "http_body_too_large")
    _refused(edge, CHUNKED + b"ffffffff\r\n", "http_body_too_large")


def test_the_refusal_arrives_although_the_body_is_still_coming(edge: Edge) -> None:
    with edge.caller() as caller:
        caller.send(counted(MAX_BODY * 3) + bytes(MAX_BODY * 3))
        assert caller.answer().code == "http_body_too_large"


def test_the_largest_bodies_are_taken(edge: Edge) -> None:
    body = bytes(range(256)) * (MAX_BODY // 256)
    for request in (counted(MAX_BODY) + body, CHUNKED + chunk(body[:1000]) + chunk(body[1000:]) + b"0\r\n\r\n"):
        assert edge.ask(request).status == 200
        assert edge.gateway.arrived[-1].request.body == body


def test_a_flood_of_tiny_chunks_is_refused(edge: Edge) -> None:
    _refused(edge, CHUNKED + chunk(b"x") * 2000, "http_malformed")


def test_the_end_of_a_large_body_in_small_pieces_costs_no_more_than_its_length(authority: Authority) -> None:
    """CPU for small pieces behind the bulk of a body: a chunk is not gone over again for each of them."""
    with Edge(authority, max_body=16 * 1024 * 1024) as edge:
        chunked, counted = _cpu_of_pieces(edge, chunked=True), _cpu_of_pieces(edge, chunked=False)
    assert chunked < 3 * counted + 0.05


def _cpu_of_pieces(edge: Edge, *, chunked: bool, bulk: int = 15 * 1024 * 1024, pieces: int = 300) -> float:
    with edge.caller() as caller:
        size = bulk + 64 * pieces
        caller.send(CHUNKED + b"%x\r\n" % size if chunked else counted(size))
        caller.send(bytes(bulk))
        time.sleep(0.1)
        before = edge.cpu
        for _ in range(pieces):
            caller.send(bytes(64))
            time.sleep(0.001)  # a read of its own for each
        used = edge.cpu - before
        assert caller.ask(b"\r\n0\r\n\r\n" if chunked else b"").status == 200
    return used


def _refused(edge: Edge, request: bytes, code: str) -> None:
    count = len(edge.gateway.arrived)
    with edge.caller() as caller:
        answer = caller.ask(request)
        assert (answer.code, answer.headers["connection"]) == (code, "close")
        assert caller.end() == "close_notify"
    assert len(edge.gateway.arrived) == count
    assert edge.ledger.faults == []
