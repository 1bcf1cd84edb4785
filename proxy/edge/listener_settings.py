"""What is configured about a listener. Apart from the code, so that reading a configuration loads no engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate file with its full chain, leaf first, and the key file of the leaf (PEM)."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """A listener's TLS. `names`: server name -> key pair. The `default` serves callers without SNI and the names it
    carries itself; every other name is refused.

    `client_ca`: PEM file; client certificates are asked for and verified against it. `client_required`: none, no entry.
    """

    default: KeyPair
    names: Mapping[str, KeyPair]
    tls13_only: bool = False
    client_ca: Path | None = None
    client_required: bool = False


@dataclass(frozen=True)
class Limits:
    """Connections per worker and per address; seconds for each phase of a connection, all absolute.

    WeChat allows 5 s for a whole delivery; slower callers than these are not waited for.
    """

    connections: int = 4096
    per_address: int = 256
    handshake: float = 5.0
    head: float = 5.0
    body: float = 10.0
    exchange: float = 60.0
    idle: float = 75.0
    lingering: float = 2.0

    @cached_property
    def seconds(self) -> dict[str, float]:
        """By phase."""
        phases = ("handshake", "head", "body", "exchange", "idle", "lingering")
        return {phase: float(getattr(self, phase)) for phase in phases}


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """`proxy_protocol`: the connections come from a balancer that sends PROXY headers, and only such are accepted.

    `client_names`: if set, a client certificate must carry one of these DNS or URI names.
    """

    name: str
    host: str
    port: int
    tls: TlsSettings
    limits: Limits = field(default_factory=Limits)
    proxy_protocol: bool = False
    client_names: frozenset[str] = frozenset()
