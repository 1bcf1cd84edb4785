"""Connections to Redis that are bounded as a whole: one deadline for all that is asked, a most of bytes for an answer.

The library's own time-out is for each piece of an answer: a server that drips would hold an exchange for ever. It is
for each address of a name, too, and none is for looking the name up. And it holds whatever a server sends before
anybody can look at its length.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any

import redis

from proxy.kms.own_thread import in_own_thread


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


type _Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class _Reached(redis.Connection):
    """A connection whose server is looked up and reached within the bounds."""

    def __init__(self, bounds: Bounds, **settings: Any) -> None:
        self._bounds = bounds
        self._looking: Future[Sequence[_Address]] | None = None
        super().__init__(**settings)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        """A connected socket. Raises OSError."""
        problem = OSError("the name has no address")
        found = self._addresses()
        for place, (family, kind, protocol, _, address) in enumerate(found):
            sock = socket.socket(family, kind, protocol)
            try:
                # Each has a part of the time, so that one that says nothing does not take it from the next.
                sock.settimeout(self._bounds.left() / (len(found) - place))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(self._bounds.left())
            except OSError as error:
                sock.close()
                problem = error
            else:
                return sock
        raise problem

    def _addresses(self) -> Sequence[_Address]:
        """The resolver knows no deadline: who asked it may stop waiting, and waits for the same answer the next time,
        so that one thread is left behind at most."""
        if self._looking is None:
            self._looking = in_own_thread("redis-name", _look_up, self.host, self.port)
        if not wait((self._looking,), self._bounds.left()).done:
            raise TimeoutError("the name is not resolved yet")
        looked, self._looking = self._looking, None
        return looked.result()


def _look_up(host: str, port: int) -> Sequence[_Address]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class BoundedConnection(_Reached):
    """Without TLS."""

    def _connect(self) -> Any:
        return _Socket(super()._connect(), self._bounds)


class BoundedTlsConnection(redis.SSLConnection, _Reached):
    """With TLS; its handshake has the time that is left."""

    def _connect(self) -> Any:
        return _Socket(super()._connect(), self._bounds)  # type: ignore[no-untyped-call]
