"""PROXY protocol version 2 (HAProxy, proxy-protocol.txt section 2.2): the caller's address as a balancer saw it."""

from __future__ import annotations

import ipaddress

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_MAX = 16 + 536  # header and the largest address block with room for TLVs
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}  # TCP over IPv4, TCP over IPv6


class ProxyHeaderError(Exception):
    """The bytes are no acceptable PROXY header."""


def caller_address(text: str) -> str:
    """`text`, as IPv4 if it is IPv4 mapped into IPv6 (RFC 4291 section 2.5.5.2), which is how a listener on [::] and
    some balancers show it: all of those lie in one /64, and would share one caller's limit."""
    mapped = ipaddress.IPv6Address(text).ipv4_mapped if ":" in text else None
    return str(mapped) if mapped else text


def read_proxy_header(buffer: bytes) -> tuple[str | None, int] | None:
    """The source address (None for a health check, command LOCAL) and the header's length; None if more is needed.

    Raises ProxyHeaderError.
    """
    if not _SIGNATURE.startswith(buffer[:12]):
        raise ProxyHeaderError
    if len(buffer) < 16:
        return None
    command, family = buffer[12], buffer[13]
    end = 16 + int.from_bytes(buffer[14:16], "big")
    if end > _MAX or command not in (0x20, 0x21):
        raise ProxyHeaderError
    if len(buffer) < end:
        return None
    if command == 0x20:
        return None, end
    size = _ADDRESS_BYTES.get(family)
    if size is None or end < 16 + 2 * size + 4:
        raise ProxyHeaderError
    return caller_address(str(ipaddress.ip_address(bytes(buffer[16 : 16 + size])))), end
