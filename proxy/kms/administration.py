"""The embedded key service and its keyring put together: to use them, make missing keys, look at them, rotate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from proxy.crypto.data_key import DEK_SIZE, DataKey, Purpose
from proxy.crypto.secret_bytes import SecretBytes
from proxy.kms.keyring import Keyring, open_keys
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.local import LocalKms
from proxy.kms.private_file import make_private_directory
from proxy.kms.service import KeysError, KeyService, Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.tag_key import TagKeys
from proxy.ports import Entropy, Owner


def keyring_file(state: Path, kms: LocalKms, entropy: Entropy) -> KeyringFile:
    """The keyring beside the embedded key service."""
    return KeyringFile(state, TagKeys(ServiceSet(kms), entropy, kms.tag_key))


def init_keys(
    state: Path, unlock: bytes, wanted: Iterable[tuple[Owner, str, Purpose]], now: float, entropy: Entropy
) -> list[Entry]:
    """Makes the directory, KEKs and active DEKs that `wanted` (owner, group, purpose) lacks; the entries it made.

    Called again it makes nothing. `now`: Unix seconds. Raises KeysError, KeyMismatchError if a key that is there does
    not open, before anything is made.
    """
    make_private_directory(state)
    kms = LocalKms(state, unlock, entropy)
    made: list[Entry] = []

    def edit(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        open_keys(entries, kms)
        missing = _missing(entries, wanted)
        for owner in dict.fromkeys(slot.owner for slot in missing):
            kms.create_kek(owner)
        made.extend(_new_entry(kms, slot, now, entropy) for slot in missing)
        return (*entries, *made)

    keyring_file(state, kms, entropy).change(edit)
    return made


def open_keyring(state: Path, unlock: bytes, entropy: Entropy) -> Keyring:
    """The keyring of `state` in use, on the embedded key service. Raises KeysError, KeyMismatchError."""
    kms = LocalKms(state, unlock, entropy)
    return Keyring(keyring_file(state, kms, entropy), kms)


def list_keys(state: Path, unlock: bytes, entropy: Entropy) -> list[Entry]:
    """All entries by tenant, region, group, purpose, age. Raises KeysError."""
    entries = keyring_file(state, LocalKms(state, unlock, entropy), entropy).read()
    return sorted(entries, key=lambda entry: (*_names(entry.slot), entry.created, entry.id))


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
    """A new active DEK for every active data key that is selected (None: any); the entries it made.

    The old ones retire: they open what they protected and protect no more. Lookup keys are left alone. `now`: Unix
    seconds. Raises KeysError (also if nothing is selected), KeyMismatchError.
    """
    kms = LocalKms(state, unlock, entropy)
    made: list[Entry] = []

    def edit(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        open_keys(entries, kms)
        old = [entry for entry in entries if _rotates(entry) and _selected(entry.slot, tenant, region, group)]
        if not old:
            raise KeysError(f"{state}: no active data key of that tenant, region and group; see `wxgate keys list`")
        made.extend(_new_entry(kms, entry.slot, now, entropy) for entry in old)
        return (*(_retired(entry, now) if entry in old else entry for entry in entries), *made)

    keyring_file(state, kms, entropy).change(edit)
    return made


def _missing(entries: tuple[Entry, ...], wanted: Iterable[tuple[Owner, str, Purpose]]) -> list[Slot]:
    filled = {entry.slot for entry in entries if _fills(entry)}
    return [slot for slot in dict.fromkeys(Slot(*each) for each in wanted) if slot not in filled]


def _fills(entry: Entry) -> bool:
    """A second lookup key would split equal values in two: a disabled one is enabled again, never replaced."""
    if entry.slot.purpose is Purpose.LOOKUP:
        return entry.state is not KeyState.DESTROYED
    return entry.state is KeyState.ACTIVE


def _rotates(entry: Entry) -> bool:
    return entry.state is KeyState.ACTIVE and entry.slot.purpose is Purpose.DATA


def _selected(slot: Slot, tenant: str | None, region: str | None, group: str | None) -> bool:
    asked = (tenant, region, group)
    return all(want in (None, have) for want, have in zip(asked, _names(slot)[:3], strict=True))


def _names(slot: Slot) -> tuple[str, str, str, str]:
    return slot.owner.tenant, slot.owner.region, slot.group, slot.purpose.value


def _retired(entry: Entry, now: float) -> Entry:
    return replace(entry, state=KeyState.RETIRING, retired=int(now))


def _new_entry(kms: KeyService, slot: Slot, now: float, entropy: Entropy) -> Entry:
    """An active key, unwrapped once more before anything is protected with it."""
    wrapped = kms.wrap(slot, SecretBytes(entropy(DEK_SIZE)))
    DataKey(kms.unwrap(slot, wrapped), slot.purpose, wrapped.key_id)
    return Entry(slot, wrapped, KeyState.ACTIVE, int(now), int(now))
