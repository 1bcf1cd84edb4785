"""What a connection has received while a cohort is on its way: nobody has looked at it, and it must not be lost."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from proxy.cohorts import Cohorts
from proxy.edge.listener_settings import Limits
from proxy.edge.upstream import UpstreamPool
from proxy.refusal import Refusal
from tests.edge.upstream_support import OK, SECOND, request, settings, soon
from tests.edge.upstream_support import until as turned
from tests.support.edge import GET, Edge, until
from tests.support.servers import Authority, Server, read_request, replies


class Held(Cohorts):
    """No cohort starts between `hold` and `release`."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        self.kept: list[Callable[[], None]] = []

    def join(self, begin: Callable[[], None]) -> None:
        if self.held:
            self.kept.append(begin)
        else:
            super().join(begin)

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False
        for begin in self.kept:
            super().join(begin)
        self.kept.clear()


@pytest.fixture
def cohorts() -> Held:
    return Held()


@pytest.fixture
def edge(authority: Authority, cohorts: Held) -> Iterator[Edge]:
    with Edge(authority) as one:
        one.listener.cohorts = cohorts
        yield one


def _hold(edge: Edge, cohorts: Held) -> None:
    """From here on: the handshake is over, which the listener may learn after the caller."""
    until(lambda: any(connection.established for connection in edge.listener._connections))
    edge.in_loop(cohorts.hold)
    until(lambda: cohorts.held)


def _waits(edge: Edge) -> bool:
    return any(connection._inlet for connection in edge.listener._connections)


def test_what_came_before_an_end_is_read_before_it(edge: Edge, cohorts: Held) -> None:
    with edge.caller() as caller:
        _hold(edge, cohorts)
        caller.send(GET)
        until(lambda: _waits(edge))
        socket.socket.shutdown(caller.tls, socket.SHUT_WR)
        assert caller.answer().status == 200
        edge.in_loop(cohorts.release)


def test_a_connection_with_something_to_read_is_not_idle(edge: Edge, cohorts: Held) -> None:
    with edge.caller() as caller:
        assert caller.ask(GET).status == 200
        (connection,) = edge.listener._connections
        assert connection.idle
        _hold(edge, cohorts)
        caller.send(GET)
        until(lambda: _waits(edge))
        assert not connection.idle
        edge.in_loop(cohorts.release)
        assert caller.answer().status == 200


def test_nothing_is_begun_for_a_caller_that_has_left(edge: Edge, cohorts: Held) -> None:
    with edge.caller() as caller:
        _hold(edge, cohorts)
        caller.send(GET)
        until(lambda: _waits(edge))
        caller.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: edge.listener.connections == 0)
    edge.in_loop(cohorts.release)
    assert edge.ask(GET).status == 200
    assert len(edge.gateway.arrived) == 1


def test_nothing_is_begun_on_a_connection_that_was_cut(edge: Edge, cohorts: Held) -> None:
    """What cuts it and what starts the cohort may be one turn of the event loop: before it is told of the end."""

    def cut() -> None:
        for connection in edge.listener._connections:
            connection._abort("drain")
        for begin in cohorts.kept:
            begin()

    with edge.caller() as caller:
        _hold(edge, cohorts)
        caller.send(GET)
        until(lambda: _waits(edge))
        edge.in_loop(cut)
        until(lambda: edge.listener.connections == 0)
    assert edge.gateway.arrived == []


@pytest.mark.parametrize("end", [False, True])
def test_after_a_fault_nothing_that_waited_is_read(edge: Edge, cohorts: Held, end: bool) -> None:
    def fail(*_: object) -> int:
        raise LookupError

    with edge.caller() as caller:
        edge.listener.body_limit = fail  # type: ignore[method-assign]
        _hold(edge, cohorts)
        caller.send(b"POST /hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(GET))
        until(lambda: _waits(edge))
        if end:
            socket.socket.shutdown(caller.tls, socket.SHUT_WR)
        else:
            edge.in_loop(cohorts.release)
        until(lambda: edge.listener.connections == 0)
    assert (edge.cuts, len(edge.ledger.faults), edge.gateway.arrived) == ({"fault": 1}, 1, [])


@pytest.mark.parametrize("phase", ["idle", "body"])
def test_what_came_in_time_is_not_late_because_it_waited(authority: Authority, cohorts: Held, phase: str) -> None:
    head = b"POST /hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
    with Edge(authority, limits=Limits(idle=0.5, body=0.5)) as edge:
        edge.listener.cohorts = cohorts
        with edge.caller() as caller:
            assert caller.ask(GET).status == 200
            if phase == "body":
                caller.send(head)
                until(lambda: any(connection._phase == "body" for connection in edge.listener._connections))
            _hold(edge, cohorts)
            caller.send(GET if phase == "idle" else b"hello")
            assert caller.answer().status == 200
            edge.in_loop(cohorts.release)


async def test_an_answer_that_came_in_time_is_not_late_because_it_waited(authority: Authority, cohorts: Held) -> None:
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        one = UpstreamPool([settings(server, authority)], cohorts)
        cohorts.hold()
        try:
            assert (await one.send(request(), soon(0.7))).body == b"ok"
        finally:
            cohorts.release()
            await one.close()


async def test_bytes_nobody_asked_for_never_wait(authority: Authority, cohorts: Held) -> None:
    """They would be there when the next exchange looks for its answer, and no longer in the socket."""
    asked_for = threading.Event()

    def serve(peer: socket.socket, server: Server) -> None:
        read_request(peer, server)
        peer.sendall(OK)
        if len(server.requests) == 1:
            asked_for.wait(5)
            peer.sendall(SECOND)
        read_request(peer, server)
        peer.sendall(OK)

    with Server(authority.server("127.0.0.1"), serve) as server:
        one = UpstreamPool([settings(server, authority)], cohorts)
        assert (await one.send(request(), soon())).body == b"ok"
        cohorts.hold()
        asked_for.set()
        await turned(lambda: one.stats()["crm"].open == 0)
        cohorts.release()
        assert (await one.send(request(), soon())).body == b"ok"
        await one.close()


async def test_a_fault_in_what_waited_gives_the_connection_back(
    authority: Authority, cohorts: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(peer: socket.socket, server: Server) -> None:
        read_request(peer, server)
        peer.sendall(OK)

    def fail(*_: object) -> bool:
        raise LookupError

    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    monkeypatch.setattr("proxy.edge.upstream_connection.ResponseReader.feed", fail)
    with Server(authority.server("127.0.0.1"), serve) as server:
        one = UpstreamPool([settings(server, authority)], cohorts)
        cohorts.hold()
        with pytest.raises(Refusal) as caught:
            await one.send(request(), soon())
        assert caught.value.code == "upstream_broken"
        await turned(lambda: one.stats()["crm"].open == 0)
        cohorts.release()
        await one.close()


async def test_an_answer_that_came_before_the_end_of_its_connection_counts(authority: Authority, cohorts: Held) -> None:
    def serve(peer: socket.socket, server: Server) -> None:
        read_request(peer, server)
        peer.sendall(OK)

    with Server(authority.server("127.0.0.1"), serve) as server:
        one = UpstreamPool([settings(server, authority)], cohorts)
        cohorts.hold()
        try:
            assert (await asyncio.wait_for(one.send(request(), soon()), 10)).body == b"ok"
        finally:
            cohorts.release()
            await one.close()
