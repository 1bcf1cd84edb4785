"""What every key service (KMS) offers the keyring: four verbs. local.py is the embedded one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from proxy.crypto.data_key import Purpose
from proxy.ports import Owner

# Tenant and group: what fits in a file name, a metric label and a key name of every key service.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
# ISO 3166-1 alpha-2, or a subdivision of ISO 3166-2, in lower case.
REGION = re.compile(r"[a-z]{2}(-[a-z0-9]{1,3})?", re.ASCII)


class KeysError(Exception):
    """Keys cannot be had, read or changed. The text says place, cause and next step, and holds no key bytes."""


class Slot(NamedTuple):
    """What one active DEK serves: an owner's group of classes, for one purpose."""

    owner: Owner
    group: str
    purpose: Purpose

    def __str__(self) -> str:
        return f"{self.owner.tenant}/{self.owner.region} {self.group} {self.purpose.value}"


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A DEK as it is stored: its 16-byte id, the version of the KEK, and the bytes that only the key service opens."""

    key_id: bytes
    kek_version: int
    sealed: bytes = field(repr=False)


class KeyService(Protocol):
    """Keeps the KEKs, one per owner and versioned; no KEK ever leaves it.

    The verbs block, as the libraries of HSMs and clouds do: the caller keeps them off the event loop. All raise
    KeysError.
    """

    def create_kek(self, owner: Owner) -> int:
        """Sees to it that `owner` has a KEK; the newest version. Called again it changes nothing."""
        ...

    def new_dek(self, slot: Slot) -> tuple[bytes, Wrapped]:
        """A fresh 32-byte DEK, and the same wrapped under the newest KEK of the slot's owner."""
        ...

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        """The DEK. The caller compares it with its key id before use."""
        ...

    def check(self) -> None:
        """Raises unless every KEK can be used now."""
        ...
