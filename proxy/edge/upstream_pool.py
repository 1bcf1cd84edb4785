"""The connections to one upstream: as many as configured, idle ones kept for reuse, a queue when all are busy."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from proxy.alarms import Alarms
from proxy.cohorts import Cohorts
from proxy.edge.slots import Slots
from proxy.edge.upstream_connection import UpstreamConnection, receive_buffer
from proxy.edge.upstream_dial import SHUTDOWN_TIMEOUT, dial
from proxy.edge.upstream_response import ResponseReader
from proxy.edge.upstream_settings import UpstreamSettings
from proxy.message import Response
from proxy.refusal import Refusal

_MAX_TICK = 5.0
"""Seconds between two looks at idle connections, at most: so long may a warm connection that was lost be missing."""


@dataclass(frozen=True, slots=True)
class UpstreamStats:
    """`open` and `idle`: connections now. `created` and `reused`: since the start."""

    open: int
    idle: int
    created: int
    reused: int


class ConnectionPool:
    """The connections to one upstream, for one event loop.

    A slot is held for every exchange and every dial; a connection is dialled only in a slot and when none is idle, or
    to keep warm ones. So slots and idle connections together never exceed `max_connections`.
    """

    def __init__(self, settings: UpstreamSettings, context: ssl.SSLContext, cohorts: Cohorts) -> None:
        self._settings = settings
        self._cohorts = cohorts
        self._context = context
        self._alarms = Alarms()
        self._buffer = receive_buffer()
        self._slots = Slots(settings.max_connections)
        self._open: set[UpstreamConnection] = set()
        self._idle: list[UpstreamConnection] = []
        self._created = 0
        self._reused = 0
        self._closed = False
        self._keep_warm = False
        self._timer: asyncio.TimerHandle | None = None
        self._filling: asyncio.Task[None] | None = None

    async def exchange(self, wire: bytes, method: str, deadline: float) -> Response:
        """Sends `wire` once and returns the response. `deadline`: loop time. Raises the Refusals of ports.Upstream."""
        loop = asyncio.get_running_loop()
        if not self._slots.take_free():
            try:
                await self._slots.take(deadline)
            except TimeoutError:
                raise Refusal("upstream_busy") from None
        try:
            connection = self._take(loop.time()) or await self._dial(loop, deadline)
            try:
                return await connection.exchange(
                    wire, ResponseReader(method, self._settings.max_response_bytes), deadline
                )
            finally:
                self._put(connection, loop.time())
        finally:
            self._slots.give_back()

    async def warm(self) -> None:
        """Opens the configured number of connections and keeps them open from now on. Raises Refusal of the dial."""
        self._keep_warm = self._settings.warm > 0
        self._watch()
        await self._fill()

    async def close(self) -> None:
        """Ends all connections, busy ones at once, and serves no more. Returns when they are gone."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
        idle, every = set(self._idle), list(self._open)
        for connection in every:
            if connection in idle:
                connection.close()
            else:
                connection.abort()
        if every:
            await asyncio.wait([connection.lost for connection in every], timeout=2 * SHUTDOWN_TIMEOUT)

    def stats(self) -> UpstreamStats:
        return UpstreamStats(len(self._open), len(self._idle), self._created, self._reused)

    # connections

    def _take(self, now: float) -> UpstreamConnection | None:
        """The idle connection used last, so that the others age and go. A dead one is passed over: no byte was sent."""
        while self._idle:
            connection = self._idle.pop()
            if self._fresh(connection, now) and connection.usable():
                self._reused += 1
                return connection
            connection.close()
        return None

    def _put(self, connection: UpstreamConnection, now: float) -> None:
        if connection.ended:
            return
        connection.idle_since = now
        if not connection.drained():
            connection.close()
            return
        self._idle.append(connection)

    def _fresh(self, connection: UpstreamConnection, now: float) -> bool:
        settings = self._settings
        return now - connection.born < settings.max_age and now - connection.idle_since < settings.max_idle

    async def _dial(self, loop: asyncio.AbstractEventLoop, deadline: float) -> UpstreamConnection:
        self._require_open()
        connection = await dial(
            self._settings,
            self._context,
            lambda: UpstreamConnection(loop, self._alarms, self._cohorts, self._forget, self._buffer),
            deadline,
        )
        if self._closed or connection.ended:
            connection.abort()
            raise Refusal("upstream_unreachable")
        self._created += 1
        self._open.add(connection)
        self._watch()
        return connection

    def _require_open(self) -> None:
        if self._closed:
            raise Refusal("upstream_unreachable")

    def _forget(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    # upkeep

    def _watch(self) -> None:
        if self._timer is None and not self._closed:
            tick = min(self._settings.max_idle / 4, self._settings.max_age / 4, _MAX_TICK)
            self._timer = asyncio.get_running_loop().call_later(tick, self._tick)

    def _tick(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [one for one in self._idle if not self._fresh(one, now)]:
            self._idle.remove(connection)
            connection.close()
        if self._keep_warm and (self._filling is None or self._filling.done()):
            self._filling = loop.create_task(self._fill_again())
        if self._keep_warm or self._open:
            self._watch()

    async def _fill_again(self) -> None:
        try:
            await self._fill()
        except Refusal:
            return  # an upstream that is down is no fault of the upkeep: exchanges report it, the next tick tries again

    async def _fill(self) -> None:
        loop = asyncio.get_running_loop()
        while self._slots.taken + len(self._idle) < self._settings.warm and self._slots.take_free():
            try:
                self._put(await self._dial(loop, loop.time() + self._settings.connect_timeout), loop.time())
            finally:
                self._slots.give_back()
