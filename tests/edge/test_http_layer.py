"""The layer alone, fed by hand: what it keeps between two requests of a connection."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import connection as engine
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context

from proxy.cleared import clear_success
from proxy.edge.http_layer import Desk, Exchange, ExchangeCompleted, HttpLayer

MARK = b"never-kept-0123456789"
REQUESTS = [
    b"POST /a?q=%b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
    % (MARK, MARK, len(MARK), MARK),
    b"POST /a HTTP/1.1\r\nHost: a\r\nX: %b\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (MARK, len(MARK), MARK),
]


def made() -> tuple[HttpLayer, engine.Client]:
    address = ("127.0.0.1", 1)
    client = engine.Client(peername=address, sockname=address, timestamp_start=0.0)
    desk = Desk(lambda _head: 1000, lambda _phase: None, lambda: False, lambda _refusal: None)
    return HttpLayer(Context(client, Options()), desk), client


def ask(layer: HttpLayer, client: engine.Client, wire: bytes) -> bytes:
    """The answer to one request that is answered with success."""
    (exchange,) = layer.handle_event(events.DataReceived(client, wire))
    assert isinstance(exchange, Exchange)
    exchange.answer = clear_success()
    (answer,) = layer.handle_event(ExchangeCompleted(exchange))
    assert isinstance(answer, commands.SendData)
    return answer.data


LINES = st.sampled_from([b"GET /a HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"GET /a HTTP/1.0", b"DELETE /a HTTP/1.1"])
FIELDS = st.lists(
    st.sampled_from(
        b"Connection:close|Connection:keep-alive|Connection:a, Close|Proxy-Connection:close|Keep-Alive:1|"
        b"Proxy-Connection:keep-alive|Upgrade:|Expect:100-continue|Transfer-Encoding:chunked|Content-Length:3|TE:trailers|"
        b"Transfer-Encoding:Chunked|Content-Length:0|Connection:|X:y".split(b"|")
    ),
    max_size=3,
)
BODIES = st.sampled_from([b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n"])


def told(layer: HttpLayer, client: engine.Client, wire: bytes) -> list[bytes | str]:
    """What the layer does with `wire`, every exchange answered with success."""
    done: list[bytes | str] = []
    waiting = list(layer.handle_event(events.DataReceived(client, wire)))
    while waiting:
        command = waiting.pop(0)
        if isinstance(command, Exchange):
            asked = command.request
            done.append(f"{asked.method} {asked.path} {asked.query} {asked.headers} {asked.body!r}")
            command.answer = clear_success()
            waiting += layer.handle_event(ExchangeCompleted(command))
        else:
            done.append(command.data if isinstance(command, commands.SendData) else type(command).__name__)
    return done


@given(st.lists(st.tuples(LINES, FIELDS, BODIES), min_size=1, max_size=4))
def test_what_came_before_on_a_connection_changes_nothing(asked: list[tuple[bytes, list[bytes], bytes]]) -> None:
    layer, client = made()
    for line, fields, body in asked:
        wire = b"\r\n".join([line, b"Host: a", *fields]) + b"\r\n\r\n" + body
        alone = told(*made(), wire)
        assert told(layer, client, wire) == alone
        if "CloseConnection" in alone or not alone or not isinstance(alone[-1], bytes) or layer._buffer or layer._head:
            return  # it ended, or the next bytes belong to this request


def held(value: Any, seen: set[int]) -> bytes:
    """Every byte string below `value`, one after the other."""
    if isinstance(value, bytes | bytearray):
        return bytes(value) + b"|"
    if isinstance(value, str):
        return value.encode() + b"|"
    if id(value) in seen:
        return b""
    seen.add(id(value))
    if isinstance(value, tuple | list):
        below = list(value)
    else:
        below = [getattr(value, name, None) for name in (*getattr(value, "__dict__", ()), *_slots(value))]
    return b"".join([held(item, seen) for item in below])


def _slots(value: Any) -> tuple[str, ...]:
    slots = getattr(type(value), "__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


@pytest.mark.parametrize("wire", REQUESTS, ids=["counted", "chunked"])
def test_nothing_of_an_answered_request_stays_with_its_connection(wire: bytes) -> None:
    layer, client = made()
    for _ in range(3):
        assert ask(layer, client, wire).startswith(b"HTTP/1.1 200 OK\r\n")
        assert MARK not in held(layer, set())


def test_the_search_finds_what_is_held() -> None:
    layer, client = made()
    (exchange,) = layer.handle_event(events.DataReceived(client, REQUESTS[0]))
    assert isinstance(exchange, Exchange)
    assert MARK in held(layer, set())
