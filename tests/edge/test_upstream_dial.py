"""Making connections: every way in which an upstream, or the proxy before it, is not what it should be."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from proxy.edge.upstream import UpstreamPool
from proxy.emulate.stage import free_ports
from proxy.refusal import Refusal
from tests.edge.upstream_support import OK, pool, request, soon, until
from tests.support.servers import Authority, Serve, Server, replies, silent


async def _refusal(one: UpstreamPool, seconds: float = 5.0) -> str:
    with pytest.raises(Refusal) as caught:
        await one.send(request(), soon(seconds))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.code


@pytest.mark.parametrize("case", ["name", "no name", "expired", "authority"])
async def test_an_upstream_that_does_not_prove_its_name_gets_nothing(
    authority: Authority, tmp_path: Path, case: str
) -> None:
    contexts = {
        "name": lambda: authority.server("other.example"),
        "no name": lambda: authority.server("127.0.0.2"),
        "expired": lambda: authority.server("127.0.0.1", expired=True),
        "authority": lambda: Authority(tmp_path, "other").server("127.0.0.1"),
    }
    with Server(contexts[case](), replies(OK)) as server:
        async with pool(server, authority) as one:
            assert await _refusal(one) == "upstream_untrusted"
            await until(lambda: server.ended.acquire(blocking=False))
            assert server.requests == []
            assert one.stats()["crm"].open == 0


async def test_the_system_does_not_trust_a_private_authority(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        async with pool(server, authority, ca_file=None) as one:
            assert await _refusal(one) == "upstream_untrusted"
            assert server.requests == []


async def test_a_name_is_verified(authority: Authority) -> None:
    with Server(authority.server("localhost"), replies(OK)) as server:
        async with pool(server, authority, host="localhost") as one:
            assert (await one.send(request(), soon())).body == b"ok"
            assert b"\r\nhost: localhost:%d\r\n" % server.port in server.requests[0]


async def test_an_upstream_of_tls_1_1_is_refused(authority: Authority) -> None:
    with Server(authority.old_server("127.0.0.1"), replies(OK)) as server:
        _shake_hands_with_tls_1_1(server.port)
        await until(lambda: server.handshakes == 1)
        async with pool(server, authority) as one:
            assert await _refusal(one) == "upstream_untrusted"
            await until(lambda: server.accepted == 2)
            assert server.handshakes == 1
            assert server.requests == []


def _shake_hands_with_tls_1_1(port: int) -> None:
    """Shows that the server would."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw) as peer:
        assert peer.version() == "TLSv1.1"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(authority: Authority, version: ssl.TLSVersion) -> None:
    context = authority.server("127.0.0.1")
    context.minimum_version = context.maximum_version = version
    with Server(context, replies(OK)) as server:
        async with pool(server, authority) as one:
            assert (await one.send(request(), soon())).body == b"ok"


async def test_a_cipher_without_forward_secrecy_or_aead_is_refused(authority: Authority) -> None:
    context = authority.server("127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    with Server(context, replies(OK)) as server:
        async with pool(server, authority) as one:
            assert await _refusal(one) == "upstream_untrusted"


async def test_plain_http_on_the_port_is_refused(authority: Authority) -> None:
    seen = []

    def plain(peer: socket.socket, server: Server) -> None:
        seen.append(peer.recv(65536))
        peer.sendall(OK)

    with Server(None, plain) as server:
        async with pool(server, authority) as one:
            assert await _refusal(one) == "upstream_untrusted"
            assert seen[0][0] == 22  # a TLS handshake record, and nothing of the request
            assert b"POST" not in seen[0]


async def test_nobody_listening_is_unreachable(authority: Authority) -> None:
    async with pool(free_ports(1)[0], authority) as one:
        assert await _refusal(one) == "upstream_unreachable"


async def test_a_name_without_address_is_unreachable(authority: Authority) -> None:
    async with pool(443, authority, host="no-such-host.invalid") as one:
        assert await _refusal(one) == "upstream_unreachable"


async def test_a_hang_up_instead_of_a_handshake_is_unreachable(authority: Authority) -> None:
    with Server(None, lambda peer, server: None) as server:
        async with pool(server, authority) as one:
            assert await _refusal(one) == "upstream_unreachable"


async def test_a_hang_up_together_with_the_handshake_is_refused_at_once(authority: Authority) -> None:
    """The connection is gone before anybody could use it: nobody may wait for it."""
    context = authority.server("127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def serve(peer: socket.socket, server: Server) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while not _finished(tls.do_handshake):
            peer.sendall(outgoing.read())
            incoming.write(peer.recv(65536))
        _finished(tls.unwrap)
        peer.sendall(outgoing.read())  # Finished and close_notify in one piece
        server.gate.wait(5)

    with Server(None, serve) as server:
        async with pool(server, authority) as one:
            begin = time.monotonic()
            # uvloop reports the end one step later than asyncio, when the request was already handed to it.
            late = isinstance(asyncio.get_running_loop(), uvloop.Loop)
            assert await _refusal(one) == ("upstream_broken" if late else "upstream_unreachable")
            assert time.monotonic() - begin < 1.5
            assert one.stats()["crm"].open == 0


def _finished(step: Callable[[], object]) -> bool:
    try:
        step()
    except ssl.SSLWantReadError:
        return False
    return True


@pytest.mark.parametrize(("seconds", "connect"), [(0.2, 5.0), (5.0, 0.2)])
async def test_a_handshake_that_does_not_come_ends_at_the_earlier_of_both_times(
    authority: Authority, seconds: float, connect: float
) -> None:
    def wait(peer: socket.socket, server: Server) -> None:
        server.gate.wait(5)

    with Server(None, wait) as server:
        async with pool(server, authority, connect_timeout=connect) as one:
            begin = time.monotonic()
            assert await _refusal(one, seconds) == "upstream_timeout"
            assert time.monotonic() - begin < 1.5
            assert one.stats()["crm"].open == 0


# client certificates


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate_is_shown(authority: Authority, version: ssl.TLSVersion) -> None:
    names: list[object] = []

    def serve(peer: socket.socket, server: Server) -> None:
        assert isinstance(peer, ssl.SSLSocket)
        names.append((peer.getpeercert() or {}).get("subjectAltName"))
        replies(OK)(peer, server)

    certificate, key = authority.client_files("gateway.example")
    with Server(authority.demanding_server("127.0.0.1", version=version), serve) as server:
        async with pool(server, authority, client_certificate=certificate, client_key=key) as one:
            assert (await one.send(request(), soon())).body == b"ok"
            assert names == [(("DNS", "gateway.example"),)]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_an_upstream_that_demands_a_certificate_refuses_without(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    with Server(authority.demanding_server("127.0.0.1", version=version), replies(OK)) as server:
        async with pool(server, authority) as one:
            # In TLS 1.3 the refusal comes after the request was written, and a reset may overtake it.
            assert await _refusal(one) in ("upstream_untrusted", "upstream_broken", "upstream_unreachable")
            await until(lambda: server.ended.acquire(blocking=False))
            assert server.requests == []


# CONNECT


def _proxy(port: int, reply: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Serve:
    """A CONNECT proxy that always connects to `port`, whatever it is asked for."""

    def serve(peer: socket.socket, server: Server) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.recv(65536)
        server.requests.append(head)
        with socket.create_connection(("127.0.0.1", port), 5) as onward:
            peer.sendall(reply)
            back = threading.Thread(target=_pump, args=(onward, peer))
            back.start()
            _pump(peer, onward)
            back.join()

    return serve


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one end is gone; so is the tunnel


async def test_a_request_goes_through_the_proxy_and_tls_ends_at_the_upstream(authority: Authority) -> None:
    with Server(authority.server("crm.example"), replies(OK)) as server, Server(None, _proxy(server.port)) as proxy:
        egress = ("127.0.0.1", proxy.port)
        async with pool(443, authority, host="crm.example", egress_proxy=egress) as one:
            for _ in range(3):
                assert (await one.send(request(), soon())).body == b"ok"
            assert proxy.requests == [b"CONNECT crm.example:443 HTTP/1.1\r\nhost: crm.example:443\r\n\r\n"]
            assert server.handshakes == 1
            assert b"\r\nhost: crm.example\r\n" in server.requests[0]


async def test_a_proxy_that_leads_elsewhere_gets_nothing(authority: Authority) -> None:
    with Server(authority.server("evil.example"), replies(OK)) as server, Server(None, _proxy(server.port)) as proxy:
        egress = ("127.0.0.1", proxy.port)
        async with pool(443, authority, host="crm.example", egress_proxy=egress) as one:
            assert await _refusal(one) == "upstream_untrusted"
            assert server.requests == []


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "upstream_unreachable"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "upstream_unreachable"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "upstream_unreachable"),
        (b"HTTP/1.1 200 OK\r\n\r\nx", "upstream_broken"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\x16", "upstream_broken"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "upstream_broken"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 9000, "upstream_broken"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 9000 + b"\r\n\r\n", "upstream_broken"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "upstream_broken"),
        (b"", "upstream_unreachable"),
    ],
)
async def test_a_hostile_proxy_is_refused(authority: Authority, reply: bytes, code: str) -> None:
    def serve(peer: socket.socket, server: Server) -> None:
        server.requests.append(peer.recv(65536))
        peer.sendall(reply)
        if reply:
            server.requests.append(peer.recv(65536))

    with Server(None, serve) as proxy:
        async with pool(443, authority, host="crm.example", egress_proxy=("127.0.0.1", proxy.port)) as one:
            assert await _refusal(one) == code
            await until(lambda: proxy.ended.acquire(blocking=False))
            assert b"".join(proxy.requests).endswith(b"host: crm.example:443\r\n\r\n")  # and no more than CONNECT


async def test_a_silent_proxy_is_left_at_the_deadline(authority: Authority) -> None:
    with Server(None, silent) as proxy:
        async with pool(443, authority, host="crm.example", egress_proxy=("127.0.0.1", proxy.port)) as one:
            assert await _refusal(one, 0.2) == "upstream_timeout"
            assert await asyncio.to_thread(proxy.ended.acquire, timeout=5)


async def test_a_cancelled_dial_leaves_no_connection(authority: Authority) -> None:
    with Server(None, silent) as proxy, Server(None, silent) as server:
        for changes in ({"egress_proxy": ("127.0.0.1", proxy.port)}, {}):
            async with pool(server, authority, **changes) as one:
                task = asyncio.get_running_loop().create_task(one.send(request(), soon()))
                target = proxy if changes else server
                await until(lambda target=target: target.accepted == 1)  # type: ignore[misc]
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                assert await asyncio.to_thread(target.ended.acquire, timeout=5)
