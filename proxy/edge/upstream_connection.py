"""One TLS connection to an upstream, one exchange at a time. Any irregularity ends it: it is never used again."""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable
from typing import Final, cast

from proxy.alarms import Alarms
from proxy.cohorts import Cohorts, Inlet
from proxy.edge.upstream_response import ResponseError, ResponseReader
from proxy.message import Response
from proxy.refusal import Refusal

_PIECE: Final = 64 * 1024
_BLANK: Final = bytes(_PIECE)


def receive_buffer() -> memoryview:
    """One for all connections of an event loop: it is filled and emptied at once."""
    return memoryview(bytearray(_PIECE))


class UpstreamConnection(asyncio.BufferedProtocol):
    """A connection that `upstream_dial.dial` made. `on_lost` is called with it once, when it is gone.

    Buffered: the event loop would have TLS decrypt into 256 KiB made anew for each read, however little came.
    """

    __slots__ = (
        "_alarms",
        "_buffer",
        "_dead",
        "_future",
        "_inlet",
        "_loop",
        "_on_lost",
        "_poll",
        "_reader",
        "_transport",
        "born",
        "idle_since",
        "lost",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        alarms: Alarms,
        cohorts: Cohorts,
        on_lost: Callable[[UpstreamConnection], None],
        buffer: memoryview,
    ) -> None:
        """`buffer`: of `receive_buffer`, for this event loop."""
        self._loop = loop
        self._buffer = buffer
        self._alarms = alarms
        self._inlet = Inlet(cohorts, self._received)
        self._on_lost = on_lost
        self.lost: asyncio.Future[None] = loop.create_future()
        """Resolves when the connection is gone."""
        self._poll = select.poll()
        self._reader: ResponseReader | None = None
        self._future: asyncio.Future[Response] | None = None
        self._dead = False
        self._transport: asyncio.Transport
        self.born = self.idle_since = loop.time()

    async def exchange(self, wire: bytes, reader: ResponseReader, deadline: float) -> Response:
        """Writes `wire`, once and never again, and returns the response that `reader` read. `deadline`: loop time.

        Raises Refusal `upstream_timeout`, `upstream_broken`, `upstream_untrusted` (TLS 1.3: an upstream that refuses
        this side's certificate says so only now). The connection stays usable only if all went well.
        """
        if deadline <= self._loop.time():
            raise Refusal("upstream_timeout")
        future: asyncio.Future[Response] = self._loop.create_future()
        self._future = future
        self._reader = reader
        alarm = self._alarms.set(deadline, self._late)
        try:
            self._transport.write(wire)
            return await future
        finally:
            self._alarms.cancel(alarm)
            self._future = None
            if self._reader is not None:
                self.abort()

    def usable(self) -> bool:
        """Nothing came from the peer, neither bytes nor an end, not even into the socket where nobody read it yet:
        unread bytes would be taken for the response to the next request."""
        return not self.ended and self._events() == select.POLLOUT

    def drained(self) -> bool:
        """The last request is all out. A peer that answered before may take the rest of it for the next request."""
        return bool(self._events() & select.POLLOUT)

    def _events(self) -> int:
        """What the socket is ready for. While the loop holds bytes back the socket is full, so not for output."""
        return sum([events for _, events in self._poll.poll(0)])

    @property
    def ended(self) -> bool:
        """Not to be used again; blind to what is still in the socket."""
        return self._dead or self._transport.is_closing()

    def close(self) -> None:
        """Ends the connection in order (close_notify)."""
        self._dead = True
        self._transport.close()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._dead = True
        self._transport.abort()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLOUT)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        self._buffer[:nbytes] = _BLANK[:nbytes]
        if self._reader is not None:
            self._inlet.put(data)
        elif not self._dead:  # what comes while it is being closed is of no interest
            self.abort()

    def _received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            self.abort()
            return
        try:
            complete = reader.feed(data)
        except ResponseError:
            self._fail("upstream_broken")
            return
        except BaseException:  # there is no transport between here and the event loop that would end the connection
            self._fail("upstream_broken")
            raise
        if complete:
            self._complete(reader)

    def eof_received(self) -> None:
        self._dead = True

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self._inlet.flush()
        finally:
            self._dead = True
            if self._reader is not None:
                self._fail("upstream_untrusted" if isinstance(exc, ssl.SSLError) else "upstream_broken")
            self.lost.set_result(None)
            self._on_lost(self)

    def _complete(self, reader: ResponseReader) -> None:
        self._reader = None
        if reader.excess or not reader.keep_alive:
            self.close()
        if self._future is not None and not self._future.done():
            self._future.set_result(reader.response())

    def _late(self) -> None:
        self._inlet.flush()  # it came in time
        if self._reader is not None:
            self._fail("upstream_timeout")

    def _fail(self, code: str) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_exception(Refusal(code))
        self._reader = None
        self.abort()
