"""A listening socket with its limits, its certificates and its connections."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter

from cryptography import x509
from mitmproxy import connection as engine

from proxy.caller import admit
from proxy.cohorts import Cohorts
from proxy.edge.connection import EdgeConnection
from proxy.edge.http_guard import Head
from proxy.edge.listener_settings import ListenerSettings
from proxy.edge.tls import ContextSet
from proxy.gateway import Gateway
from proxy.message import Peer, Request
from proxy.ports import Log, Measures
from proxy.refusal import Refusal
from proxy.route import RouteKind

_SWEEP = 0.25  # seconds between looks at the clocks
_PATIENCE = 0.5  # seconds a drain leaves to connections between two requests


class Listener:
    """Serves one socket in one worker."""

    def __init__(
        self,
        settings: ListenerSettings,
        contexts: ContextSet,
        gateway: Gateway,
        measures: Measures,
        log: Log,
        cohorts: Cohorts | None = None,
    ) -> None:
        """`cohorts`: those of the event loop, which the gateway shares."""
        self.settings = settings
        self.contexts = contexts
        self.gateway = gateway
        self.cohorts = cohorts or Cohorts()
        self.draining = False
        self._measures, self._log = measures, log
        self._connections: set[EdgeConnection] = set()
        self._per_address: Counter[str] = Counter()
        self._sweep: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Serves `sock`, which is bound and listening."""
        self.loop = asyncio.get_running_loop()
        self._server = await self.loop.create_server(lambda: EdgeConnection(self), sock=sock)
        self._sweep = self.loop.call_later(_SWEEP, self._look_at_clocks)

    async def drain(self, deadline: float) -> None:
        """Accepts no more, closes what is idle, waits for the rest until `deadline` (loop time), cuts what is left."""
        self.draining = True
        if self._server:
            self._server.close()
        # What looks idle may have a request under way: it gets its answer, with `connection: close`.
        patient = min(self.loop.time() + _PATIENCE, deadline)
        while self._connections and self.loop.time() < deadline:
            if self.loop.time() >= patient:
                for connection in [item for item in self._connections if item.idle]:
                    connection.close_idle()
            await asyncio.sleep(0.02)
        for connection in list(self._connections):
            connection._abort("drain")
        if self._sweep:
            self._sweep.cancel()

    def _look_at_clocks(self) -> None:
        # First: whatever fails below, the clocks are looked at again.
        self._sweep = self.loop.call_later(_SWEEP, self._look_at_clocks)
        now = self.loop.time()
        for connection in [item for item in self._connections if item.expires < now]:
            connection.late()

    # --- told by connections

    def opened(self, connection: EdgeConnection) -> None:
        self._connections.add(connection)

    def is_full(self, connection: EdgeConnection) -> bool:
        """Whether `connection` is one too many, here or for its address; counts it for its address if not."""
        if len(self._connections) > self.settings.limits.connections:
            return True
        if self.settings.proxy_protocol and not connection._early:
            return False  # its address is not known yet
        network = _network(connection.address)
        if self._per_address[network] >= self.settings.limits.per_address:
            return True
        self._per_address[network] += 1
        connection.counted = True
        return False

    def closed(self, connection: EdgeConnection) -> None:
        self._connections.discard(connection)
        if connection.counted:
            network = _network(connection.address)
            self._per_address[network] -= 1
            if not self._per_address[network]:
                del self._per_address[network]
        if not connection.established:
            self._measures.count("handshakes_failed", self.settings.name)

    def handshaken(self, tls_version: str) -> None:
        self._measures.count("handshakes", self.settings.name, tls_version)

    def cut(self, reason: str) -> None:
        self._measures.count("connections_cut", self.settings.name, reason)

    def refused(self, refusal: Refusal) -> None:
        self._measures.count("exchanges", "", refusal.code)
        self._log.write(int(refusal.row.level), "refused", code=refusal.code, stage=refusal.row.stage)

    def fault(self, error: BaseException) -> None:
        self._log.fault(error)

    def body_limit(self, head: Head, peer: Peer) -> int:
        """How many bytes of body the route of `head` takes from `peer`.

        Raises Refusal `route_unknown`, and on API routes those of `caller.admit`: nobody's body is held in memory
        before it is known whose it is. WeChat proves itself by the body's own signature.
        """
        route = self.gateway.table.find(self.settings.name, head.host, head.path)
        if route.kind is not RouteKind.INBOUND:
            admit(route, peer, Request(head.method, head.path, head.query, head.headers, b"", head.host))
        return route.max_body

    def certificate_names(self, client: engine.Client) -> tuple[str, ...]:
        """DNS and URI names of the verified client certificate.

        Raises PermissionError if the listener has allow rules and none of them matches.
        """
        names: tuple[str, ...] = ()
        if client.certificate_list and self.settings.tls.client_ca is not None:
            names = _subject_alternative_names(client.certificate_list[0].to_cryptography())
        if self.settings.client_names and client.certificate_list and not self.settings.client_names & set(names):
            raise PermissionError("client certificate name")
        return names

    @property
    def connections(self) -> int:
        return len(self._connections)


def _subject_alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (
        *names.get_values_for_type(x509.DNSName),
        *names.get_values_for_type(x509.UniformResourceIdentifier),
    )


def _network(address: str) -> str:
    """What counts as one address: all of a /64 in IPv6, since a single caller usually has one to itself."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
