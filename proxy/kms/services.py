"""From the settings to the key services: the one place that makes them."""

from __future__ import annotations

from pathlib import Path

from proxy.kms.bounded import bounded
from proxy.kms.local import LocalKms
from proxy.kms.service import KeyService
from proxy.kms.service_set import ServiceSet
from proxy.kms.service_settings import (
    AwsSettings,
    KeySettings,
    LocalSettings,
    Pkcs11Settings,
    ServiceSettings,
    VaultSettings,
)
from proxy.kms.unlock import Passphrase
from proxy.ports import Entropy


def open_services(settings: KeySettings, state: Path, entropy: Entropy) -> ServiceSet:
    """Every key service that `settings` name. `state`: the directory of the embedded one. Reaches none of them yet.

    Raises KeysError.
    """

    def opened(each: ServiceSettings) -> KeyService:
        return _open(each, state, entropy)

    return ServiceSet(
        opened(settings.service),
        {name: opened(tenant.service) for name, tenant in settings.tenants.items() if tenant.service},
        [opened(each) for each in settings.former],
        brought={name: tenant.cache_age for name, tenant in settings.tenants.items()},
    )


def _open(settings: ServiceSettings, state: Path, entropy: Entropy) -> KeyService:
    """The libraries are large: only what is named is imported. What is outside this process is bounded."""
    match settings.reach:
        case LocalSettings(unlock, passphrase):
            return LocalKms(state, Passphrase(passphrase) if passphrase else unlock, entropy, settings.name)
        case VaultSettings():
            from proxy.kms.vault import VaultKms

            return bounded(VaultKms(settings.reach, settings.name))
        case Pkcs11Settings():
            from proxy.kms.pkcs11 import Pkcs11Kms

            return bounded(Pkcs11Kms(settings.reach, entropy, settings.name))
        case AwsSettings():
            from proxy.kms.aws import AwsKms

            return bounded(AwsKms(settings.reach, settings.name))
