"""What a connection has received while a cohort is on its way: nobody has looked at it, and it must not be lost."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from proxy.cohorts import Cohorts
from proxy.edge.upstream import UpstreamPool
from tests.edge.upstream_support import OK, request, settings, soon
from tests.support.edge import GET, Edge, until
from tests.support.servers import Authority, Server, read_request


class Held(Cohorts):
    """No cohort starts as long as one is at rest, and that one is `held` there."""

    def __init__(self) -> None:
        super().__init__()
        self._one = self.rest()

    def hold(self) -> None:
        self._alone = False
        next(self._one)

    def release(self) -> None:
        self._one.close()


@pytest.fixture
def cohorts() -> Held:
    return Held()


@pytest.fixture
def edge(authority: Authority, cohorts: Held) -> Iterator[Edge]:
    with Edge(authority) as one:
        one.listener.cohorts = cohorts
        yield one


def _waits(edge: Edge) -> bool:
    return any(connection._inlet for connection in edge.listener._connections)


def test_what_came_before_an_end_is_read_before_it(edge: Edge, cohorts: Held) -> None:
    with edge.caller() as caller:
        edge.in_loop(cohorts.hold)
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
        edge.in_loop(cohorts.hold)
        caller.send(GET)
        until(lambda: _waits(edge))
        assert not connection.idle
        edge.in_loop(cohorts.release)
        assert caller.answer().status == 200


def test_nothing_is_begun_for_a_caller_that_has_left(edge: Edge, cohorts: Held) -> None:
    with edge.caller() as caller:
        edge.in_loop(cohorts.hold)
        caller.send(GET)
        until(lambda: _waits(edge))
        caller.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: edge.listener.connections == 0)
    edge.in_loop(cohorts.release)
    assert edge.ask(GET).status == 200
    assert len(edge.gateway.arrived) == 1


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
