"""HTTP/1.1 as a mitmproxy layer of our own. It cannot forward: it hands complete requests to whoever answers
`Exchange` and writes the answer, which is a ClearedReply or a Refusal from the static table and nothing else.

Two readers look at every request, our strict guard and llhttp (httptools); where they differ, it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httptools
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context

from proxy.cleared import ClearedReply, require_cleared_reply
from proxy.edge.http_body import Body
from proxy.edge.http_guard import MAX_HEAD, Head, read_head
from proxy.gateway import Refused
from proxy.message import Request
from proxy.refusal import Audience, Refusal, answer, plain

_REASONS = {200: b"OK", 201: b"Created", 204: b"No Content", 400: b"Bad Request", 401: b"Unauthorized"}
_REASONS |= {403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout"}
_REASONS |= {413: b"Content Too Large", 415: b"Unsupported Media Type", 417: b"Expectation Failed"}
_REASONS |= {422: b"Unprocessable Content", 431: b"Request Header Fields Too Large", 500: b"Internal Server Error"}
_REASONS |= {501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout"}

_ALWAYS = (
    b"cache-control: no-store\r\nx-content-type-options: nosniff\r\nstrict-transport-security: max-age=31536000\r\n"
)


class Exchange(commands.Command):
    """A complete request. The connection answers it by setting `answer` before it completes the command."""

    blocking = True

    def __init__(self, request: Request) -> None:
        self.request = request
        self.answer: ClearedReply | Refused | None = None


@dataclass(repr=False)
class ExchangeCompleted(events.CommandCompleted):  # type: ignore[no-untyped-call]
    """`command.answer` is set."""

    command: Exchange
    reply: None = None


@dataclass
class DeadlinePassed(events.Event):
    """The connection's clock: what is under way took too long."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the layer asks of the connection it serves.

    `body_limit`: bytes the route of a head takes, or a Refusal; `phase`: told what is waited for, for the deadlines;
    `draining`: whether to close after the next answer; `refused`: told of refusals made here.
    """

    body_limit: Callable[[Head], int]
    phase: Callable[[str], None]
    draining: Callable[[], bool]
    refused: Callable[[Refusal], None]


class _Second:
    """What llhttp understands of one request."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Ready for the next request of the connection; nothing of the last one stays in memory."""
        self.target = b""
        self.fields = 0
        self.body = bytearray()
        self.completed = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, _name: bytes, _value: bytes) -> None:
        self.fields += 1

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.completed += 1


class HttpLayer(layer.Layer):
    """One per connection."""

    def __init__(self, context: Context, desk: Desk) -> None:
        super().__init__(context)
        self._desk = desk
        self._buffer = bytearray()
        self._raw_head = b""
        self._head: Head | None = None
        self._body: Body | None = None
        self._done = False
        self._second = _Second()
        self._second_reader = httptools.HttpRequestParser(self._second)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self._done or isinstance(event, events.Start):
            return
        if isinstance(event, events.DataReceived):
            self._buffer += event.data
            try:
                yield from self._advance()
            except Refusal as raised:
                refusal = plain(raised)
                self._desk.refused(refusal)
                yield from self._refuse(Refused(refusal, Audience.HTTP))
        elif isinstance(event, DeadlinePassed):
            yield from self._late()
        elif isinstance(event, events.ConnectionClosed):
            self._done = True
            yield commands.CloseConnection(self.context.client)

    def _late(self) -> layer.CommandGenerator[None]:
        if self._head is None and not self._buffer:
            self._done = True
            yield commands.CloseConnection(self.context.client)  # idle between two requests: no answer is due
            return
        refusal = Refusal("http_timeout")
        self._desk.refused(refusal)
        yield from self._refuse(Refused(refusal, Audience.HTTP))

    def _advance(self) -> layer.CommandGenerator[None]:
        """Everything the buffer has to offer; stops at an answer that closes."""
        while not self._done:
            if self._head is None:
                if not self._buffer:
                    return
                head = self._take_head()
                if head is None:
                    self._desk.phase("head")
                    return
                if head.expects_continue and not self._buffer:
                    yield commands.SendData(self.context.client, b"HTTP/1.1 100 Continue\r\n\r\n")
            body = self._take_body()
            if body is None:
                self._desk.phase("body")
                return
            yield from self._exchange(body)

    def _take_head(self) -> Head | None:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise Refusal("http_head_too_large")
            return None
        self._raw_head = bytes(self._buffer[: end + 4])
        del self._buffer[: end + 4]
        head = read_head(self._raw_head)
        self._body = Body(head.length, self._desk.body_limit(head))
        self._head = head
        return head

    def _take_body(self) -> bytes | None:
        if self._body is None:
            raise Refusal("internal")
        return self._body.feed(self._buffer)

    def _agree(self, head: Head, framed: bytearray, body: bytes) -> None:
        """The second reader must understand the very same request."""
        second, feed = self._second, self._second_reader.feed_data
        try:
            feed(self._raw_head)
            if framed:
                feed(framed)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise Refusal("http_malformed") from None
        target = f"{head.path}?{head.query}" if head.query else head.path
        same = second.completed == 1 and second.fields == len(head.headers) and second.body == body
        if not same or second.target.decode("latin-1") not in (target, target + "?"):
            raise Refusal("http_malformed")
        second.forget()

    def _exchange(self, body: bytes) -> layer.CommandGenerator[None]:
        head = self._head
        if head is None or self._body is None:
            raise Refusal("internal")
        self._agree(head, self._body.framed, body)
        self._desk.phase("exchange")
        exchange = Exchange(Request(head.method, head.path, head.query, head.headers, body, head.host))
        yield exchange
        self._head, self._body, self._raw_head = None, None, b""
        if exchange.answer is None:
            raise Refusal("not_cleared")
        keep_alive = head.keep_alive and not self._desk.draining() and not _is_unproved(exchange.answer)
        yield from self._answer(exchange.answer, keep_alive)

    def _refuse(self, refused: Refused) -> layer.CommandGenerator[None]:
        yield from self._answer(refused, keep_alive=False)

    def _answer(self, reply: ClearedReply | Refused, keep_alive: bool) -> layer.CommandGenerator[None]:
        """The door back: the only place that writes to a caller."""
        if isinstance(reply, Refused):
            out = answer(reply.refusal, reply.audience)
            status, content_type, body = out.status, out.content_type, out.body
        else:
            cleared = require_cleared_reply(reply)
            status, content_type, body = cleared.status, cleared.content_type, cleared.body
        head = b"HTTP/1.1 %d %s\r\n%s" % (status, _REASONS.get(status, b"Status"), _ALWAYS)
        if status != 204:  # RFC 9110 section 15.3.5: no content, no length
            head += b"content-type: %s\r\ncontent-length: %d\r\n" % (content_type, len(body))
        close = b"" if keep_alive else b"connection: close\r\n"
        yield commands.SendData(self.context.client, head + close + b"\r\n" + (body if status != 204 else b""))
        if keep_alive:
            self._desk.phase("head" if self._buffer else "idle")
        else:
            self._done = True
            yield commands.CloseConnection(self.context.client)


def _is_unproved(reply: ClearedReply | Refused) -> bool:
    """Whether the caller did not prove who it is. It pays a handshake for its next try: each leaves an audit record."""
    return isinstance(reply, Refused) and reply.refusal.row.stage in ("admit", "verify")
