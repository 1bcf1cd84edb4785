"""Real servers on loopback for tests: sockets in threads, standard library TLS, certificates made at run time."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

PATIENCE = 10.0
"""Seconds after which a server gives up on a peer, so that no failing test hangs."""


class Authority:
    """A CA of the test's own; files go to `directory`."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.ca = trustme.CA()
        self.directory = directory
        self.ca_file = str(directory / f"{name}.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)

    def server(self, *names: str, expired: bool = False, tickets: int = 0) -> ssl.SSLContext:
        """A server context with a certificate for `names`. `tickets`: TLS 1.3 session tickets sent after a handshake;
        they arrive at a time of their own."""
        now = datetime.datetime.now(datetime.UTC)
        end = now - datetime.timedelta(days=1) if expired else None
        begin = now - datetime.timedelta(days=9) if expired else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = tickets
        self.ca.issue_cert(*names, not_before=begin, not_after=end).configure_cert(context)
        return context

    def old_server(self, *names: str) -> ssl.SSLContext:
        """A server that speaks TLS 1.1 at most."""
        context = self.server(*names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    def demanding_server(self, *names: str, version: ssl.TLSVersion) -> ssl.SSLContext:
        """A server of one TLS version that requires a client certificate of this CA."""
        context = self.server(*names)
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = context.maximum_version = version
        self.ca.configure_trust(context)
        return context

    def client_files(self, name: str) -> tuple[str, str]:
        """Certificate and key files of a client."""
        leaf = self.ca.issue_cert(name)
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(key))
        return str(certificate), str(key)


type Serve = Callable[[socket.socket, Server], None]


class Server:
    """A server whose connections are handed to `serve`, each in a thread, after the handshake if there is a context."""

    def __init__(self, context: ssl.SSLContext | None, serve: Serve) -> None:
        self._context = context
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.accepted = 0
        self.handshakes = 0
        self.failures: list[Exception] = []
        self.requests: list[bytes] = []
        self.ended = threading.Semaphore(0)
        """Released once for every connection that is over."""
        self.gate = threading.Event()
        """For `serve` to wait for what the test lets happen."""

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.gate.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._sockets):
            _shut(one)
        for thread in list(self._threads):
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            accepted.settimeout(PATIENCE)
            self._sockets.append(accepted)
            self._start(self._run, accepted)

    def _run(self, raw: socket.socket) -> None:
        peer = raw
        try:
            if self._context is not None:
                peer = self._context.wrap_socket(raw, server_side=True)
                self._sockets.append(peer)
                self.handshakes += 1
            self._serve(peer, self)
        except OSError as error:
            self.failures.append(error)
        finally:
            _shut(peer)
            peer.close()
            raw.close()
            self.ended.release()


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # gone already


def read_request(peer: socket.socket, server: Server) -> bytes:
    """One request, head and counted body; empty at the end of the connection. Remembered in `server.requests`."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = peer.recv(65536)
        if not more:
            return b""
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        body += peer.recv(65536)
    server.requests.append(head + b"\r\n\r\n" + body)
    return server.requests[-1]


def replies(*raw: bytes) -> Serve:
    """Answers the n-th request of a connection with the n-th of `raw`, the last one again and again."""

    def serve(peer: socket.socket, server: Server) -> None:
        count = 0
        while read_request(peer, server):
            peer.sendall(raw[min(count, len(raw) - 1)])
            count += 1

    return serve


def silent(peer: socket.socket, server: Server) -> None:
    """Reads and never answers."""
    while read_request(peer, server):
        pass
