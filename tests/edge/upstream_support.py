"""What the tests of the upstream client share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from proxy import cleared
from proxy.cleared import ClearedRequest
from proxy.edge.upstream import UpstreamPool, UpstreamSettings
from proxy.message import HeaderList
from tests.support.servers import Authority, Server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECOND = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def request(
    method: str = "POST",
    target: str = "/push",
    headers: HeaderList = ((b"content-type", b"application/json"),),
    body: bytes = b"{}",
    upstream: str = "crm",
) -> ClearedRequest:
    """A cleared request, made past the policy."""
    return ClearedRequest(cleared._SEAL, upstream, method, target, headers, body)


def settings(server: Server | int, authority: Authority, **changes: Any) -> UpstreamSettings:
    port = server if isinstance(server, int) else server.port
    values: dict[str, Any] = {"name": "crm", "host": "127.0.0.1", "port": port, "ca_file": authority.ca_file}
    return UpstreamSettings(**(values | changes))


@contextlib.asynccontextmanager
async def pool(server: Server | int, authority: Authority, **changes: Any) -> AsyncIterator[UpstreamPool]:
    one = UpstreamPool([settings(server, authority, **changes)])
    try:
        yield one
    finally:
        await one.close()


def soon(seconds: float = 5.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.002)
