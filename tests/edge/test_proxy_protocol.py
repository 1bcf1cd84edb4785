"""PROXY protocol v2: the caller's address as the balancer saw it, and nothing from anybody without such a header."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

import pytest

from proxy.edge.proxy_protocol import ProxyHeaderError, read_proxy_header
from tests.support.edge import GET, Edge, cut_in_silence, first_flight, until
from tests.support.servers import Authority

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def header(source: str = "192.0.2.7", *, command: int = 0x21, family: int | None = None, rest: bytes = b"") -> bytes:
    """A header as HAProxy sends it; `rest`: TLVs."""
    address = ipaddress.ip_address(source)
    block = address.packed + type(address)(1).packed + b"\x30\x39\x01\xbb" + rest
    family = family if family is not None else (0x11 if address.version == 4 else 0x21)
    return SIGNATURE + bytes((command, family)) + len(block).to_bytes(2, "big") + block


LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


@pytest.fixture(scope="module")
def edge(authority: Authority) -> Iterator[Edge]:
    with Edge(authority, proxy_protocol=True) as one:
        yield one


@pytest.mark.parametrize("source", ["192.0.2.7", "2001:db8::7"])
def test_the_address_is_the_callers(edge: Edge, source: str) -> None:
    with edge.caller(before=header(source)) as caller:
        assert caller.ask(GET).status == 200
    assert edge.gateway.arrived[-1].peer.address == source


def test_tlvs_are_skipped(edge: Edge) -> None:
    with edge.caller(before=header(rest=b"\x04\x00\x03\0\0\0" + b"\xea\x00\x05hello")) as caller:
        assert caller.ask(GET).status == 200


def test_a_health_check_has_the_balancers_address(edge: Edge) -> None:
    with edge.caller(before=LOCAL) as caller:
        assert caller.ask(GET).status == 200
    assert edge.gateway.arrived[-1].peer.address == "127.0.0.1"


def test_a_header_in_single_bytes_and_one_with_the_hello_are_the_same(edge: Edge) -> None:
    both = header() + first_flight()
    with edge.dial() as sock:
        for at in range(len(both)):
            sock.sendall(both[at : at + 1])
        assert sock.recv(1) == b"\x16"
    with edge.dial(both) as sock:
        assert sock.recv(1) == b"\x16"


BAD = {
    "no header": first_flight(),
    "version 1": b"PROXY TCP4 192.0.2.7 192.0.2.1 12345 443\r\n",
    "signature cut": SIGNATURE[:5] + b"X",
    "version 3": SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
    "unknown command": header(command=0x22),
    "unspecified family": header(family=0x00),
    "udp": header(family=0x12),
    "unix": SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
    "ipv6 in too few bytes": header(family=0x21),
    "no addresses": SIGNATURE + b"\x21\x11\x00\x00",
    "addresses cut": SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
    "too long": SIGNATURE + b"\x21\x11\xff\xff",
    "health check too long": SIGNATURE + b"\x20\x00\xff\xff",
}


@pytest.mark.parametrize("name", BAD)
def test_whatever_is_no_such_header_is_cut_without_a_byte(edge: Edge, name: str) -> None:
    cut = edge.cuts.get("not_tls", 0)
    with edge.dial(BAD[name] + first_flight()) as sock:
        assert cut_in_silence(sock)
    until(lambda: edge.cuts.get("not_tls", 0) == cut + 1)
    assert edge.ledger.faults == []


def test_a_header_is_expected_once_only(edge: Edge) -> None:
    with edge.dial(header() + header() + first_flight()) as sock:
        assert cut_in_silence(sock)


def test_a_listener_without_it_takes_no_header(authority: Authority) -> None:
    with Edge(authority) as edge, edge.dial(header() + first_flight()) as sock:
        assert cut_in_silence(sock)


def test_an_unfinished_header_at_the_end_is_closed(edge: Edge) -> None:
    with edge.dial(header()[:20]) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


@pytest.mark.parametrize("size", range(1, len(header())))
def test_a_header_is_not_read_before_it_is_whole(size: int) -> None:
    assert read_proxy_header(header()[:size]) is None


def test_a_header_ends_where_it_says() -> None:
    assert read_proxy_header(header() + b"more") == ("192.0.2.7", 28)
    assert read_proxy_header(LOCAL + b"more") == (None, 16)
    with pytest.raises(ProxyHeaderError):
        read_proxy_header(header()[1:])
