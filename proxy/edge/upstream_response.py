"""Reads one HTTP/1.1 response (RFC 9112) strictly and within bounds, out of bytes. No socket, no clock.

The head must match one strict grammar; of its fields only those that say how to read on are looked at. Framing must be
unambiguous, and what follows the response is seen. httptools (llhttp) undoes chunks; what it lets pass is settled
around it.
"""

from __future__ import annotations

import re
from typing import Any, Final

import httptools

from proxy.edge.upstream_request import TOKEN
from proxy.message import Response

MAX_HEAD_BYTES: Final = 32 * 1024
MAX_FIELDS: Final = 100
MAX_INTERIM: Final = 8
"""How many 1xx responses may precede the final one."""
MAX_OVERHEAD: Final = 64 * 1024
"""Chunk framing may cost as much as the content and this much more; llhttp bounds neither extensions nor trailers."""

HEAD: Final = re.compile(
    rb"HTTP/1\.[01] [1-5][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n"
    rb"(?:" + TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n"
)
"""A whole response head: no obs-fold, no CR, NUL or other control in a value, no space before a colon."""
_FRAMING: Final = re.compile(
    rb"\r\n(content-encoding|connection|content-length|transfer-encoding):([^\r]*+)", re.IGNORECASE
)
"""The fields that say how to read on; nothing asks for the others. In what matched HEAD every line is a field."""
_START = b"HTTP/1."
_IMPOSSIBLE = re.compile(rb"\r[^\n]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[^\r]\n")
_DIGITS = re.compile(rb"[0-9]{1,15}")


class ResponseError(Exception):
    """Not a response that can be used. Carries nothing: what a peer sent stays out of errors."""


class ResponseReader:
    """Reads the response to one request. Feed until True, then take `response()`.

    `method`: the request's; `max_body`: bytes.
    """

    __slots__ = (
        "_body", "_chunked", "_complete", "_head", "_interim", "_length", "_max_body", "_method", "_parser",
        "_pending", "_size", "_status", "_tail", "_wire", "excess", "keep_alive",
    )  # fmt: skip

    def __init__(self, method: str, max_body: int) -> None:
        self._method = method
        self._max_body = max_body
        self._parser: Any = None  # there is one for chunks only
        self._pending = b""
        self._interim = 0
        self._head = False
        self._status = 0
        self._body: list[bytes] = []
        self._size = 0
        self._length = 0
        self._chunked = False
        self._wire = 0
        self._tail = b""
        self._complete = False
        self.excess = False
        """Bytes came after the response."""
        self.keep_alive = False
        """The peer means to keep the connection."""

    def feed(self, data: bytes) -> bool:
        """Takes bytes from the wire; True when the response is complete. Raises ResponseError; then it is over."""
        if not self._head:
            rest = self._feed_head(data)
            if rest is None:
                return False
            data = rest
        if self._chunked:
            self._feed_chunks(data)
        else:
            self._feed_counted(data)
        return self._complete

    def response(self) -> Response:
        """The response. Call once `feed` returned True."""
        self._parser = None  # it holds this object's methods: a cycle would keep every body until the collector runs
        return Response(self._status, b"".join(self._body))

    # head

    def _feed_head(self, data: bytes) -> bytes | None:
        """What follows the final head; None while it is not all there. Interim responses are passed over."""
        start = max(0, len(self._pending) - 3)
        self._pending += data
        while (end := self._pending.find(b"\r\n\r\n", start) + 4) > 3:
            if end > MAX_HEAD_BYTES:
                raise ResponseError
            head, self._pending, start = self._pending[:end], self._pending[end:], 0
            if self._is_final(head):
                self._read_head(head)
                return self._pending
        self._check_unfinished(start)
        return None

    def _check_unfinished(self, start: int) -> None:
        """Refuses now what could only run into the deadline: too much, another protocol, bare line ends."""
        pending = self._pending
        if len(pending) >= MAX_HEAD_BYTES or not pending.startswith(_START[: len(pending)]):
            raise ResponseError
        if _IMPOSSIBLE.search(pending, start):
            raise ResponseError

    def _is_final(self, head: bytes) -> bool:
        if head.count(b"\r\n") - 2 > MAX_FIELDS or not HEAD.fullmatch(head):
            raise ResponseError
        self._status = int(head[9:12])
        if self._status >= 200:
            return True
        self._interim += 1
        if self._status == 101 or self._interim > MAX_INTERIM:
            raise ResponseError
        return False

    def _read_head(self, head: bytes) -> None:
        framing: dict[bytes, list[bytes]] = {}
        for name, value in _FRAMING.findall(head):
            framing.setdefault(name.lower(), []).append(value.strip(b" \t"))
        if {value.lower() for value in framing.get(b"content-encoding", ())} - {b"identity"}:
            raise ResponseError
        http_1_1 = head[7:8] == b"1"
        options = b",".join(framing.get(b"connection", ())).lower().split(b",")
        self.keep_alive = http_1_1 and b"close" not in [option.strip(b" \t") for option in options]
        self._frame(framing.get(b"content-length", []), framing.get(b"transfer-encoding", []), http_1_1)
        if self._chunked:
            self._parser = httptools.HttpResponseParser(self)
            self._parse(head)
        self._head = True

    def _frame(self, lengths: list[bytes], codings: list[bytes], http_1_1: bool) -> None:
        """Where the body ends, RFC 9112 section 6.3; a body that ends with the connection is refused. `lengths` and
        `codings`: of the head."""
        empty = self._method == "HEAD" or self._status in (204, 304)
        if codings:
            self._chunked = http_1_1 and not lengths and not empty and [c.lower() for c in codings] == [b"chunked"]
            if not self._chunked:
                raise ResponseError
        elif lengths:
            if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
                raise ResponseError
            self._length = 0 if empty else int(lengths[0])
        elif not empty:
            raise ResponseError
        if self._length > self._max_body:
            raise ResponseError

    # body

    def _feed_counted(self, data: bytes) -> None:
        missing = self._length - self._size
        self.excess = len(data) > missing
        self._take(data[:missing])
        self._complete = self._size == self._length

    def _feed_chunks(self, data: bytes) -> None:
        self._wire += len(data)
        self._tail = (self._tail + data[-5:])[-5:]
        self._parse(data)
        if not self._complete and self._wire > 2 * self._size + MAX_OVERHEAD:
            raise ResponseError
        # llhttp passes over line ends before a next message without a word; the response itself ends in the five bytes
        # digit CR LF CR LF.
        self.excess = self.excess or (self._complete and self._tail[:1] in b"\r\n")

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._max_body:
            raise ResponseError
        self._body.append(data)

    # httptools

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                raise ResponseError from None
            self.excess = True

    def on_message_begin(self) -> None:
        if self._complete:
            raise ResponseError

    def on_header(self, _name: bytes, _value: bytes) -> None:
        if self._head:
            raise ResponseError  # a trailer

    def on_body(self, data: bytes) -> None:
        self._take(data)

    def on_message_complete(self) -> None:
        self._complete = True
