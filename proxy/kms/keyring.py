"""The keyring in use: every DEK that may still open, unwrapped once, looked up without a key service in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.crypto.data_key import DataKey, Purpose
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import USABLE, Entry, KeyState
from proxy.kms.service import KeyService
from proxy.ports import Owner
from proxy.refusal import Refusal


@dataclass(frozen=True, slots=True)
class KeyAge:
    """How old a key is, for metrics. `seconds`: since it became active; since it was made if it has not."""

    owner: Owner
    group: str
    purpose: Purpose
    key_id: bytes
    seconds: float
    state: KeyState


@dataclass(frozen=True, slots=True)
class _Held:
    """One reading of the keyring, never changed; replaced whole."""

    entries: tuple[Entry, ...]
    active: Mapping[tuple[Owner, str, Purpose], DataKey]
    by_id: Mapping[tuple[Owner, bytes], DataKey]


class Keyring:
    """The `Keys` port. Look-ups come from dictionaries and never wait."""

    def __init__(self, file: KeyringFile, kms: KeyService) -> None:
        """Reads `file` and unwraps its usable DEKs. Raises KeysError, KeyMismatchError (names the key id)."""
        self._file = file
        self._kms = kms
        self._held = _hold(file.read(), kms)

    async def active(self, owner: Owner, group: str, purpose: Purpose) -> DataKey:
        """See Keys."""
        key = self._held.active.get((owner, group, purpose))
        if key is None:
            raise Refusal("key_unavailable")
        return key

    async def by_id(self, owner: Owner, key_id: bytes) -> DataKey | None:
        """See Keys. Pending and retiring keys open too; disabled and destroyed ones never do."""
        return self._held.by_id.get((owner, key_id))

    def reload(self) -> None:
        """Takes up what the file says now, all of it or nothing. Blocks on the key service.

        Raises KeysError, KeyMismatchError; the keys held so far then stay, and the caller sounds the alarm.
        """
        self._held = _hold(self._file.read(), self._kms)

    def ages(self, now: float) -> list[KeyAge]:
        """One for every entry but destroyed ones, in the file's order. `now`: Unix seconds."""
        return [_age(entry, now) for entry in self._held.entries if entry.state is not KeyState.DESTROYED]


def open_keys(entries: tuple[Entry, ...], kms: KeyService) -> list[tuple[Entry, DataKey]]:
    """The usable ones of `entries` with their DEKs as handles. Raises KeysError, KeyMismatchError."""
    return [
        (entry, DataKey(kms.unwrap(entry.slot, entry.wrapped), entry.slot.purpose, entry.id))
        for entry in entries
        if entry.state in USABLE
    ]


def _hold(entries: tuple[Entry, ...], kms: KeyService) -> _Held:
    opened = open_keys(entries, kms)
    return _Held(
        entries,
        {entry.slot: key for entry, key in opened if entry.state is KeyState.ACTIVE},
        {(entry.slot.owner, entry.id): key for entry, key in opened},
    )


def _age(entry: Entry, now: float) -> KeyAge:
    since = entry.created
    if entry.activated is not None and entry.state is not KeyState.PENDING:
        since = entry.activated
    owner, group, purpose = entry.slot
    return KeyAge(owner, group, purpose, entry.id, max(now - since, 0.0), entry.state)
