"""The embedded key service and its keyring put together, without a gateway.yaml."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from proxy.crypto.data_key import Purpose
from proxy.kms.budget import SharedBudget
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Entry
from proxy.kms.keystore import keyring_file_of, open_keyring_in_use
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing, rotate
from proxy.kms.private_file import make_private_directory
from proxy.kms.selection import Selection, in_order
from proxy.kms.service import Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.services import open_services
from proxy.ports import Clock, Entropy, Owner
from proxy.serve.settings import Settings


def keyring_file(state: Path, kms: LocalKms, entropy: Entropy) -> KeyringFile:
    """The keyring beside the embedded key service."""
    return keyring_file_of(ServiceSet(kms), state, entropy)


def init_keys(
    state: Path, unlock: bytes, wanted: Iterable[tuple[Owner, str, Purpose]], now: float, entropy: Entropy
) -> list[Entry]:
    """Makes the directory, KEKs and active DEKs that `wanted` (owner, group, purpose) lacks; the entries it made.

    `now`: Unix seconds. Raises KeysError, KeyMismatchError.
    """
    make_private_directory(state)
    services = _embedded(state, unlock, entropy)
    file = keyring_file_of(services, state, entropy)
    return make_missing(file, services, [Slot(*each) for each in wanted], now, entropy)


def open_keyring(state: Path, unlock: bytes, clock: Clock, entropy: Entropy) -> Keyring:
    """The keyring of `state` for a tool that looks, with its active keys unwrapped, on the embedded key service.

    Raises KeysError, KeyMismatchError.
    """
    services, budget = _embedded(state, unlock, entropy), SharedBudget.create(64)
    keyring = open_keyring_in_use(services, state, KeyLimits(), budget, clock, entropy)
    keyring.open_active()
    return keyring


def list_keys(state: Path, unlock: bytes, entropy: Entropy) -> list[Entry]:
    """All entries by tenant, region, group, purpose, age. Raises KeysError."""
    return in_order(keyring_file_of(_embedded(state, unlock, entropy), state, entropy).read())


def rotate_keys(
    state: Path,
    unlock: bytes,
    now: float,
    entropy: Entropy,
    *,
    tenant: str | None = None,
    region: str | None = None,
    group: str | None = None,
) -> list[Entry]:
    """See making.rotate."""
    services = _embedded(state, unlock, entropy)
    file = keyring_file_of(services, state, entropy)
    return rotate(file, services, Selection(tenant, region, group), now, entropy)


def _embedded(state: Path, unlock: bytes, entropy: Entropy) -> ServiceSet:
    return ServiceSet(LocalKms(state, unlock, entropy))


def rotate_all(settings: Settings) -> list[Entry]:
    """New data keys, at once, as `wxgate keys rotate --now` makes them."""
    services = open_services(settings.keys, settings.state, secrets.token_bytes)
    file = keyring_file_of(services, settings.state, secrets.token_bytes)
    return rotate(file, services, Selection(), time.time(), secrets.token_bytes)
