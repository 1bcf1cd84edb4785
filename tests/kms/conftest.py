"""A state directory, an unlock key and owners for the tests of keys."""

import secrets
from pathlib import Path
from typing import Any

import pytest

from proxy.crypto.data_key import Purpose
from proxy.kms.administration import init_keys
from proxy.kms.local import LocalKms
from proxy.kms.service import KeyService, Slot, Wrapped
from proxy.ports import Owner

ACME = Owner("acme", "in")
OTHER = Owner("other", "au")
DATA = Slot(ACME, "follower", Purpose.DATA)
LOOKUP = Slot(ACME, "follower", Purpose.LOOKUP)
FOREIGN = Slot(OTHER, "follower", Purpose.DATA)
NOW = 1_800_000_000.5


class Swapping:
    """A key service that opens every wrapped DEK and hands out another."""

    def __init__(self, kms: KeyService) -> None:
        self._kms = kms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kms, name)

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        return bytes(reversed(self._kms.unwrap(slot, wrapped)))


class Counting(Swapping):
    """A key service that counts what it is asked to unwrap."""

    unwrapped = 0

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        self.unwrapped += 1
        return self._kms.unwrap(slot, wrapped)


@pytest.fixture
def unlock() -> bytes:
    return secrets.token_bytes(32)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def kms(state: Path, unlock: bytes) -> LocalKms:
    """With a KEK for each owner."""
    kms = LocalKms(state, unlock, secrets.token_bytes)
    kms.create_kek(ACME)
    kms.create_kek(OTHER)
    return kms


@pytest.fixture
def filled(state: Path, unlock: bytes) -> Path:
    """The state directory with DATA, LOOKUP and FOREIGN active."""
    init_keys(state, unlock, [DATA, LOOKUP, FOREIGN], NOW, secrets.token_bytes)
    return state
