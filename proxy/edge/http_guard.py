"""What request heads are accepted: a strict subset of RFC 9112 on which no two readers can differ.

Everything a smuggled or confused request is made of is refused: other forms of the target than origin form, obs-fold,
control characters, repeated or missing Host, framing by anything but one Content-Length or one `chunked`.
"""

from __future__ import annotations

import re

from proxy.message import HeaderList
from proxy.record import record
from proxy.refusal import Refusal

MAX_HEAD = 16 * 1024  # nginx: 4 buffers of 8 KiB, Apache: 8 KiB a line; a push of WeChat has some 600 bytes
MAX_FIELDS = 64
MAX_CONTENT_LENGTH_DIGITS = 10

METHODS = frozenset({b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"})
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]{1,8192}) HTTP/1\.([01])")
# Origin form (RFC 9112 section 3.2.1). No percent escapes in paths: what %2f or %2e means depends on the reader.
_TARGET = re.compile(rb"(/[A-Za-z0-9._~!$&'()*+,;=:@/-]*)(?:\?([A-Za-z0-9._~!$&'()*+,;=:@/?%-]*))?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):([\x20-\x7e\x80-\xff\t]*+)\r\n")
_HOST = re.compile(rb"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


@record
class Head:
    """An accepted request head. `length`: of the body in bytes, None if it is chunked."""

    method: str
    path: str
    query: str
    headers: HeaderList
    host: str
    length: int | None
    keep_alive: bool
    expects_continue: bool


def read_head(raw: bytes) -> Head:
    """The head in `raw`, which ends with the empty line.

    Raises Refusal `http_malformed`, `http_unsupported`, `http_expectation`, `http_head_too_large`.
    """
    line, _, fields = raw[:-2].partition(b"\r\n")
    if fields.count(b"\n") > MAX_FIELDS:
        raise Refusal("http_head_too_large")
    match = _REQUEST_LINE.fullmatch(line)
    if not match:
        raise Refusal("http_malformed")
    method, target, minor = match.groups()
    if method not in METHODS:
        raise Refusal("http_unsupported")
    path, query = _target(target)
    headers = _fields(fields)
    named = _by_name(headers)
    is_11 = minor == b"1"
    if b"upgrade" in named or b"http2-settings" in named:
        raise Refusal("http_unsupported")
    return Head(
        method.decode(),
        path,
        query,
        headers,
        _host(named, is_11),
        _length(named, is_11),
        is_11 and b"close" not in _tokens(named.get(b"connection", []), named.get(b"proxy-connection", [])),
        _expects_continue(named, is_11),
    )


def _target(target: bytes) -> tuple[str, str]:
    match = _TARGET.fullmatch(target)
    if not match:
        raise Refusal("http_malformed")
    path = match[1].decode()
    if "/." in path and any(segment in (".", "..") for segment in path.split("/")):
        raise Refusal("http_malformed")
    if "//" in path:
        raise Refusal("http_malformed")
    return path, (match[2] or b"").decode()


def _fields(block: bytes) -> HeaderList:
    """The fields of `block`, each ended by CRLF. A folded line begins with a blank and matches no name."""
    found = _FIELD.findall(block)
    # Every byte must belong to a field: what no field matched lies between or behind them.
    if sum([len(name) + len(value) + 3 for name, value in found]) != len(block):
        raise Refusal("http_malformed")
    return tuple([(name.lower(), value.strip(b" \t")) for name, value in found])


def _by_name(headers: HeaderList) -> dict[bytes, list[bytes]]:
    named: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        named.setdefault(name, []).append(value)
    return named


def _tokens(*fields: list[bytes]) -> set[bytes]:
    return {token.strip().lower() for values in fields for value in values for token in value.split(b",")}


def _host(named: dict[bytes, list[bytes]], is_11: bool) -> str:
    """HTTP/1.1: exactly one Host; 1.0: none or one (WeChat has been seen to send either)."""
    values = named.get(b"host", [])
    if len(values) > 1 or (is_11 and not values):
        raise Refusal("http_malformed")
    if not values:
        return ""
    match = _HOST.fullmatch(values[0])
    if not match:
        raise Refusal("http_malformed")
    return match[1].decode().lower()


def _length(named: dict[bytes, list[bytes]], is_11: bool) -> int | None:
    """RFC 9112 section 6.3, without its leniencies."""
    codings, lengths = named.get(b"transfer-encoding"), named.get(b"content-length")
    if codings is not None:
        if lengths is not None or not is_11 or len(codings) != 1 or codings[0].lower() != b"chunked":
            raise Refusal("http_malformed")
        return None
    if lengths is None:
        return 0
    if len(lengths) != 1 or not lengths[0].isdigit() or len(lengths[0]) > MAX_CONTENT_LENGTH_DIGITS:
        raise Refusal("http_malformed")
    return int(lengths[0])


def _expects_continue(named: dict[bytes, list[bytes]], is_11: bool) -> bool:
    values = named.get(b"expect")
    if values is None or not is_11:
        return False
    if [value.lower() for value in values] != [b"100-continue"]:
        raise Refusal("http_expectation")
    return True
