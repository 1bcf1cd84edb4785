"""Callers without any credential: what they can make the edge spend, and whose place they can take."""

from __future__ import annotations

import _ssl
import ctypes
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any

import pytest

from proxy.edge.listener_settings import Limits
from proxy.edge.proxy_protocol import caller_address
from proxy.edge.tls_layer import GatewayTlsLayer
from proxy.gateway import Refused
from proxy.refusal import Audience, Refusal
from tests.edge.test_proxy_protocol import header
from tests.support.edge import GET, Edge, cut_in_silence, first_flight, until
from tests.support.servers import Authority


def openssl() -> ctypes.CDLL:
    """OpenSSL as Python's own `ssl` is linked to it: for what that does not offer."""
    library = ctypes.CDLL(_ssl.__file__)
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def key_updates(port: int, most: int) -> int:
    """How many key updates a connection takes before it is cut; each makes both sides derive keys anew."""
    library = openssl()
    context = ctypes.c_void_p(library.SSL_CTX_new(ctypes.c_void_p(library.TLS_client_method())))
    tls = ctypes.c_void_p(library.SSL_new(context))
    with socket.create_connection(("127.0.0.1", port)) as sock:
        library.SSL_set_fd(tls, sock.fileno())
        library.SSL_ctrl(tls, 55, 0, ctypes.c_char_p(b"localhost"))  # the server name
        try:
            assert library.SSL_connect(tls) == 1
            for number in range(most):
                if library.SSL_key_update(tls, 1) != 1 or library.SSL_do_handshake(tls) != 1:
                    return number
            return most
        finally:
            library.SSL_free(tls)
            library.SSL_CTX_free(context)


def test_a_flood_of_key_updates_is_cut(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """They carry no byte of a request, so that counting requests' records does not see them."""
    taken: list[int] = []
    real = GatewayTlsLayer.receive_data

    def receive_data(layer: GatewayTlsLayer, data: bytes) -> Generator[Any, Any]:
        taken.append(len(data))
        yield from real(layer, data)

    monkeypatch.setattr(GatewayTlsLayer, "receive_data", receive_data)
    with Edge(authority) as edge:
        key_updates(edge.port, 60_000)
        until(lambda: edge.listener.connections == 0)
        assert sum(taken) < 600_000, "of 1.6 MB OpenSSL was given more than two pieces"
        assert edge.ask(GET).status == 200


def test_many_small_requests_are_no_flood(authority: Authority) -> None:
    with Edge(authority) as edge, edge.caller() as caller:
        assert {caller.ask(GET).status for _ in range(2000)} == {200}


@pytest.mark.parametrize("code", ["caller_unknown", "caller_forbidden", "signature_wrong", "delivery_replayed"])
def test_who_proves_nothing_pays_a_handshake_for_each_try(authority: Authority, code: str) -> None:
    """Guesses of a bearer token, and audit records to fill a disk with, at the rate of requests."""
    with Edge(authority) as edge, edge.caller() as caller:
        edge.gateway.script = lambda _: Refused(Refusal(code), Audience.AGENT)
        assert caller.ask(GET).headers["connection"] == "close"
        assert caller.end() == "close_notify"


def test_callers_behind_mapped_addresses_do_not_share_a_limit(authority: Authority) -> None:
    """A listener on [::] sees IPv4 callers as ::ffff:a.b.c.d: all in one /64, which counts as one caller in IPv6."""
    with Edge(authority, limits=Limits(per_address=1), proxy_protocol=True) as edge, ExitStack() as open_ones:
        for source in ("::ffff:192.0.2.1", "::ffff:192.0.2.2"):
            caller = open_ones.enter_context(edge.caller(before=header(source)))
            assert caller.ask(GET).status == 200
        assert edge.gateway.arrived[-1].peer.address == "192.0.2.2"
        with edge.dial(header("192.0.2.1") + first_flight()) as sock:
            assert cut_in_silence(sock)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "::1", "fe80::1%lo"])
def test_other_addresses_stay_as_they_are(address: str) -> None:
    assert caller_address(address) == address


def test_serve_takes_all_the_descriptors_it_may() -> None:
    """With the usual 1024 a few addresses could use up what audit log and upstream connections need as well."""
    script = """
import resource
from click.testing import CliRunner
from proxy.cli.serve import serve
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
assert CliRunner().invoke(serve, ["--config", "nowhere.yaml"]).exit_code == 1
soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
assert soft == hard > 256, (soft, hard)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)
