"""What every key service (KMS) offers the keyring, and what all of them bind a wrapped DEK to. local.py is the
embedded one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from proxy.crypto.associated_data import items
from proxy.crypto.data_key import Purpose
from proxy.ports import Owner

# Tenant and group: what fits in a file name, a metric label and a key name of every key service.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
# ISO 3166-1 alpha-2, or a subdivision of ISO 3166-2, in lower case.
REGION = re.compile(r"[a-z]{2}(-[a-z0-9]{1,3})?", re.ASCII)


# Whose KEK wraps what belongs to the gateway and not to a tenant. The full stop keeps it apart from tenants.
GATEWAY_TENANT = "wxgate.keyring"


def gateway_owner(region: str) -> Owner:
    """The reserved owner of the gateway's own keys. `region`: the gateway's."""
    return Owner(GATEWAY_TENANT, region)


class KeysError(Exception):
    """Keys cannot be had, read or changed. The text says place, cause and next step, and holds no key bytes."""


class KeyServiceDownError(KeysError):
    """The key service cannot be reached or does not answer now: the same question may be answered later."""


class Slot(NamedTuple):
    """What one active DEK serves: an owner's group of classes, for one purpose."""

    owner: Owner
    group: str
    purpose: Purpose

    def __str__(self) -> str:
        return f"{self.owner.tenant}/{self.owner.region} {self.group} {self.purpose.value}"


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A DEK as it is stored. `key_id`: 16 bytes (32 with customer-brought keys), the commitment to the DEK. `service`:
    name of the key service that opens `sealed`, under version `kek_version` of the owner's KEK."""

    key_id: bytes
    service: str
    kek_version: int
    sealed: bytes = field(repr=False)


class NoKekError(KeysError):
    """The key service works and has no such KEK."""


# How an `operation` begins if there was nothing to destroy; docs/spec/receipt.md.
NO_KEK = "found no KEK"


@dataclass(frozen=True, slots=True)
class Destroyed:
    """A KEK that is gone for good. `operation`: what the key service did, for the receipt; NO_KEK and more if it has no
    such KEK. `effective`: Unix seconds when it takes effect if that is later than now."""

    operation: str
    effective: int | None = None

    @property
    def found(self) -> bool:
        """Whether there was a KEK to destroy."""
        return not self.operation.startswith(NO_KEK)


def context(slot: Slot, key_id: bytes) -> bytes:
    """What a wrapped DEK is bound to, as associated data: it opens for its own slot and under its own id only."""
    owner = slot.owner
    return items(("wxgate/1 wrapped dek", owner.tenant, owner.region, key_id.hex(), slot.purpose.value, slot.group))


class KeyService(Protocol):
    """Keeps the KEKs, one per owner and versioned; no KEK ever leaves it.

    The verbs block, as the libraries of HSMs and clouds do: the caller keeps them off the event loop. All raise
    KeysError, and KeyServiceDownError if it is worth trying again.
    """

    @property
    def name(self) -> str:
        """What `Wrapped.service` says of DEKs that this service opens."""
        ...

    def has_kek(self, owner: Owner) -> bool:
        """Whether `owner` has a KEK here that new DEKs could be wrapped under. Makes none."""
        ...

    def create_kek(self, owner: Owner) -> int:
        """Sees to it that `owner` has a KEK; the newest version. Called again it changes nothing."""
        ...

    def rotate_kek(self, owner: Owner) -> int:
        """Makes a new version of the KEK of `owner`; it. Older versions still unwrap."""
        ...

    def wrap(self, slot: Slot, dek: bytes, key_id: bytes | None = None) -> Wrapped:
        """`dek`, 32 bytes, under the newest KEK of the slot's owner. `key_id`: the id it is to have; None: the one
        that new DEKs of this owner have."""
        ...

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        """The DEK. The caller compares it with its key id before use."""
        ...

    def rewrap(self, slot: Slot, wrapped: Wrapped) -> Wrapped:
        """The same DEK under the newest KEK; `wrapped` itself if that is the one it is under."""
        ...

    def destroy_kek(self, owner: Owner) -> Destroyed:
        """Destroys every version of the KEK of `owner`: nothing wrapped under them opens again. Called again it says
        so once more, or that there is none."""
        ...

    def check(self) -> None:
        """Raises unless the service answers now and lets this gateway in; of the embedded one, unless every KEK opens.

        It also keeps a lease alive that nothing else is asked for: to be called from time to time in every process.
        """
        ...


@runtime_checkable
class Holding(Protocol):
    """A key service that holds opened KEKs in this process."""

    def stale(self) -> bool:
        """Whether it holds KEKs from before a change. Asks nobody but the file system, and does not block."""
        ...

    def refresh(self) -> None:
        """Lets go of KEKs that were destroyed since they were opened. Blocks."""
        ...

    def forget(self) -> None:
        """Lets go of every KEK; the next call opens what it needs. Does not block."""
        ...


@runtime_checkable
class Embedded(KeyService, Protocol):
    """A key service of this machine alone: other machines have KEKs of their own copy."""

    def kek_ids(self, owner: Owner) -> Mapping[int, bytes]:
        """The id of every KEK of `owner` that is there, by its version. Raises KeysError."""
        ...

    def destroy_keks(self, owner: Owner, kek_ids: Collection[bytes]) -> None:
        """Destroys those KEKs of `owner` and no other. Called again it changes nothing. Raises KeysError."""
        ...


@runtime_checkable
class Importing(Protocol):
    """A key service that also takes a KEK which a tenant brings."""

    def import_kek(self, owner: Owner, kek: bytes) -> int:
        """`kek`, 32 bytes, as the newest version of the KEK of `owner`; it. Older versions still unwrap."""
        ...
