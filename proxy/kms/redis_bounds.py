"""Connections to Redis that are bounded as a whole: one deadline for all that is asked, a most of bytes for an answer.

The library's own time-out is for each piece of an answer: a server that drips would hold an exchange for ever. And it
holds whatever a server sends before anybody can look at its length.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import redis


class TooLargeError(Exception):
    """An answer has more bytes than it may have."""


class Bounds:
    """What one client may still spend. Used by one thread at a time."""

    def __init__(self, seconds: float, size: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`seconds`: for all that is asked from `begin` on. `size`: bytes of one answer."""
        self._seconds, self._size, self._monotonic = seconds, size, monotonic
        self._until = 0.0
        self.received = 0

    def begin(self) -> None:
        """A new deadline."""
        self._until = self._monotonic() + self._seconds

    def expect(self) -> None:
        """A new answer."""
        self.received = 0

    def left(self, asked: float | None = None) -> float:
        """Seconds for the next step: what is left, or `asked` if that is less. Raises TimeoutError if nothing is."""
        left = self._until - self._monotonic()
        if left <= 0:
            raise TimeoutError("the deadline of the exchange is over")
        return left if asked is None else min(left, asked)

    def take(self, amount: int) -> None:
        """That so many bytes came. Raises TooLargeError."""
        self.received += amount
        if self.received > self._size:
            raise TooLargeError


class _Socket:
    """A connected socket under bounds; what the library uses of it."""

    def __init__(self, sock: socket.socket, bounds: Bounds) -> None:
        self._sock, self._bounds = sock, bounds
        self._asked: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        self._asked = seconds

    def recv(self, size: int) -> bytes:
        self._sock.settimeout(self._bounds.left(self._asked))
        data = self._sock.recv(size)
        self._bounds.take(len(data))
        return data

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._bounds.left(self._asked))
        self._sock.sendall(data)


class BoundedConnection(redis.Connection):
    """Without TLS."""

    def __init__(self, bounds: Bounds, **settings: Any) -> None:
        self._bounds = bounds
        super().__init__(**settings)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        return _bounded(self, super()._connect, self._bounds)


class BoundedTlsConnection(redis.SSLConnection):
    """With TLS; its handshake has the time that is left."""

    def __init__(self, bounds: Bounds, **settings: Any) -> None:
        self._bounds = bounds
        super().__init__(**settings)

    def _connect(self) -> Any:
        return _bounded(self, super()._connect, self._bounds)


def _bounded(connection: redis.Connection, connect: Callable[[], socket.socket], bounds: Bounds) -> _Socket:
    connection.socket_connect_timeout = connection.socket_timeout = bounds.left()
    try:
        return _Socket(connect(), bounds)
    finally:
        connection.socket_timeout = None  # from here on the bounds say it
