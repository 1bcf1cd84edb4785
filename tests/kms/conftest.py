"""A state directory, an unlock key and owners for the tests of keys."""

import secrets
from pathlib import Path

import pytest

from proxy.crypto.data_key import Purpose
from proxy.kms.administration import init_keys
from proxy.kms.local import LocalKms
from proxy.kms.service import Slot
from proxy.ports import Owner

ACME = Owner("acme", "in")
OTHER = Owner("other", "au")
DATA = Slot(ACME, "follower", Purpose.DATA)
LOOKUP = Slot(ACME, "follower", Purpose.LOOKUP)
FOREIGN = Slot(OTHER, "follower", Purpose.DATA)
NOW = 1_800_000_000.5


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
