"""One connection against real servers: the tables of responses, deadlines, ends at every moment."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import pytest

from proxy.alarms import Alarms
from proxy.cohorts import Cohorts
from proxy.edge.upstream import UpstreamPool
from proxy.edge.upstream_connection import UpstreamConnection, receive_buffer
from proxy.edge.upstream_response import ResponseReader
from proxy.refusal import Refusal
from tests.edge.upstream_cases import MAX_BODY, REFUSED, TAKEN
from tests.edge.upstream_support import OK, SECOND, pool, request, soon, until
from tests.support.servers import Authority, Serve, Server, read_request, replies, silent


async def _refusal(one: UpstreamPool, seconds: float = 5.0) -> str:
    with pytest.raises(Refusal) as caught:
        await one.send(request(), soon(seconds))
    assert caught.value.__cause__ is None
    return caught.value.code


@pytest.mark.parametrize("name", TAKEN)
async def test_taken(authority: Authority, name: str) -> None:
    raw, status, body, kept = TAKEN[name]
    with Server(authority.server("127.0.0.1"), replies(raw, SECOND)) as server:
        async with pool(server, authority, max_response_bytes=MAX_BODY) as one:
            response = await one.send(request(), soon())
            assert (response.status, response.body) == (status, body)
            following = await one.send(request(), soon())
            assert following.body == (b"second" if kept else body)
            assert (server.handshakes == 1) == kept


async def test_responses_larger_than_the_buffer_and_one_after_the_other(authority: Authority) -> None:
    bodies = [bytes([65 + number]) * (100_000 - 40_000 * (number % 3)) for number in range(6)]
    raw = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body) for body in bodies]
    with Server(authority.server("127.0.0.1"), replies(*raw)) as server:
        async with pool(server, authority) as one:
            for body in bodies:
                assert (await one.send(request(), soon())).body == body
            assert server.handshakes == 1
            ((_, connections),) = one._pools.values()
            assert bytes(connections._buffer) == bytes(len(connections._buffer))


class _Chatty(asyncio.Transport):
    """Before it closes it hands over what has come meanwhile, as the TLS of event loops does."""

    def __init__(self, peer: socket.socket) -> None:
        super().__init__({"socket": peer})
        self.connection: UpstreamConnection
        self.ended: list[str] = []

    def tell(self, data: bytes) -> None:
        self.connection.get_buffer(-1)[: len(data)] = data
        self.connection.buffer_updated(len(data))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.tell(OK + b"more than was asked for")

    def close(self) -> None:
        self.ended.append("closed")
        self.tell(b"and more")

    def abort(self) -> None:
        self.ended.append("cut")

    def is_closing(self) -> bool:
        return bool(self.ended)


async def test_bytes_that_come_while_a_connection_is_being_closed_change_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport, loop = _Chatty(ours), asyncio.get_running_loop()
        connection = UpstreamConnection(loop, Alarms(), Cohorts(), lambda _: None, receive_buffer())
        transport.connection = connection
        connection.connection_made(transport)
        response = await connection.exchange(b"x", ResponseReader("POST", MAX_BODY), soon())
        assert (response.status, response.body) == (200, b"ok")
        assert transport.ended == ["closed"]


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(authority: Authority, name: str) -> None:
    with Server(authority.server("127.0.0.1"), replies(REFUSED[name])) as server:
        async with pool(server, authority, max_response_bytes=MAX_BODY) as one:
            assert await _refusal(one) == "upstream_broken"
            await until(lambda: one.stats()["crm"].open == 0)
            assert len(server.requests) == 1


async def test_bytes_on_an_idle_connection_end_it(authority: Authority) -> None:
    def serve(peer: socket.socket, server: Server) -> None:
        read_request(peer, server)
        peer.sendall(OK)
        server.gate.wait(5)
        peer.sendall(SECOND)
        read_request(peer, server)

    with Server(authority.server("127.0.0.1"), serve) as server:
        async with pool(server, authority) as one:
            await one.send(request(), soon())
            assert one.stats()["crm"].idle == 1
            server.gate.set()
            await until(lambda: one.stats()["crm"].open == 0)
            assert one.stats()["crm"].idle == 0
            assert (await one.send(request(), soon())).body == b"ok"
            assert server.handshakes == 2


def _ends_after(raw: bytes) -> Serve:
    def serve(peer: socket.socket, server: Server) -> None:
        read_request(peer, server)
        peer.sendall(raw)

    return serve


def _resets(peer: socket.socket, server: Server) -> None:
    read_request(peer, server)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


@pytest.mark.parametrize(
    "serve",
    [_ends_after(b""), _ends_after(b"HTTP/1.1 2"), _ends_after(OK[:-1]), _resets],
    ids=["none", "head", "body", "reset"],
)
async def test_an_end_before_the_response_is_refused_and_nothing_is_sent_again(
    authority: Authority, serve: Serve
) -> None:
    with Server(authority.server("127.0.0.1"), serve) as server:
        async with pool(server, authority) as one:
            assert await _refusal(one) == "upstream_broken"
            assert server.accepted == len(server.requests) == 1


async def test_a_fault_of_our_own_in_reading_the_response_ends_the_exchange_at_once(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise LookupError

    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context["exception"]))
    monkeypatch.setattr("proxy.edge.upstream_connection.ResponseReader.feed", fail)
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        async with pool(server, authority) as one:
            assert await _refusal(one) == "upstream_broken"
            await until(lambda: one.stats()["crm"].open == 0)
    assert [type(fault) for fault in faults] == [LookupError]


async def test_an_end_after_the_response_is_no_fault(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), _ends_after(OK)) as server:
        async with pool(server, authority) as one:
            for _ in range(3):
                assert (await one.send(request(), soon())).body == b"ok"
                await until(lambda: one.stats()["crm"].open == 0)
            assert server.handshakes == 3


async def test_an_idle_connection_that_ended_unseen_is_not_written_to(authority: Authority) -> None:
    """The peer's end is in the socket, and the loop had no time to read it: the request must go by another one."""
    with Server(authority.server("127.0.0.1"), _ends_after(OK)) as server:
        async with pool(server, authority) as one:
            for count in range(1, 6):
                assert (await one.send(request(), soon())).body == b"ok"
                assert server.ended.acquire(timeout=5)  # blocks the loop: nothing is read meanwhile
                assert len(server.requests) == count
            assert one.stats()["crm"].reused == 0


async def test_a_silent_upstream_is_left_at_the_deadline(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), silent) as server:
        async with pool(server, authority) as one:
            begin = time.monotonic()
            assert await _refusal(one, 0.2) == "upstream_timeout"
            assert 0.15 < time.monotonic() - begin < 1.5
            await until(lambda: one.stats()["crm"].open == 0)
            assert server.ended.acquire(timeout=5)


async def test_a_slow_drip_does_not_move_the_deadline(authority: Authority) -> None:
    def drip(peer: socket.socket, server: Server) -> None:
        read_request(peer, server)
        for byte in b"HTTP/1.1 200 OK\r\nA: " + b"b" * 500:
            peer.sendall(bytes([byte]))
            server.gate.wait(0.02)

    with Server(authority.server("127.0.0.1"), drip) as server:
        async with pool(server, authority) as one:
            begin = time.monotonic()
            assert await _refusal(one, 0.3) == "upstream_timeout"
            assert time.monotonic() - begin < 1.5


async def test_no_byte_leaves_after_the_deadline(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        async with pool(server, authority, warm=1) as one:
            await one.warm()
            assert await _refusal(one, -1) == "upstream_timeout"
            assert server.requests == []
            assert (await one.send(request(), soon())).body == b"ok"
            assert server.handshakes == 1


async def test_a_cancelled_exchange_takes_its_connection_along(authority: Authority) -> None:
    def late(peer: socket.socket, server: Server) -> None:
        read_request(peer, server)
        server.gate.wait(5)
        peer.sendall(OK)
        read_request(peer, server)

    with Server(authority.server("127.0.0.1"), late) as server:
        async with pool(server, authority) as one:
            task = asyncio.get_running_loop().create_task(one.send(request(), soon()))
            await until(lambda: len(server.requests) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: one.stats()["crm"].open == 0)
            server.gate.set()
            assert (await one.send(request(body=b"[]"), soon())).body == b"ok"
            assert server.handshakes == len(server.requests) == 2


async def test_an_answer_before_the_request_was_all_out_ends_the_connection(authority: Authority) -> None:
    def hasty(peer: socket.socket, server: Server) -> None:
        peer.recv(1000)
        peer.sendall(OK)
        server.gate.wait(5)

    with Server(authority.server("127.0.0.1"), hasty) as server:
        async with pool(server, authority) as one:
            assert (await one.send(request(body=b"x" * (32 << 20)), soon())).body == b"ok"
            assert one.stats()["crm"].idle == 0


async def test_a_large_request_and_a_large_response(authority: Authority) -> None:
    body = bytes(range(256)) * 8192
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with Server(authority.server("127.0.0.1"), replies(raw)) as server:
        async with pool(server, authority, max_response_bytes=len(body)) as one:
            for _ in range(3):
                assert (await one.send(request(body=body), soon())).body == body
            assert server.handshakes == 1
            assert all(one.endswith(b"\r\n\r\n" + body) for one in server.requests)
