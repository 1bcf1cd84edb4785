"""One accepted socket: drives mitmproxy's layers, keeps the clock, asks the gateway.

Events go into the layer stack, commands come out; whatever raises on the way aborts the connection, since what a
half-driven layer would do next is unknown. Reading pauses while an exchange is pending, so that a sender cannot fill
memory behind a slow upstream, and no exchange begins while the caller leaves earlier answers unread. What the engine
gets it gets in cohorts, with what other connections received meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from mitmproxy import connection as engine
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import tls as engine_tls

from proxy.cohorts import Inlet
from proxy.edge.client_hello import ClientHelloGate, NotAClientHelloError
from proxy.edge.http_guard import Head
from proxy.edge.http_layer import DeadlinePassed, Desk, Exchange, ExchangeCompleted, HttpLayer
from proxy.edge.proxy_protocol import ProxyHeaderError, caller_address, read_proxy_header
from proxy.edge.tls_layer import GatewayTlsLayer
from proxy.journey import Arrived
from proxy.message import Peer

if TYPE_CHECKING:
    from proxy.edge.listener import Listener

_OPTIONS = Options()
_LINGER_BYTES = 1024 * 1024  # what is read away after a refusal, so that the refusal arrives before a reset


class EdgeConnection(asyncio.Protocol):
    """States, in order: proxy header (if the listener has one), ClientHello, engine, lingering."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._feed = self._feed_proxy_header if listener.settings.proxy_protocol else self._feed_hello
        self._inlet = Inlet(listener.cohorts, self._received)
        self._early = bytearray()
        self._hello = ClientHelloGate()
        self._queue: deque[events.Event] = deque()
        self._driving = False
        self._exchange: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lingered = 0
        self._phase = "handshake"
        self.expires = 0.0
        self.counted = False
        self.address = ""
        self.established = False

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no such class
        peername = transport.get_extra_info("peername") or ("", 0)
        self.address = caller_address(peername[0])
        self._peername, self._sockname = peername[:2], (transport.get_extra_info("sockname") or ("", 0))[:2]
        self._transport.set_write_buffer_limits(high=256 * 1024)
        self._listener.opened(self)
        self.set_phase("handshake")
        if self._listener.is_full(self):
            self._abort("connections")

    def data_received(self, data: bytes) -> None:
        if self._feed == self._feed_engine:
            self._inlet.put(data)
        else:
            self._received(data)

    def _received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return  # it was cut, or its caller left, while this waited: nothing is begun any more
        try:
            self._feed(data)
        except (ProxyHeaderError, NotAClientHelloError):
            self._abort("not_tls")
        except PermissionError:
            self._abort("client_name")
        except Exception as error:  # noqa: BLE001 - a layer that raised is in no known state
            self._fail(error)
        except BaseException:
            self._transport.abort()
            raise

    def eof_received(self) -> bool:
        self._inlet.flush()
        if self._feed == self._feed_engine and not self._transport.is_closing():
            self._end_of_input()
        else:
            self._transport.close()
        return True

    def pause_writing(self) -> None:
        """The caller does not read. Its next request waits, so that answers cannot fill memory."""
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self._listener.closed(self)
        if self._exchange is not None:
            self._exchange.cancel()

    # --- what arrives, by state

    def _feed_proxy_header(self, data: bytes) -> None:
        self._early += data
        found = read_proxy_header(bytes(self._early))
        if found is None:
            return
        address, end = found
        if address is not None:
            self.address = address
        self._feed = self._feed_hello
        if self._listener.is_full(self):
            self._abort("connections")
        elif rest := bytes(self._early[end:]):
            self._feed_hello(rest)

    def _feed_hello(self, data: bytes) -> None:
        hello = self._hello.feed(data)
        if hello is None:
            return
        client = engine.Client(
            peername=self._peername, sockname=self._sockname, state=engine.ConnectionState.OPEN, timestamp_start=0.0
        )
        self._client = client
        context = Context(client, _OPTIONS)
        context.layers.append(None)  # type: ignore[arg-type]  # the TLS layer looks at the layer above it
        listener = self._listener
        desk = Desk(self._body_limit, self.set_phase, lambda: listener.draining, listener.refused)
        self._layer = GatewayTlsLayer(context, HttpLayer(context, desk))
        self._feed = self._feed_engine
        self._drive(events.Start())
        self._drive(events.DataReceived(client, hello))

    def _feed_engine(self, data: bytes) -> None:
        self._drive(events.DataReceived(self._client, data))

    def _feed_lingering(self, data: bytes) -> None:
        self._lingered += len(data)
        if self._lingered > _LINGER_BYTES:
            self._transport.abort()

    def _end_of_input(self) -> None:
        try:
            self._client.state &= ~engine.ConnectionState.CAN_READ
            self._drive(events.ConnectionClosed(self._client))
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    # --- the engine's side

    def _drive(self, event: events.Event) -> None:
        """Feeds one event, then everything its commands brought about. Never re-entered: commands queue."""
        self._queue.append(event)
        if self._driving:
            return
        self._driving = True
        try:
            while self._queue:
                for command in self._layer.handle_event(self._queue.popleft()):
                    self._obey(command)
        finally:
            self._driving = False

    def _obey(self, command: commands.Command) -> None:
        if isinstance(command, commands.SendData):
            self._transport.write(command.data)
        elif isinstance(command, Exchange):
            self._transport.pause_reading()
            self._exchange = asyncio.Task(self._answer(command), loop=self._listener.loop, eager_start=True)
        elif isinstance(command, commands.CloseConnection):
            self._linger()
        elif isinstance(command, engine_tls.TlsStartClientHook):
            command.data.ssl_conn = self._listener.contexts.connection()
            self._queue.append(events.HookCompleted(command))
        elif isinstance(command, engine_tls.TlsEstablishedClientHook):
            self._established()  # raises for a certificate that is not let in; what came with it is never looked at
            self._queue.append(events.HookCompleted(command))
        elif not isinstance(command, commands.Log):
            # Everything else would be a wish to go somewhere: connect, wake up, ask an add-on. There is no such way.
            raise TypeError(type(command).__name__)

    def _established(self) -> None:
        client = self._client
        names = self._listener.certificate_names(client)
        self._peer = Peer(
            self._listener.settings.name,
            self.address,
            client.tls_version or "",
            (self._layer.tls.get_servername() or b"").decode("ascii", "replace"),
            names,
        )
        self.established = True
        self._listener.handshaken(client.tls_version or "")
        self.set_phase("idle")

    def _body_limit(self, head: Head) -> int:
        return self._listener.body_limit(head, self._peer)

    async def _answer(self, exchange: Exchange) -> None:
        """Awaits the gateway. A cancelled exchange or one that raised leaves no answer: the connection is cut."""
        try:
            if not self._writable.is_set():
                await self._writable.wait()
            exchange.answer = await self._listener.gateway.handle(Arrived(exchange.request, self._peer))
            self._exchange = None
            if not self._transport.is_closing():
                self._transport.resume_reading()
                self._drive(ExchangeCompleted(exchange))
        except BaseException as error:  # cut first: whatever tells of it may fail too
            self._transport.abort()
            if isinstance(error, asyncio.CancelledError | SystemExit | KeyboardInterrupt):
                raise
            self._fail(error)

    # --- the end, and the clock

    def _linger(self) -> None:
        """Closes our direction and reads away what is still under way; RFC 9112 section 9.6 says why."""
        if self._transport.is_closing() or self._feed == self._feed_lingering:
            return
        self._feed = self._feed_lingering
        peer_is_done = not self._client.state & engine.ConnectionState.CAN_READ
        self._client.state = engine.ConnectionState.CLOSED
        self.set_phase("lingering")
        if self._transport.can_write_eof() and not peer_is_done:
            self._transport.write_eof()
        else:
            self._transport.close()

    def _abort(self, reason: str) -> None:
        self._transport.abort()  # first: counting may fail
        self._listener.cut(reason)

    def _fail(self, error: BaseException) -> None:
        self._abort("fault")
        self._listener.fault(error)

    def set_phase(self, phase: str) -> None:
        """Begins a phase: an absolute deadline that no byte puts off. The exchange has its own, in the gateway."""
        if phase != self._phase or not self.expires:
            self._phase = phase
            self.expires = self._listener.loop.time() + self._listener.settings.limits.seconds[phase]

    def late(self) -> None:
        """The phase's deadline passed (called by the listener's sweep)."""
        before = self._phase, self.expires
        self._inlet.flush()  # it came in time
        if (self._phase, self.expires) != before or self._transport.is_closing():
            return
        if self._phase in ("idle", "head", "body") and self._feed == self._feed_engine:
            self.set_phase("lingering")
            try:
                self._drive(DeadlinePassed())
            except Exception as error:  # noqa: BLE001
                self._listener.fault(error)
                self._abort("fault")
        else:
            self._abort(self._phase)

    @property
    def idle(self) -> bool:
        """Between two requests: may be closed when the gateway drains."""
        return self._phase in ("idle", "handshake") and not self._inlet

    def close_idle(self) -> None:
        if self._feed == self._feed_engine:
            self.late()
        else:
            self._transport.abort()
