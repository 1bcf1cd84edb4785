"""What is configured about an upstream, checked so far that nothing in it can bend a request line or switch TLS off."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

_BEARER = re.compile(rb"[A-Za-z0-9._~+/-]{1,4096}=*")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One upstream. Times are seconds. Raises ValueError for a value that cannot be served safely.

    `max_idle` must be below the upstream's own keep-alive time, or requests run into connections it is closing.
    `max_age` bounds a connection's life and with it how long an old DNS answer is used.
    """

    name: str
    host: str
    port: int = 443
    scheme: str = "https"
    ca_file: str | None = None
    """PEM file of the CAs to trust for this upstream, these only; None: the system's."""
    client_certificate: str | None = None
    client_key: str | None = None
    connect_timeout: float = 2.0
    max_connections: int = 32
    max_idle: float = 30.0
    max_age: float = 300.0
    max_response_bytes: int = 1 << 20
    egress_proxy: tuple[str, int] | None = None
    """Host and port of an HTTP CONNECT proxy, spoken to in clear; TLS goes through it to the upstream."""
    warm: int = 0
    """Number of connections to keep open."""
    bearer: bytes = field(default=b"", repr=False)
    """Token wxgate shows to the upstream (RFC 6750); callers' own credentials never go on."""

    def __post_init__(self) -> None:
        self._check(self.scheme == "https", "scheme must be https: upstreams are spoken to over TLS only")
        self._check_address(self.host, self.port, "host and port")
        if self.egress_proxy is not None:
            self._check_address(*self.egress_proxy, "egress_proxy")
        both = (self.client_certificate is None) == (self.client_key is None)
        self._check(both, "client_certificate and client_key: set both or neither")
        times = (self.connect_timeout, self.max_idle, self.max_age)
        self._check(all(0 < time < 1e6 for time in times), "connect_timeout, max_idle, max_age must be above 0")
        self._check(
            not self.bearer or _BEARER.fullmatch(self.bearer) is not None, "bearer is not of the form of a token"
        )
        self._check(self.max_connections > 0, "max_connections must be above 0")
        self._check(self.max_response_bytes > 0, "max_response_bytes must be above 0")
        self._check(0 <= self.warm <= self.max_connections, "warm must be from 0 to max_connections")

    def _check(self, good: bool, problem: str) -> None:
        if not good:
            raise ValueError(f"upstream {self.name}: {problem}")

    def _check_address(self, host: str, port: int, what: str) -> None:
        good = _is_address(host) or _DNS_NAME.fullmatch(host) is not None
        self._check(good, f"{what}: expected a lower-case ASCII name or an IP address, and no port in it")
        self._check(0 < port < 65536, f"{what}: a port is from 1 to 65535")

    @property
    def authority(self) -> bytes:
        """Host and port for a CONNECT line."""
        return b"%b:%d" % (_bracketed(self.host), self.port)

    @property
    def own_fields(self) -> bytes:
        """The header fields that every request to this upstream carries, each ended by CRLF."""
        fields = b"host: %b\r\nconnection: keep-alive\r\naccept-encoding: identity\r\n" % self.host_header
        return fields + (b"authorization: Bearer %b\r\n" % self.bearer if self.bearer else b"")

    @property
    def host_header(self) -> bytes:
        """The Host field, RFC 9110 section 7.2: without the scheme's default port."""
        return _bracketed(self.host) if self.port == 443 else self.authority


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _bracketed(host: str) -> bytes:
    return f"[{host}]".encode() if ":" in host else host.encode()
