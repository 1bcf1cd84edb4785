"""The administrator's page, served by the supervisor on loopback: health, readiness, metrics, reload.

Host and Origin are checked, so that no web page can reach it through a browser (DNS rebinding); what changes something
needs the token. Nothing of any message is known to this process.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import Any, Protocol

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from proxy.observe.measures import Key, Snapshot, render

_MAX_BODY = 4096


class Gateway(Protocol):
    """What the page shows; the supervisor is one."""

    def not_ready(self) -> list[str]: ...

    def warnings(self) -> list[str]: ...

    def measures(self) -> tuple[Snapshot, dict[Key, float]]: ...

    def reload(self, cause: str) -> bool: ...


class _Handler(RequestHandler):
    def initialize(self, gateway: Gateway, token_hash: bytes) -> None:
        self.gateway, self.token_hash = gateway, token_hash

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    def prepare(self) -> None:
        host = self.request.host_name
        if not (host == "localhost" or _is_loopback(host)) or "Origin" in self.request.headers:
            self.refuse(403, "host_refused")

    def refuse(self, status: int, code: str) -> None:
        self.set_status(status)
        self.finish({"error": {"code": code}})

    def write_error(self, status_code: int, **_: Any) -> None:
        self.finish({"error": {"code": "not_found" if status_code == 404 else "failed"}})

    def log_exception(self, *_: Any) -> None:
        """Nothing: a trace may hold values."""


class _Health(_Handler):
    def get(self) -> None:
        self.finish({"status": "alive"})


class _Ready(_Handler):
    def get(self) -> None:
        reasons = self.gateway.not_ready()
        self.set_status(503 if reasons else 200)
        self.finish({"ready": not reasons, "reasons": reasons, "warnings": self.gateway.warnings()})


class _Metrics(_Handler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(render(*self.gateway.measures()))


class _Reload(_Handler):
    def post(self) -> None:
        scheme, _, given = self.request.headers.get("Authorization", "").partition(" ")
        presented = hashlib.sha256(given.encode()).digest()
        if scheme != "Bearer" or not self.token_hash or not hmac.compare_digest(presented, self.token_hash):
            self.refuse(401, "token_required")
            return
        reloaded = self.gateway.reload("admin")
        self.set_status(200 if reloaded else 409)
        self.finish({"reloaded": reloaded, "warnings": self.gateway.warnings()})


class _NotFound(_Handler):
    def prepare(self) -> None:
        self.refuse(404, "not_found")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def serve_admin(gateway: Gateway, token_hash: bytes) -> HTTPServer:
    """A server for the page; the caller gives it its sockets. `token_hash`: empty for no verbs at all."""
    known: dict[str, object] = {"gateway": gateway, "token_hash": token_hash}
    routes: list[Any] = [
        ("/healthz", _Health, known),
        ("/readyz", _Ready, known),
        ("/metrics", _Metrics, known),
        ("/reload", _Reload, known),
    ]
    application = Application(
        routes, default_handler_class=_NotFound, default_handler_args=known, log_function=lambda _handler: None
    )
    return HTTPServer(application, max_body_size=_MAX_BODY, max_header_size=16384, idle_connection_timeout=30)
