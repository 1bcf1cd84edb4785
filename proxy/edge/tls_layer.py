"""TLS towards clients: mitmproxy's TLS layer on pyOpenSSL, with what a public server needs on top.

Ours: alerts reach the client, close_notify is sent, unknown server names get alert 112, tiny records are cut off, and
nothing the engine has to say about a handshake is logged. The server name is read by OpenSSL, not by a second parser.
"""

from __future__ import annotations

from mitmproxy.proxy import commands, events, layer, tunnel
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.tls import ClientTLSLayer, TLSLayer
from OpenSSL import SSL

from proxy.edge.tls import unknown_name
from proxy.edge.tls_records import RecordCounter

_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"  # RFC 8446 section 6: fatal alert 112
_PIECE = 65535  # bytes read from OpenSSL at once
# A record of one byte costs as much as one of 16 KiB. Below this average over this many records a sender is cut off.
_RECORDS_BEFORE_JUDGING = 512
_LEAST_AVERAGE = 32
# Key updates and empty records carry nothing at all. Requests never take this much more on the wire than they hold.
_FREE_WIRE, _MOST_WIRE = 64 * 1024, 4


class GatewayTlsLayer(ClientTLSLayer):
    """One per connection."""

    def __init__(self, context: Context, child: layer.Layer) -> None:
        super().__init__(context)
        self.child_layer = child
        self._started = False
        self._stream = RecordCounter()
        self._records = 0
        self._received = 0
        self._wire = 0

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        # The engine's own way, for tunnels of every kind, takes a dozen calls to find out what is known here: there is
        # one connection, its handshake is over, and nothing is paused.
        if self.tunnel_state is tunnel.TunnelState.OPEN:
            if type(event) is events.DataReceived:
                return self.receive_data(event.data)
            if type(event) is not events.ConnectionClosed:
                return self.event_to_child(event)
        return super().handle_event(event)

    def event_to_child(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self.tunnel_state is not tunnel.TunnelState.OPEN:
            yield from super().event_to_child(event)
            return
        for command in self.child_layer.handle_event(event):
            if type(command) is commands.SendData:
                yield from self.send_data(command.data)
            elif isinstance(command, commands.ConnectionCommand):
                yield from self._handle_command(command)
            else:
                yield command

    def receive_handshake_data(self, data: bytes) -> layer.CommandGenerator[tuple[bool, str | None]]:
        self._stream.is_one_record(data)
        if not self._started:
            self._started = True
            yield from self.start_tls()
            if not self.conn.connected:
                return False, "closed"
        done, error = yield from TLSLayer.receive_handshake_data(self, data)
        if unknown_name(self.tls):
            yield commands.SendData(self.conn, _UNRECOGNIZED_NAME)
            return False, "unknown server name"
        if error:
            yield from self.tls_interact()  # OpenSSL's own alert
        return done, error

    def tls_interact(self) -> layer.CommandGenerator[None]:
        # Of an unknown name OpenSSL knows nothing and goes on with the default certificate, which must not leave.
        if self.tunnel_state is not tunnel.TunnelState.OPEN and unknown_name(self.tls):
            return
        more = True
        while more:
            try:
                data = self.tls.bio_read(_PIECE)
            except SSL.WantReadError:
                return
            more = len(data) == _PIECE  # less is all there was
            yield commands.SendData(self.conn, data)

    def on_handshake_error(self, err: str) -> layer.CommandGenerator[None]:
        # The engine's own method would log the error with bytes of the peer.
        yield commands.CloseConnection(self.tunnel_connection)

    def receive_data(self, data: bytes) -> layer.CommandGenerator[None]:
        if data:
            self.tls.bio_write(data)
            self._wire += len(data)
        is_one_record = self._stream.is_one_record(data)
        pieces: list[bytes] = []
        closed = failed = False
        while True:
            try:
                piece = self.tls.recv(_PIECE)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                closed = True
                break
            except SSL.Error:
                failed = True
                break
            pieces.append(piece)
            if self._is_flood(len(piece)):
                failed = True
                break
            if is_one_record:  # asking OpenSSL for more costs as much as taking what there is
                break
        failed = failed or self._wire > _FREE_WIRE + _MOST_WIRE * self._received
        if closed or failed or not pieces:  # else what OpenSSL says besides, if anything, leaves before the next answer
            yield from self.tls_interact()
        if failed:  # nothing behind a broken record is believed
            yield commands.CloseConnection(self.tunnel_connection)
            return
        if pieces:
            yield from self.event_to_child(events.DataReceived(self.conn, b"".join(pieces)))
        if closed:
            yield from self.event_to_child(events.ConnectionClosed(self.conn))

    def _is_flood(self, size: int) -> bool:
        self._records += 1
        self._received += size
        return self._records > _RECORDS_BEFORE_JUDGING and self._received < self._records * _LEAST_AVERAGE

    def send_close(self, command: commands.CloseConnection) -> layer.CommandGenerator[None]:
        if self.tunnel_state is tunnel.TunnelState.OPEN:
            try:
                self.tls.shutdown()  # close_notify: the caller can tell an end from a cut
            except SSL.Error:
                pass
            else:
                yield from self.tls_interact()
        yield from super().send_close(command)
