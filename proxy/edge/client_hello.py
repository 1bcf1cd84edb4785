"""Bounds the first flight of a TLS client before the engine sees it.

A ClientHello may be spread over many tiny records and claim up to 16 MB; whoever parses it again on every read spends
seconds of CPU on kilobytes. Here its bytes are only counted, record header by record header, until it is complete.
"""

from __future__ import annotations

MAX_BYTES = 16 * 1024  # post-quantum key shares take some 1.7 KiB
MAX_RECORDS = 8
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_MAX_RECORD = 16384


class NotAClientHelloError(Exception):
    """The first bytes are no TLS ClientHello within bounds: plain HTTP, another protocol, a flood."""


class ClientHelloGate:
    """Collects bytes until the ClientHello is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._next_record = 0
        self._records = 0
        self._message = 0  # bytes of the handshake message seen in complete records
        self._need = 4

    def feed(self, data: bytes) -> bytes | None:
        """All bytes so far once the ClientHello is complete, None before. Raises NotAClientHelloError."""
        self._buffer += data
        buffer = self._buffer
        while len(buffer) >= self._next_record + 5:
            start = self._next_record
            size = int.from_bytes(buffer[start + 3 : start + 5], "big")
            if buffer[start] != _HANDSHAKE or buffer[start + 1] != 3 or not 0 < size <= _MAX_RECORD:
                raise NotAClientHelloError
            if len(buffer) < start + 5 + size:
                break
            self._take_record(start + 5, size)
            if self._message >= self._need:
                return bytes(buffer)
        if len(buffer) > MAX_BYTES or (buffer and buffer[0] != _HANDSHAKE):
            raise NotAClientHelloError
        return None

    def _take_record(self, start: int, size: int) -> None:
        self._records += 1
        if self._records > MAX_RECORDS:
            raise NotAClientHelloError
        if self._message == 0:
            first = self._buffer[start : start + min(size, 4)]
            if first[0] != _CLIENT_HELLO or len(first) < 4:
                raise NotAClientHelloError  # no real client splits its first four bytes
            self._need = 4 + int.from_bytes(first[1:4], "big")
            if self._need > MAX_BYTES:
                raise NotAClientHelloError
        self._message += size
        self._next_record = start + size
