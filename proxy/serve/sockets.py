"""Listening sockets and what a forked worker may hold of its parent's descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path

from proxy.edge.listener_settings import ListenerSettings

_BACKLOG = 1024


class ListenError(Exception):
    """An address cannot be had; one sentence that says which and why."""


def bind_listeners(listeners: Iterable[ListenerSettings], workers: int) -> list[dict[str, socket.socket]]:
    """For each worker its listening sockets by listener name. Raises ListenError."""
    wanted = list(listeners)
    for item in wanted:
        # SO_REUSEPORT would let a second wxgate of the same user in, and the kernel deal callers out to both.
        listen(item.host, item.port).close()
    return [{item.name: listen(item.host, item.port, shared=True) for item in wanted} for _ in range(workers)]


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; `shared`: others of this process may listen there too. Raises ListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {host}:{port} ({(error.strerror or 'error').lower()})") from None
    return sock


def open_descriptors() -> set[int]:
    """Every descriptor this process has open."""
    listed = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    return {fd for fd in listed if _is_open(fd)}  # the directory itself was open while it was read


def close_all_but(keep: set[int]) -> None:
    """In a forked worker: whatever it was not given on purpose stays with its parent alone."""
    for fd in open_descriptors() - keep:
        os.close(fd)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
