"""A cleared request as the bytes of HTTP/1.1 (RFC 9112). Pure; refuses whatever could become a second request."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from proxy.cleared import ClearedRequest
from proxy.message import HeaderList
from proxy.refusal import Refusal

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""One character of a token, RFC 9110 section 5.6.2."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})
_NAMES = re.compile(TOKEN + rb"*+")
_VALUES = re.compile(rb"[\t\x20-\x7e\x80-\xff]*+")
_TARGET = re.compile(r"/[!-~]*+")
# This side's own: they say where the message ends, where it goes and who keeps the connection.
_OWN = frozenset(
    b"host authorization content-length transfer-encoding connection keep-alive proxy-connection upgrade te trailer "
    b"expect accept-encoding".split()
)


def encode(request: ClearedRequest, own_fields: bytes) -> bytes:
    """The whole request in one piece, for one write. `own_fields`: of UpstreamSettings.

    Refusal `not_cleared`: it is not fit for the wire.
    """
    if request.method not in _METHODS or not _TARGET.fullmatch(request.target):
        raise Refusal("not_cleared")
    _require_fit(request.headers)
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), request.target.encode("ascii")), own_fields]
    lines += [b"%b: %b\r\n" % field for field in request.headers]
    if request.body or request.method in _WITH_CONTENT:
        lines.append(b"content-length: %d\r\n" % len(request.body))
    lines += (b"\r\n", request.body)
    return b"".join(lines)


def _require_fit(headers: HeaderList) -> None:
    """Both grammars are about single characters, so that all names, and all values, can be matched in one piece."""
    values = b"".join([value for _, value in headers])
    if not _are_fit(tuple([name for name, _ in headers])) or not _VALUES.fullmatch(values):
        raise Refusal("not_cleared")


@lru_cache(256)
def _are_fit(names: tuple[bytes, ...]) -> bool:
    """Whether `names` may stand in one request. Policies choose them, a caller which of them and their order."""
    if not _NAMES.fullmatch(b"".join(names)) or not all(names):
        return False
    return _OWN.isdisjoint([name.lower() for name in names])
