"""Reads request bodies off a buffer: by Content-Length or in chunks (RFC 9112 section 7.1), bounded, no trailers."""

from __future__ import annotations

import re

from proxy.refusal import Refusal

# No chunk extensions: nobody needs them and readers differ on them.
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_MAX_CHUNK_LINE = 10
# A sender of one-byte chunks makes us work five times for each byte.
_MAX_SMALL_CHUNKS = 1024
_SMALL = 64


class Body:
    """One body under way. `feed` takes from the front of the buffer what belongs to it; `framed` is what it took so
    far, chunk framing included."""

    def __init__(self, length: int | None, most: int) -> None:
        """`length`: in bytes, None for chunked; `most`: how many bytes are accepted. Refusal `http_body_too_large`."""
        if length is not None and length > most:
            raise Refusal("http_body_too_large")
        self._most = most
        self._missing = length
        self.framed = bytearray()
        self._pieces: list[bytes] = []
        self._size = 0
        self._small = 0

    def feed(self, buffer: bytearray) -> bytes | None:
        """The whole body when it is complete, None before. Refusal `http_malformed`, `http_body_too_large`."""
        return self._counted(buffer) if self._missing is not None else self._chunked(buffer)

    def _counted(self, buffer: bytearray) -> bytes | None:
        need = self._missing or 0
        if len(buffer) < need:
            return None
        self.framed = buffer[:need]
        del buffer[:need]
        return bytes(self.framed)

    def _chunked(self, buffer: bytearray) -> bytes | None:
        while True:
            match = _CHUNK.match(buffer)
            if not match:
                if len(buffer) >= _MAX_CHUNK_LINE or not _may_become_chunk(buffer):
                    raise Refusal("http_malformed")
                return None
            size, start = int(match[1], 16), match.end()
            self._check(size)
            if len(buffer) < start + size + 2:
                return None
            if buffer[start + size : start + size + 2] != b"\r\n":
                raise Refusal("http_malformed")  # behind the last chunk this is a trailer
            self._pieces.append(bytes(buffer[start : start + size]))
            self._size += size
            self.framed += buffer[: start + size + 2]
            del buffer[: start + size + 2]
            if size == 0:
                return b"".join(self._pieces)

    def _check(self, size: int) -> None:
        if self._size + size > self._most:
            raise Refusal("http_body_too_large")
        self._small += size < _SMALL
        if self._small > _MAX_SMALL_CHUNKS:
            raise Refusal("http_malformed")


def _may_become_chunk(buffer: bytearray) -> bool:
    return re.fullmatch(rb"[0-9A-Fa-f]{0,8}\r?", buffer) is not None
