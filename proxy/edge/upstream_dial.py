"""Makes connections to an upstream: TCP, a CONNECT proxy if there is one, verified TLS. Failures become refusals."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

from proxy.edge.upstream_connection import UpstreamConnection
from proxy.edge.upstream_response import HEAD
from proxy.edge.upstream_settings import UpstreamSettings
from proxy.refusal import Refusal

SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds a peer gets to answer close_notify."""
_MAX_REPLY_BYTES: Final = 8 * 1024
_LATER: Final = 5.0
"""The loop's own handshake timer reports its end like a lost connection: it is set behind ours."""

type ConnectionFactory = Callable[[], UpstreamConnection]


async def dial(
    settings: UpstreamSettings, context: ssl.SSLContext, factory: ConnectionFactory, deadline: float
) -> UpstreamConnection:
    """A new connection, its peer verified, before `deadline` (loop time) and within `connect_timeout`.

    Raises Refusal `upstream_unreachable` (DNS, TCP, the proxy), `upstream_untrusted` (every failure of TLS: the
    upstream did not prove who it is by TLS 1.2 or later), `upstream_timeout`, `upstream_broken` (the proxy does not
    speak HTTP).
    """
    limit = min(deadline, asyncio.get_running_loop().time() + settings.connect_timeout)
    try:
        async with asyncio.timeout_at(limit):
            if settings.egress_proxy is None:
                return await _direct(settings, context, factory)
            return await _through(settings.egress_proxy, settings, context, factory)
    except TimeoutError:
        raise Refusal("upstream_timeout") from None
    except ssl.SSLError:
        raise Refusal("upstream_untrusted") from None
    except OSError:
        raise Refusal("upstream_unreachable") from None


async def _direct(
    settings: UpstreamSettings, context: ssl.SSLContext, factory: ConnectionFactory
) -> UpstreamConnection:
    _, connection = await asyncio.get_running_loop().create_connection(
        factory,
        settings.host,
        settings.port,
        ssl=context,
        server_hostname=settings.host,
        ssl_handshake_timeout=settings.connect_timeout + _LATER,
        ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
    )
    return connection


async def _through(
    proxy: tuple[str, int], settings: UpstreamSettings, context: ssl.SSLContext, factory: ConnectionFactory
) -> UpstreamConnection:
    loop = asyncio.get_running_loop()
    clear, tunnel = await loop.create_connection(lambda: _Tunnel(loop.create_future()), *proxy)
    try:
        clear.write(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (settings.authority, settings.authority))
        await tunnel.open
        connection = factory()
        transport = await loop.start_tls(
            clear,
            connection,
            context,
            server_hostname=settings.host,
            ssl_handshake_timeout=settings.connect_timeout + _LATER,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
    except BaseException:
        clear.abort()
        raise
    connection.connection_made(cast(asyncio.Transport, transport))
    return connection


class _Tunnel(asyncio.Protocol):
    """Waits for the proxy's answer to CONNECT. `open` resolves when the tunnel stands, or holds the Refusal."""

    def __init__(self, opened: asyncio.Future[None]) -> None:
        self.open = opened
        self._reply = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reply += data
        end = self._reply.find(b"\r\n\r\n") + 4
        if end > 3:
            self._judge(end)
        elif len(self._reply) >= _MAX_REPLY_BYTES:
            self._fail("upstream_broken")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("upstream_unreachable")

    def _judge(self, end: int) -> None:
        """The reply must be a head and nothing else: the upstream does not speak before TLS does."""
        if end > _MAX_REPLY_BYTES or not HEAD.fullmatch(self._reply):
            self._fail("upstream_broken")
        elif self._reply[9:12] != b"200":
            self._fail("upstream_unreachable")
        elif not self.open.done():
            self._transport.pause_reading()
            self.open.set_result(None)

    def _fail(self, code: str) -> None:
        if not self.open.done():
            self.open.set_exception(Refusal(code))
        self._transport.abort()
