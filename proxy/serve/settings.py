"""gateway.yaml as values: everything checked, every file it names read once, every secret resolved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from proxy.edge.listener_settings import ListenerSettings
from proxy.edge.upstream_settings import UpstreamSettings
from proxy.kms.service_settings import KeySettings
from proxy.policy.compiled import Policy
from proxy.ports import Owner
from proxy.route import Route
from proxy.serve.settings_region import NOTHING, DiskDemand
from proxy.source.problem import Problem


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The supervisor's own listener, on loopback. `token_hash`: SHA-256 of the bearer token for verbs that change
    something; empty: there are none."""

    host: str = "127.0.0.1"
    port: int = 9090
    token_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Settings:
    """A gateway. Its repr is never logged: `keys` and accounts hold secrets."""

    file: Path
    state: Path
    keys: KeySettings
    listeners: tuple[ListenerSettings, ...]
    upstreams: tuple[UpstreamSettings, ...]
    routes: tuple[Route, ...]
    policies: dict[str, Policy]
    audit: Path
    audit_max_bytes: int
    admin: AdminSettings
    drain: float
    delivery_entries: int
    delivery_reply_bytes: int
    digest: str
    """SHA-256 of gateway.yaml and the policies: by it workers agree on what they reloaded."""
    warnings: tuple[Problem, ...] = ()
    disk: DiskDemand = NOTHING

    def __repr__(self) -> str:
        return f"Settings({self.file})"

    @property
    def owners(self) -> list[Owner]:
        """Tenants and regions the routes name, each once."""
        return sorted(
            {Owner(route.tenant, route.region) for route in self.routes}, key=lambda it: (it.tenant, it.region)
        )

    def policy_files(self) -> list[Path]:
        """Every policy and all they extend."""
        found = {
            (self.file.parent / name).parent / file for name, policy in self.policies.items() for file in policy.files
        }
        return sorted(found)

    @property
    def groups(self) -> list[str]:
        """Class groups the policies name."""
        return sorted({group for policy in self.policies.values() for group in policy.groups})


def load_settings(path: Path) -> Settings:
    """Reads `path` and everything it names. Raises Problems with all that is wrong."""
    from proxy.serve.settings_reader import SettingsReader  # the reader needs the classes above

    return SettingsReader(path).read()
