"""What comes before TLS: floods, slow drips and other protocols are cut off, cheaply and without a byte in answer."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from proxy.edge.client_hello import MAX_BYTES, MAX_RECORDS, ClientHelloGate, NotAClientHelloError
from tests.support.edge import GET, Edge, RecordCaller, cut_in_silence, first_flight, records, until
from tests.support.servers import Authority

HELLO = first_flight()
MESSAGE = HELLO[5:]


@pytest.fixture(scope="module")
def edge(authority: Authority) -> Iterator[Edge]:
    with Edge(authority) as one:
        yield one


def test_a_hello_is_handed_on_when_it_is_whole() -> None:
    gate = ClientHelloGate()
    for at in range(len(HELLO) - 1):
        assert gate.feed(HELLO[at : at + 1]) is None
    assert gate.feed(HELLO[-1:] + b"more") == HELLO + b"more"


def test_a_hello_may_be_spread_over_a_few_records() -> None:
    size = -(-len(MESSAGE) // MAX_RECORDS)
    spread = records(MESSAGE, size)
    assert ClientHelloGate().feed(spread) == spread
    with pytest.raises(NotAClientHelloError):
        ClientHelloGate().feed(records(MESSAGE, size - 10))


def claim(size: int) -> bytes:
    """The beginning of a ClientHello that claims to have `size` bytes."""
    return b"\x01" + size.to_bytes(3, "big")


REFUSED = {
    "16 MB claimed": records(claim(0xFFFFFF) + bytes(100), 104),
    "more than the bound claimed": records(claim(MAX_BYTES + 1) + bytes(100), 104),
    "more than the bound sent": records(claim(MAX_BYTES - 4), 4) + b"\x16\x03\x01\x40\x00" + bytes(MAX_BYTES - 10),
    "single bytes": records(MESSAGE, 1),
    "first four bytes split": records(MESSAGE[:3], 3) + records(MESSAGE[3:], 1000),
    "empty record": b"\x16\x03\x01\x00\x00" + HELLO,
    "record too long": b"\x16\x03\x01\xff\xff" + MESSAGE,
    "another handshake message": b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
    "application data": b"\x17\x03\x03\x00\x05hello",
    "alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "ssl 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37),
    "another version": b"\x16\x02\x00" + HELLO[3:],
    "heartbeat": b"\x18\x03\x02\x00\x03\x01\x40\x00",
    "http": GET,
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.9\r\n",
    "socks": b"\x05\x01\x00",
    "proxy protocol": b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n",
    "nul": bytes(64),
}


@pytest.mark.parametrize("name", REFUSED)
def test_whatever_is_no_client_hello_gets_no_byte(edge: Edge, name: str) -> None:
    cut = edge.cuts.get("not_tls", 0)
    with edge.dial(REFUSED[name]) as sock:
        assert cut_in_silence(sock)
    until(lambda: edge.cuts.get("not_tls", 0) == cut + 1)
    assert (edge.gateway.arrived, edge.ledger.faults, edge.ledger.lines) == ([], [], [])


def test_an_unfinished_hello_at_the_end_is_closed(edge: Edge) -> None:
    with edge.dial(HELLO[:50]) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def test_a_flood_of_tiny_records_costs_less_than_handshakes(edge: Edge) -> None:
    """The same number of connections, once with a handshake and once with 30 kB of six-byte records each. An engine
    that parses again on every read spends seconds on each of the second kind."""
    count = 20
    before = edge.cpu
    for _ in range(count):
        with edge.caller() as caller:
            caller.ask(GET)
    handshakes, before = edge.cpu - before, edge.cpu
    flood = records(claim(12_000) + bytes(5000), 1)
    for _ in range(count):
        with edge.dial() as sock, contextlib.suppress(OSError):
            for at in range(0, len(flood), 300):
                sock.sendall(flood[at : at + 300])
    until(lambda: edge.listener.connections == 0)
    assert edge.cpu - before < 2 * handshakes + 0.05


def test_a_hello_in_single_bytes_costs_little(edge: Edge) -> None:
    """A large ClientHello byte by byte, never finished: time grows with its length, not with its square."""
    before = edge.cpu
    with edge.dial() as sock, contextlib.suppress(OSError):
        message = records(claim(MAX_BYTES - 200) + bytes(6000), 6004)
        for at in range(len(message)):
            sock.sendall(message[at : at + 1])
    until(lambda: edge.listener.connections == 0)
    assert edge.cpu - before < 1.0


def test_tiny_records_behind_the_handshake_are_cut_off(edge: Edge) -> None:
    """A record of one byte costs as much as one of 16 KiB: 50 000 of them are refused after some hundreds."""
    before = edge.cpu
    with edge.caller() as caller:
        caller.send(b"POST /hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n")
        with pytest.raises(OSError):
            for _ in range(50_000):
                caller.send(b"x")
    until(lambda: edge.listener.connections == 0)
    assert edge.cpu - before < 1.0
    assert edge.gateway.arrived[-1].request.method == "GET"


def test_a_request_in_single_byte_records_is_still_understood(edge: Edge) -> None:
    with edge.caller() as caller:
        for at in range(len(GET)):
            caller.send(GET[at : at + 1])
        assert caller.answer().status == 200


def test_a_broken_record_ends_the_connection(edge: Edge) -> None:
    """Nothing behind a record that does not authenticate is believed."""
    count = len(edge.gateway.arrived)
    with edge.dial() as raw:
        client = RecordCaller(raw, edge.trust())
        raw.sendall(client.written())
        sealed = bytearray(client.written(GET))
        sealed[-1] ^= 1
        raw.sendall(bytes(sealed) + client.written(GET))
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass
    until(lambda: edge.listener.connections == 0)
    assert len(edge.gateway.arrived) == count
