"""Deadlines that no byte puts off, and how many connections there may be: over real sockets, with small limits."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from proxy.edge.listener_settings import Limits
from tests.edge.test_proxy_protocol import LOCAL, header
from tests.support.edge import GET, Caller, Edge, cut_in_silence, first_flight, reply, rest, until
from tests.support.servers import Authority

SHORT = 0.4
"""The deadline under test; all others are long. The listener looks at its clocks four times a second."""
LATEST = SHORT + 1.1


def edge_with(authority: Authority, *, proxy_protocol: bool = False, **limits: float) -> Edge:
    return Edge(authority, limits=Limits(**{"lingering": 5.0, **limits}), proxy_protocol=proxy_protocol)  # type: ignore[arg-type]


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert SHORT * 0.9 < time.monotonic() - begun < LATEST


def drip(sock: socket.socket, data: bytes) -> None:
    """One byte each 20 ms until the other side has something to say or is gone. Over TLS there must have been an answer
    before, with which the session tickets came."""
    for at in range(len(data)):
        with contextlib.suppress(OSError):
            sock.send(data[at : at + 1])
        if select.select([sock], [], [], 0.02)[0]:
            return
    raise AssertionError("all of it was taken")


# --- before TLS


def test_a_silent_connection_is_cut(authority: Authority) -> None:
    with edge_with(authority, handshake=SHORT) as edge, edge.dial() as sock:
        with in_time():
            assert cut_in_silence(sock)
        until(lambda: edge.listener.connections == 0)
        assert edge.cuts == {"handshake": 1}
        assert edge.ledger.counts[("handshakes_failed", "public")] == 1


@pytest.mark.parametrize("proxy_protocol", [False, True])
def test_a_dripping_hello_is_cut(authority: Authority, proxy_protocol: bool) -> None:
    with edge_with(authority, handshake=SHORT, proxy_protocol=proxy_protocol) as edge, edge.dial() as sock:
        with in_time():
            drip(sock, header() + first_flight() if proxy_protocol else first_flight())
            assert cut_in_silence(sock)
        assert edge.cuts == {"handshake": 1}


def test_a_handshake_that_is_not_finished_is_cut(authority: Authority) -> None:
    with edge_with(authority, handshake=SHORT) as edge, edge.dial(first_flight()) as sock, in_time():
        assert rest(sock)  # its half of the handshake
    assert edge.cuts == {"handshake": 1}


# --- requests


def test_a_dripping_head_gets_408(authority: Authority) -> None:
    with edge_with(authority, head=SHORT) as edge, edge.caller() as caller:
        assert caller.ask(GET).status == 200
        with in_time():
            drip(caller.tls, b"GET /hook HTTP/1.1\r\nX: " + b"y" * 500)
            assert caller.answer().code == "http_timeout"
        assert caller.end() == "close_notify"
        assert (len(edge.gateway.arrived), edge.refusals) == (1, ["http_timeout"])


def test_the_clock_of_a_head_starts_with_each_request(authority: Authority) -> None:
    with edge_with(authority, head=SHORT) as edge, edge.caller() as caller:
        for _ in range(3):
            time.sleep(SHORT / 2)
            assert caller.ask(GET).status == 200
        caller.send(GET + GET[:9])  # the next one begins behind a whole one
        assert caller.answer().status == 200
        with in_time():
            assert caller.answer().code == "http_timeout"


BODIES = {
    "counted": b"POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n",
    "chunked": b"POST /hook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n",
    "http/1.0": b"POST /hook HTTP/1.0\r\nContent-Length: 500\r\n\r\n",
}


@pytest.mark.parametrize("framing", BODIES)
def test_a_dripping_body_gets_408(authority: Authority, framing: str) -> None:
    with edge_with(authority, body=SHORT) as edge, edge.caller() as caller:
        assert caller.ask(GET).status == 200
        with in_time():
            caller.send(BODIES[framing])
            drip(caller.tls, b"y" * 499)
            assert caller.answer().code == "http_timeout"
        assert caller.end() == "close_notify"
        assert len(edge.gateway.arrived) == 1


def test_an_exchange_without_end_is_cut(authority: Authority) -> None:
    with edge_with(authority, exchange=SHORT) as edge, edge.caller() as caller:
        edge.gateway.hold = True
        with in_time():
            caller.send(GET)
            assert caller.end() in ("eof", "reset")
        until(lambda: edge.gateway.cancelled == 1)
        assert edge.cuts == {"exchange": 1}


def test_a_caller_that_never_reads_is_cut(authority: Authority) -> None:
    with edge_with(authority, exchange=SHORT) as edge, edge.caller() as caller:
        edge.gateway.script = lambda _: reply(bytes(256 * 1024))
        caller.tls.setblocking(False)
        with contextlib.suppress(OSError):
            for _ in range(200):
                caller.tls.send(GET * 20)
        until(lambda: edge.listener.connections == 0, 3 * LATEST)
        assert edge.cuts == {"exchange": 1}


# --- idle, and the end


@pytest.mark.parametrize("used", [False, True], ids=["unused", "after a request"])
def test_an_idle_connection_is_closed_without_an_answer(authority: Authority, used: bool) -> None:
    with edge_with(authority, idle=SHORT) as edge, edge.caller() as caller:
        if used:
            assert caller.ask(GET).status == 200
        with in_time():
            assert caller.end() == "close_notify"
        assert edge.refusals == []


def test_who_goes_on_sending_after_a_refusal_is_cut(authority: Authority) -> None:
    with edge_with(authority, lingering=SHORT) as edge, edge.caller() as caller:
        assert caller.ask(b"nonsense\r\n\r\n").status == 400
        until(lambda: edge.listener.connections == 0 or not _nudge(caller), LATEST)
        until(lambda: edge.cuts == {"lingering": 1}, LATEST)


def _nudge(caller: Caller) -> bool:
    with contextlib.suppress(OSError):
        caller.send(b"more")
        time.sleep(0.02)
        return True
    return False


def test_what_is_sent_after_a_refusal_is_read_away_up_to_a_bound(authority: Authority) -> None:
    with edge_with(authority) as edge, edge.caller() as caller:
        assert caller.ask(b"nonsense\r\n\r\n").status == 400
        with contextlib.suppress(OSError):
            for _ in range(10_000):
                caller.send(bytes(16 * 1024))
        until(lambda: edge.listener.connections == 0, 2.0)


# --- how many


def test_connections_over_the_limit_are_cut_and_room_is_given_back(authority: Authority) -> None:
    with edge_with(authority, connections=3) as edge:
        with ExitStack() as open_ones:
            callers = [open_ones.enter_context(edge.caller()) for _ in range(3)]
            for _ in range(5):
                with edge.dial() as sock:
                    assert cut_in_silence(sock)
            assert [caller.ask(GET).status for caller in callers] == [200] * 3
            assert edge.cuts == {"connections": 5}
        until(lambda: edge.listener.connections == 0)
        assert edge.ask(GET).status == 200


def test_silent_connections_count_too(authority: Authority) -> None:
    with edge_with(authority, per_address=2) as edge, edge.dial() as one, edge.dial() as two, edge.dial() as three:
        assert cut_in_silence(three)
        one.close()
        until(lambda: edge.listener.connections == 1)
        assert edge.ask(GET).status == 200
        assert two.fileno() > 0


def test_the_limit_for_an_address_counts_the_callers_address(authority: Authority) -> None:
    """Behind a balancer all connections come from one place; only the PROXY header tells callers apart."""
    with edge_with(authority, per_address=2, proxy_protocol=True) as edge:
        with ExitStack() as open_ones:
            for source in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1"):
                open_ones.enter_context(edge.caller(before=header(source)))
            for source in ("192.0.2.1", "192.0.2.1"):
                with edge.dial(header(source) + first_flight()) as sock:
                    assert cut_in_silence(sock)
            open_ones.enter_context(edge.caller(before=header("192.0.2.2")))
            open_ones.enter_context(edge.caller(before=LOCAL))
            assert edge.cuts == {"connections": 2}
        until(lambda: edge.listener.connections == 0)
        with edge.caller(before=header("192.0.2.1")) as caller:
            assert caller.ask(GET).status == 200


def test_addresses_that_left_are_forgotten(authority: Authority) -> None:
    with edge_with(authority, proxy_protocol=True) as edge:
        for number in range(20):
            with edge.caller(before=header(f"192.0.2.{number}")):
                pass
        until(lambda: edge.listener.connections == 0)
        assert not edge.listener._per_address


def test_a_crowd_that_drips_keeps_nobody_out(authority: Authority) -> None:
    """60 half-open handshakes and heads, a byte at a time, and one honest caller."""
    with edge_with(authority, handshake=2.0, head=2.0) as edge, ExitStack() as crowd:
        hello = first_flight()
        slow = [crowd.enter_context(edge.dial(hello[:20])) for _ in range(30)]
        heads = [crowd.enter_context(edge.caller()) for _ in range(30)]
        for at in range(20, 30):
            for sock in slow:
                sock.sendall(hello[at : at + 1])
            for caller in heads:
                caller.send(b"G")
            assert edge.ask(GET).status == 200
        until(lambda: edge.listener.connections <= 30, 4.0)
        assert edge.ask(GET).status == 200


def test_a_network_of_ipv6_counts_as_one_address(authority: Authority) -> None:
    """A single caller has a /64 to itself and could else come from as many addresses as it likes."""
    with edge_with(authority, per_address=2, proxy_protocol=True) as edge, ExitStack() as open_ones:
        for source in ("2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1"):
            open_ones.enter_context(edge.caller(before=header(source)))
        with edge.dial(header("2001:db8:0:1::3") + first_flight()) as sock:
            assert cut_in_silence(sock)
        assert edge.cuts == {"connections": 1}
