"""HTTP/1.x towards callers, over real TLS: framing, order, ends, and what a caller never gets to see."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import pytest

from proxy.cleared import ClearedReply
from proxy.gateway import Refused
from proxy.journey import Arrived
from proxy.refusal import Audience, Refusal
from tests.support.edge import GET, Edge, reply, resident, until
from tests.support.servers import Authority

POST = b"POST /hook HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def edge(authority: Authority) -> Iterator[Edge]:
    with Edge(authority) as one:
        yield one


def test_a_request_arrives_whole_and_is_answered(edge: Edge) -> None:
    request = b"POST /hook?a=1&b=2 HTTP/1.1\r\nHost: LocalHost:8443\r\nX-One:  two \r\nContent-Length: 4\r\n\r\nbody"
    answer = edge.ask(request)
    (arrived,) = edge.gateway.arrived
    assert (answer.status, answer.body) == (200, b"a=1&b=2")
    got = arrived.request
    assert (got.method, got.path, got.query, got.host, got.body) == ("POST", "/hook", "a=1&b=2", "localhost", b"body")
    assert got.header(b"x-one") == [b"two"]
    assert (arrived.peer.listener, arrived.peer.address, arrived.peer.sni) == ("public", "127.0.0.1", "localhost")


def test_every_answer_tells_nothing_and_is_stored_nowhere(edge: Edge) -> None:
    with edge.caller() as caller:
        for request, status in ((GET, 200), (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404)):
            answer = caller.ask(request)
            assert answer.status == status
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert "server" not in answer.headers


def test_keep_alive_serves_many_requests(edge: Edge) -> None:
    with edge.caller() as caller:
        for number in range(50):
            answer = caller.ask(b"GET /hook?%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
            assert (answer.status, answer.body) == (200, b"%d" % number)
            assert "connection" not in answer.headers
    assert edge.ledger.counts[("handshakes", "public", "TLSv1.3")] == 1


def test_pipelined_requests_are_answered_in_order_one_at_a_time(edge: Edge) -> None:
    count = 100
    burst = b"".join(
        b"POST /hook?%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc" % number for number in range(count)
    )
    with edge.caller() as caller:
        edge.gateway.hold = True
        caller.send(burst)
        until(lambda: edge.gateway.arrived)
        assert len(edge.gateway.arrived) == 1
        edge.gateway.hold = False
        assert [caller.answer().body for _ in range(count)] == [b"%d" % number for number in range(count)]


@pytest.mark.parametrize("line", [b"Connection: close", b"Connection: keep-alive, Close"])
def test_connection_close_is_obeyed_after_the_answer(edge: Edge, line: bytes) -> None:
    with edge.caller() as caller:
        answer = caller.ask(b"GET /hook HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n\r\n" + GET)
        assert answer.headers["connection"] == "close"
        assert caller.end() == "close_notify"
    assert len(edge.gateway.arrived) == 1


@pytest.mark.parametrize(
    ("lines", "host"), [(b"", ""), (b"Host: crm.example\r\n", "crm.example"), (b"Connection: keep-alive\r\n", "")]
)
def test_http_1_0_gets_one_answer_with_or_without_host(edge: Edge, lines: bytes, host: str) -> None:
    with edge.caller() as caller:
        answer = caller.ask(b"POST /hook HTTP/1.0\r\nContent-Length: 2\r\n" + lines + b"\r\nhi")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert caller.end() == "close_notify"
    assert edge.gateway.arrived[0].request.host == host


def test_a_status_without_content_has_neither_body_nor_length(edge: Edge) -> None:
    edge.gateway.script = lambda _: reply(b"", 204)
    with edge.caller() as caller:
        answer = caller.ask(GET)
        assert answer.status == 204
        assert not {"content-length", "content-type"} & answer.headers.keys()
        assert caller.ask(GET).status == 204


# --- Expect


def test_expect_continue_is_answered_once_and_before_the_body(edge: Edge) -> None:
    with edge.caller() as caller:
        caller.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (caller.line(), caller.line()) == (b"HTTP/1.1 100 Continue\r\n", b"\r\n")
        assert edge.gateway.arrived == []
        assert caller.ask(b"hello").status == 200
    assert edge.gateway.arrived[0].request.body == b"hello"


def test_expect_of_a_body_too_large_gets_413_and_no_continue(edge: Edge) -> None:
    answer = edge.ask(POST + b"Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")
    assert (answer.status, answer.code) == (413, "http_body_too_large")


def test_expect_with_the_body_at_once_gets_the_answer_only(edge: Edge) -> None:
    assert edge.ask(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi").status == 200


def test_another_expectation_is_refused(edge: Edge) -> None:
    assert edge.ask(POST + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\nhi").code == "http_expectation"


# --- ends


def test_a_caller_that_half_closes_after_its_request_gets_the_answer(edge: Edge) -> None:
    with edge.caller() as caller:
        edge.gateway.hold = True
        caller.send(GET)
        until(lambda: edge.gateway.arrived)
        socket.socket.shutdown(caller.tls, socket.SHUT_WR)
        edge.gateway.hold = False
        assert caller.answer().status == 200
        assert caller.end() == "close_notify"


@pytest.mark.parametrize("way", ["close_notify", "fin", "half-close"])
def test_a_caller_that_leaves_is_forgotten_at_once(edge: Edge, way: str) -> None:
    with edge.caller() as caller:
        assert caller.ask(GET).status == 200
        if way == "close_notify":
            with contextlib.suppress(OSError):
                caller.tls.unwrap()
        if way == "half-close":
            socket.socket.shutdown(caller.tls, socket.SHUT_WR)
            assert caller.end() == "close_notify"
            until(lambda: edge.listener.connections == 0, 1.5)
    until(lambda: edge.listener.connections == 0, 1.5)  # below the deadline, which would count it as cut
    assert (edge.cuts, edge.ledger.faults) == ({}, [])


def test_a_caller_that_resets_ends_its_exchange(edge: Edge) -> None:
    edge.gateway.hold = True
    with edge.caller() as caller:
        caller.send(GET)
        until(lambda: edge.gateway.arrived)
        caller.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    edge.gateway.hold = False
    until(lambda: edge.listener.connections == 0)


def test_draining_answers_what_is_under_way_and_closes_it(edge: Edge) -> None:
    with edge.caller() as caller:
        edge.gateway.hold = True
        caller.send(GET + GET)
        until(lambda: edge.gateway.arrived)
        edge.listener.draining = True
        edge.gateway.hold = False
        assert caller.answer().headers["connection"] == "close"
        assert caller.end() == "close_notify"


# --- a gateway that fails: nothing but a constant ever leaves


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize("error", [RuntimeError("SECRET"), asyncio.CancelledError(), TimeoutError("SECRET")])
def test_an_exchange_that_raises_is_cut_without_a_byte(edge: Edge, error: BaseException) -> None:
    edge.gateway.script = lambda _: _raise(error)
    with edge.caller() as caller:
        caller.send(GET + GET)
        assert caller.end() in ("reset", "eof")
    assert len(edge.gateway.arrived) == 1


def test_no_answer_is_an_internal_refusal(edge: Edge) -> None:
    edge.gateway.script = lambda _: cast(Refused, None)
    assert edge.ask(GET).code == "not_cleared"


def _give(answer: Any, _arrived: Arrived) -> Any:
    return answer


def test_what_was_not_cleared_does_not_leave(edge: Edge) -> None:
    forged = object.__new__(ClearedReply)
    for name, value in (("status", 200), ("content_type", b"text/plain"), ("body", b"SECRET"), ("_seal", None)):
        object.__setattr__(forged, name, value)
    for answer in (forged, b"SECRET", {"body": b"SECRET"}):
        edge.gateway.script = partial(_give, answer)
        got = edge.ask(GET)
        assert (got.status, got.code) == (500, "not_cleared")
        assert b"SECRET" not in got.raw


def test_a_refusal_of_the_gateway_keeps_the_connection(edge: Edge) -> None:
    edge.gateway.script = lambda _: Refused(Refusal("field_unknown"), Audience.AGENT)
    with edge.caller() as caller:
        assert [caller.ask(GET).code for _ in range(3)] == ["field_unknown"] * 3


# --- memory: a peer that sends, or does not read, fills the kernel's buffers and none of ours


def test_reading_pauses_while_an_exchange_is_pending(edge: Edge) -> None:
    """300 MB pushed behind a request that is being worked on."""
    edge.gateway.hold = True
    before = resident()
    with edge.caller() as caller:
        caller.send(GET)
        until(lambda: edge.gateway.arrived)
        sent = _push_until_stopped(caller.tls, 300 * 1024 * 1024)
        grown = resident() - before
    assert sent < 32 * 1024 * 1024
    assert grown < 48 * 1024 * 1024


def test_answers_nobody_reads_do_not_pile_up(edge: Edge) -> None:
    """A caller that pipelines requests and reads no answer is not read from, and its requests are not worked on."""
    edge.gateway.script = lambda _: reply(bytes(64 * 1024))
    before = resident()
    with edge.caller() as caller:
        sent = _push_until_stopped(caller.tls, 64 * 1024 * 1024, GET * 1000)
        answered = len(edge.gateway.arrived)
        grown = resident() - before
        assert sent < 32 * 1024 * 1024
        assert answered * 64 * 1024 < 32 * 1024 * 1024
        assert grown < 64 * 1024 * 1024
        assert [caller.answer().status for _ in range(answered + 50)] == [200] * (answered + 50)


def _push_until_stopped(tls: ssl.SSLSocket, most: int, piece: bytes = bytes(65536)) -> int:
    """How many bytes the other side takes before it takes none for half a second."""
    tls.settimeout(0.5)
    sent = 0
    try:
        while sent < most:
            sent += tls.send(piece)
    except TimeoutError:
        pass
    finally:
        tls.settimeout(10)
    return sent


def test_an_idle_connection_costs_no_cpu(edge: Edge) -> None:
    with edge.caller() as caller:
        assert caller.ask(GET).status == 200
        before, begun = edge.cpu, time.monotonic()
        time.sleep(0.3)
        assert edge.cpu - before < 0.25 * (time.monotonic() - begun)
