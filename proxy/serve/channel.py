"""The line between supervisor and worker: JSON lines over a socket pair. Metadata only; no secret ever crosses it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, cast

Message = dict[str, Any]
_MAX_LINE = 4 * 1024 * 1024


class Channel(asyncio.Protocol):
    """One end. `received` gets each message, `lost` is called once when the other end is gone."""

    def __init__(self, received: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self._received, self._lost = received, lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, sock: socket.socket, received: Callable[[Message], None], lost: Callable[[], None]) -> Channel:
        _, channel = await asyncio.get_running_loop().create_unix_connection(lambda: cls(received, lost), sock=sock)
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no such class

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._received(json.loads(line))
        if len(self._buffer) > _MAX_LINE:
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost()

    def send(self, message: Message) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        if self._transport:
            self._transport.close()
