"""The door itself and its pool, against real servers."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from proxy.edge.upstream import UpstreamPool, UpstreamStats
from proxy.message import Response
from proxy.refusal import Refusal
from tests.edge.upstream_support import OK, pool, request, settings, soon, until
from tests.support.servers import Authority, Server, replies, silent


def _send(one: UpstreamPool, seconds: float = 5.0) -> asyncio.Task[Response]:
    return asyncio.get_running_loop().create_task(one.send(request(), soon(seconds)))


class _Impostor:
    """Looks like a cleared request in every field."""

    upstream, method, target, headers, body = "crm", "POST", "/push", (), b"secret"
    _seal = object()


def _robbed() -> object:
    """A cleared request whose seal was exchanged."""
    one = copy.copy(request())
    object.__setattr__(one, "_seal", object())
    return one


@pytest.mark.parametrize("thing", [_Impostor(), _robbed(), None, b"POST / HTTP/1.1\r\n\r\n"])
async def test_what_was_not_cleared_sends_nothing(authority: Authority, thing: Any) -> None:
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        async with pool(server, authority, warm=1) as one:
            assert await one.warm() == {}
            with pytest.raises(Refusal, match="not_cleared"):
                await one.send(thing, soon())
            assert server.requests == []
            assert one.stats()["crm"] == UpstreamStats(open=1, idle=1, created=1, reused=0)


async def test_an_upstream_that_is_not_configured_is_refused(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        async with pool(server, authority) as one:
            with pytest.raises(Refusal, match="not_cleared"):
                await one.send(request(upstream="other"), soon())
            assert server.accepted == 0


async def test_two_upstreams_of_one_name_are_refused(authority: Authority) -> None:
    with pytest.raises(ValueError, match="crm: configured twice"):
        UpstreamPool([settings(443, authority), settings(444, authority)])


async def test_a_request_arrives_as_it_was_cleared_and_the_answer_comes_back(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), replies(b"HTTP/1.1 201 C\r\nX-A: b\r\n" + OK[17:])) as server:
        async with pool(server, authority) as one:
            response = await one.send(request(target="/push?a=b", body=b"[1]"), soon())
            assert response == Response(201, b"ok")
            assert server.requests == [
                b"POST /push?a=b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nconnection: keep-alive\r\n"
                b"accept-encoding: identity\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n[1]"
                % server.port
            ]


@pytest.mark.parametrize("tickets", [0, 2])
async def test_many_requests_take_one_handshake(authority: Authority, tickets: int) -> None:
    with Server(authority.server("127.0.0.1", tickets=tickets), replies(OK)) as server:
        async with pool(server, authority) as one:
            for _ in range(50):
                await one.send(request(), soon())
            assert server.handshakes == 1
            assert one.stats()["crm"] == UpstreamStats(open=1, idle=1, created=1, reused=49)


async def test_no_more_connections_than_configured_and_every_request_is_answered_once(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        async with pool(server, authority, max_connections=3) as one:
            bodies = [b"[%d]" % number for number in range(60)]
            await asyncio.gather(*(one.send(request(body=body), soon()) for body in bodies))
            assert server.handshakes <= 3
            assert sorted(raw.split(b"\r\n\r\n")[1] for raw in server.requests) == sorted(bodies)


async def test_who_waits_for_a_connection_beyond_the_deadline_is_refused(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), silent) as server:
        async with pool(server, authority, max_connections=1) as one:
            first = _send(one, 10)
            await until(lambda: len(server.requests) == 1)
            with pytest.raises(Refusal, match="upstream_busy"):
                await one.send(request(), soon(0.1))
            assert server.accepted == len(server.requests) == 1
            first.cancel()
            await asyncio.wait([first])


async def test_a_place_is_given_on_after_a_failure_and_after_a_cancelled_wait(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), replies(b"garbage", OK)) as server:
        async with pool(server, authority, max_connections=1) as one:
            tasks = [_send(one) for _ in range(4)]
            await asyncio.sleep(0)
            tasks[2].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == [Refusal, Refusal, asyncio.CancelledError, Refusal]
            assert server.handshakes == 3
            assert one.stats()["crm"].idle == 0


async def test_an_idle_connection_expires(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        async with pool(server, authority, max_idle=0.1) as one:
            await one.send(request(), soon())
            await until(lambda: one.stats()["crm"].open == 0)
            assert server.ended.acquire(timeout=5)
            assert server.failures == []  # ended by close_notify, not cut
            await one.send(request(), soon())
            assert server.handshakes == 2


async def test_an_expired_connection_is_not_used_even_if_nobody_swept_it(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        async with pool(server, authority, max_idle=0.05) as one:
            await one.send(request(), soon())
            assert not server.gate.wait(0.1)  # blocks the loop, and its timers
            await one.send(request(), soon())
            assert server.handshakes == 2


async def test_a_connection_in_use_goes_when_it_is_old(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        async with pool(server, authority, max_age=0.2) as one:
            end = soon(0.5)
            while soon(0) < end:
                await one.send(request(), soon())
            assert 2 <= server.handshakes <= 4


async def test_warm_connections_are_opened_used_and_replaced(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), replies(OK)) as server:
        async with pool(server, authority, warm=2, max_connections=2, max_idle=0.2) as one:
            assert await one.warm() == {}
            assert one.stats()["crm"] == UpstreamStats(open=2, idle=2, created=2, reused=0)
            await one.send(request(), soon())
            assert one.stats()["crm"].reused == 1
            await until(lambda: one.stats()["crm"].created >= 4 and one.stats()["crm"].idle == 2)
            await until(lambda: server.handshakes == one.stats()["crm"].created)


async def test_tickets_do_not_cost_a_warm_connection(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1", tickets=2), replies(OK)) as server:
        async with pool(server, authority, warm=1) as one:
            await one.warm()
            assert one.stats()["crm"] == UpstreamStats(open=1, idle=1, created=1, reused=0)


async def test_warming_reports_an_upstream_that_is_down_and_tries_again(authority: Authority) -> None:
    context = authority.server("127.0.0.1")
    with Server(None, lambda peer, server: None) as down:
        async with pool(down, authority, warm=1, max_idle=0.2) as one:
            assert await one.warm() == {"crm": "upstream_unreachable"}
            down._context, down._serve = context, replies(OK)
            await until(lambda: one.stats()["crm"].idle == 1)


async def test_close_ends_idle_and_busy_connections_and_the_door_stays_shut(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), silent) as server:
        async with pool(server, authority, warm=2) as one:
            await one.warm()
            busy = _send(one, 10)
            await until(lambda: len(server.requests) == 1)
            await one.close()
            with pytest.raises(Refusal, match="upstream_broken"):
                await busy
            assert one.stats()["crm"].open == 0
            with pytest.raises(Refusal, match="upstream_unreachable"):
                await one.send(request(), soon())
            assert server.accepted == 2


async def test_close_leaves_no_connection_that_is_being_made(authority: Authority) -> None:
    with Server(authority.server("127.0.0.1"), silent) as server:
        async with pool(server, authority) as one:
            task = _send(one)
            await asyncio.sleep(0)
            await one.close()
            with pytest.raises(Refusal, match="upstream_unreachable"):
                await task
            assert server.requests == []
            assert one.stats()["crm"].open == 0
