"""A small HTTPS server for emulated systems: one handler, bodies in memory, TLS by the standard library."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Call:
    """What was received: `headers` with lower-case names."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Result:
    body: bytes
    status: int = 200
    content_type: str = "application/json"


Handler = Callable[[Call], Result]


def json_result(value: object, status: int = 200) -> Result:
    return Result(json.dumps(value, ensure_ascii=False).encode(), status)


def serve_https(handler: Handler, certificate: Path, key: Path, port: int = 0) -> ThreadingHTTPServer:
    """A bound server (`server_port` tells where); the caller runs `serve_forever`."""

    class Request(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is logged."""

        def work(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            result = handler(Call(self.command, path, query, headers, body))
            self.send_response(result.status)
            self.send_header("Content-Type", result.content_type)
            self.send_header("Content-Length", str(len(result.body)))
            self.end_headers()
            self.wfile.write(result.body)

        do_GET = do_POST = do_PATCH = work

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def get_request(self) -> tuple[ssl.SSLSocket, object]:
            sock, address = self.socket.accept()
            # The handshake is the handler thread's work: a silent client must not hold the others up.
            return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, request: object, client_address: object) -> None:
            """A caller that went away is no news."""

    return Server(("127.0.0.1", port), Request)


def run_forever(handler: Handler, certificate: str, key: str) -> None:
    """Body of an emulator process: serves and tells its port as the first line of standard output."""
    server = serve_https(handler, Path(certificate), Path(key))
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
