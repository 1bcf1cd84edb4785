"""Which key services gateway.yaml names, and how to reach them. The secrets are resolved; `repr` leaves them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy.kms.limits import KeyLimits
from proxy.kms.redis_settings import RedisSettings


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The embedded service: one of `unlock` (an unlock key) and `passphrase`."""

    unlock: bytes = field(default=b"", repr=False)
    passphrase: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """The transit engine of Vault or OpenBao at `url`, mounted at `mount`. One of `token`, and `role_id` with
    `secret_id` (AppRole at `auth`). `ca`: PEM file; None: the system's. `timeout`: seconds for one answer."""

    url: str
    ca: Path | None = None
    mount: str = "transit"
    namespace: str = ""
    token: bytes = field(default=b"", repr=False)
    role_id: str = ""
    secret_id: bytes = field(default=b"", repr=False)
    auth: str = "approle"
    timeout: float = 3.0


@dataclass(frozen=True, slots=True)
class Pkcs11Settings:
    """A token of an HSM, by its PKCS#11 library."""

    module: Path
    token_label: str
    pin: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """AWS KMS in `region`. `endpoint`: empty: AWS's own. Without `access_key_id` the credentials come from the
    machine's role or the environment, as botocore finds them. `timeout`: seconds for one answer."""

    region: str
    endpoint: str = ""
    ca: Path | None = None
    access_key_id: bytes = field(default=b"", repr=False)
    secret_access_key: bytes = field(default=b"", repr=False)
    session_token: bytes = field(default=b"", repr=False)
    timeout: float = 3.0


type Reach = LocalSettings | VaultSettings | Pkcs11Settings | AwsSettings


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """One key service. `name`: what `Wrapped.service` says of the DEKs it opens."""

    name: str
    reach: Reach


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """A tenant that brought its own keys. `service`: its own; None: the gateway's, with the tenant's KEK imported.
    `cache_age`: seconds after which a DEK must be asked for again; None: the gateway's limit."""

    service: ServiceSettings | None = None
    cache_age: float | None = None


@dataclass(frozen=True, slots=True)
class KeySettings:
    """`service`: wraps what no tenant's own service does. `former`: open what they wrapped before, until it is
    rewrapped; wrap nothing. `limits`: how long and how much keys may be used. `redis`: what carries the keyring between
    machines."""

    service: ServiceSettings
    former: tuple[ServiceSettings, ...] = ()
    tenants: Mapping[str, TenantKeys] = field(default_factory=dict)
    limits: KeyLimits = field(default_factory=KeyLimits)
    redis: RedisSettings | None = None

    def all(self) -> list[ServiceSettings]:
        """Every service, each once."""
        own = (tenant.service for tenant in self.tenants.values())
        return [self.service, *self.former, *(service for service in own if service is not None)]

    @classmethod
    def local(cls, unlock: bytes) -> KeySettings:
        """The short form: the embedded service under an unlock key."""
        return cls(ServiceSettings("local", LocalSettings(unlock)))
