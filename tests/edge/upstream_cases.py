"""Raw responses: what is taken, with what is read out of it, and what is refused, with the reason as the name."""

from __future__ import annotations

from proxy.edge.upstream_response import MAX_FIELDS, MAX_HEAD_BYTES, MAX_INTERIM, MAX_OVERHEAD
from tests.edge.upstream_support import CHUNKED, OK

MAX_BODY = 1000

_HEAD = b"HTTP/1.1 200 OK\r\n"
_END = b"Content-Length: 2\r\n\r\nok"

TAKEN: dict[str, tuple[bytes, int, bytes, bool]] = {
    # raw, status, body, the connection may be kept
    "counted": (OK, 200, b"ok", True),
    "empty": (_HEAD + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "the largest body": (_HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000, 200, b"x" * 1000, True),
    "chunked": (CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, b"ok", True),
    "chunked, empty": (CHUNKED + b"0\r\n\r\n", 200, b"", True),
    "chunked, padded sizes and an extension": (CHUNKED + b"0002;a=b\r\nok\r\n0000\r\n\r\n", 200, b"ok", True),
    "chunked, body ends in line ends": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", 200, b"\r\n\r\n", True),
    "chunked in capitals": (_HEAD + b"TRANSFER-ENCODING: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok", True),
    "interim responses": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
        200,
        b"ok",
        True,
    ),
    "as many interim responses as allowed": (b"HTTP/1.1 102 P\r\n\r\n" * MAX_INTERIM + OK, 200, b"ok", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304 with the length of what it is not sending": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        304,
        b"",
        True,
    ),
    "close": (_HEAD + b"Connection: close\r\n" + _END, 200, b"ok", False),
    "close among others": (_HEAD + b"Connection: x\r\nConnection: Keep-Alive , CLOSE\r\n" + _END, 200, b"ok", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n" + _END, 200, b"ok", False),
    "identity": (_HEAD + b"Content-Encoding: identity\r\n" + _END, 200, b"ok", True),
    "an offer to upgrade": (_HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + _END, 200, b"ok", True),
    "no reason phrase": (b"HTTP/1.1 500 \r\n" + _END, 500, b"ok", True),
    "as many fields as allowed": (_HEAD + b"A: b\r\n" * (MAX_FIELDS - 1) + _END, 200, b"ok", True),
    "a byte too many": (OK + b"x", 200, b"ok", False),
    "a line end too many": (OK + b"\r\n", 200, b"ok", False),
    "two responses": (OK + OK, 200, b"ok", False),
    "two chunked responses": (2 * (CHUNKED + b"2\r\nok\r\n0\r\n\r\n"), 200, b"ok", False),
    "chunked, then a line end": (CHUNKED + b"2\r\nok\r\n0\r\n\r\n\r\n", 200, b"ok", False),
    "chunked, then half a line end": (CHUNKED + b"2\r\nok\r\n0\r\n\r\n\r", 200, b"ok", False),
    "chunked, then half a head": (CHUNKED + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK", 200, b"ok", False),
    "chunked, then garbage": (CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + b"\0" * 200_000, 200, b"ok", False),
    "204, then a body": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", 204, b"", False),
}

REFUSED: dict[str, bytes] = {
    "101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "one interim response too many": b"HTTP/1.1 102 P\r\n\r\n" * (MAX_INTERIM + 1) + OK,
    "body ended by close": _HEAD + b"\r\nok",
    "body ended by close, HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "trailer": CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n\r\n",
    "two trailers": CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\nZ: y\r\n\r\n",
    "endless trailer": CHUNKED + b"0\r\n" + b"x" * (MAX_OVERHEAD + 1),
    "endless extension": CHUNKED + b"2;" + b"x" * (MAX_OVERHEAD + 1),
    "bad chunk size": CHUNKED + b"g\r\n",
    "signed chunk size": CHUNKED + b"+2\r\nok\r\n0\r\n\r\n",
    "chunk size beyond 64 bits": CHUNKED + b"f" * 17 + b"\r\n",
    "chunk longer than its size": CHUNKED + b"2\r\noky\r\n0\r\n\r\n",
    "bare LF after a chunk size": CHUNKED + b"2\nok\r\n0\r\n\r\n",
    "body too large": _HEAD + b"Content-Length: 1001\r\n\r\n",
    "chunks too large": CHUNKED + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n",
    "head too large": _HEAD + b"A: " + b"b" * MAX_HEAD_BYTES + b"\r\n" + _END,
    "head without end": _HEAD + b"A: " + b"b" * MAX_HEAD_BYTES,
    "one field too many": _HEAD + b"A: b\r\n" * MAX_FIELDS + _END,
    "gzip": _HEAD + b"Content-Encoding: gzip\r\n" + _END,
    "identity and gzip": _HEAD + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n" + _END,
    "empty content-encoding": _HEAD + b"Content-Encoding:\r\n" + _END,
    "obs-fold": _HEAD + b"A: b\r\n c\r\n" + _END,
    "obs-fold with tab": _HEAD + b"A: b\r\n\tc\r\n" + _END,
    "CR in a value": _HEAD + b"A: b\rc\r\n" + _END,
    "NUL in a value": _HEAD + b"A: b\0c\r\n" + _END,
    "DEL in a value": _HEAD + b"A: b\x7fc\r\n" + _END,
    "LF in a value": _HEAD + b"A: b\nB: c\r\n" + _END,
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "space before the colon": _HEAD + b"Content-Length : 2\r\n\r\nok",
    "space before a name": _HEAD + b" A: b\r\n" + _END,
    "no colon": _HEAD + b"A\r\n" + _END,
    "no name": _HEAD + b": b\r\n" + _END,
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\n" + _END,
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n" + _END,
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n" + _END,
    "HTTP/0.9": b"<html>",
    "ICY": b"ICY 200 OK\r\n" + _END,
    "status 099": b"HTTP/1.1 099 OK\r\n" + _END,
    "status 600": b"HTTP/1.1 600 OK\r\n" + _END,
    "status of two digits": b"HTTP/1.1 20 OK\r\n" + _END,
    "line ends first": b"\r\n" + OK,
    "content-length twice, different": _HEAD + b"Content-Length: 1\r\n" + _END,
    "content-length twice, the same": _HEAD + b"Content-Length: 2\r\n" + _END,
    "content-length, a list": _HEAD + b"Content-Length: 2, 2\r\n\r\nok",
    "content-length, negative": _HEAD + b"Content-Length: -2\r\n\r\nok",
    "content-length, signed": _HEAD + b"Content-Length: +2\r\n\r\nok",
    "content-length, hexadecimal": _HEAD + b"Content-Length: 0x2\r\n\r\nok",
    "content-length, empty": _HEAD + b"Content-Length:\r\n\r\nok",
    "content-length, endless": _HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nok",
    "both framings": _HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "both framings, the other order": (
        _HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "gzip, chunked": _HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunked twice": _HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding identity": _HEAD + b"Transfer-Encoding: identity\r\n" + _END,
    "chunked on HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunked 204": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}
