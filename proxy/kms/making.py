"""New data keys: those that are missing, those that replace others. Blocks on the key services.

A DEK is made here, wrapped by the key service of its owner, and unwrapped once more before anything is protected with
it. Nothing is added beside keys of the same owner that do not open: that would hide that they are lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.crypto.data_key import DEK_SIZE, DataKey, Purpose
from proxy.crypto.secret_bytes import SecretBytes
from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import USABLE, Entry, KeyState
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, KeyService, Slot
from proxy.kms.transitions import Entries
from proxy.ports import Entropy, Owner


def new_entry(services: KeyService, slot: Slot, now: float, at: float, entropy: Entropy) -> Entry:
    """A key that is to become active `at`. Times: Unix seconds. Raises KeysError, KeyMismatchError."""
    wrapped = services.wrap(slot, SecretBytes(entropy(DEK_SIZE)))
    DataKey(services.unwrap(slot, wrapped), slot.purpose, wrapped.key_id)
    return transitions.pending(slot, wrapped, now, at)


def make_missing(
    file: KeyringFile, services: KeyService, wanted: Iterable[Slot], now: float, entropy: Entropy
) -> list[Entry]:
    """Makes the KEKs and active DEKs that `wanted` lacks; the entries it made, none if called again.

    Raises KeysError, KeyMismatchError if a key of an owner concerned does not open, before anything is made.
    """
    made: list[Entry] = []

    def edit(entries: Entries) -> Entries:
        entries = transitions.settled(entries, now)
        filled = {entry.slot for entry in entries if _fills(entry)}
        missing = [slot for slot in dict.fromkeys(wanted) if slot not in filled]
        owners = list(dict.fromkeys(slot.owner for slot in missing))
        require_open(services, entries, owners)
        for owner in owners:
            services.create_kek(owner)
        new = [new_entry(services, slot, now, now, entropy) for slot in missing]
        return _noted(transitions.added(entries, new, now), new, made)

    file.change(edit)
    return made


def rotate(
    file: KeyringFile, services: KeyService, chosen: Selection, now: float, entropy: Entropy, delay: float = 0.0
) -> list[Entry]:
    """A new data key for every active one that is chosen; the entries it made. Lookup keys are left alone.

    `delay`: seconds until the new ones protect, for keyrings that other machines must learn of first. The old ones then
    retire: they open what they protected and protect no more. Raises KeysError (also if nothing is chosen),
    KeyMismatchError.
    """
    made: list[Entry] = []

    def edit(entries: Entries) -> Entries:
        entries = transitions.settled(entries, now)
        slots = _active(entries, chosen, Purpose.DATA)
        require_open(services, entries, {slot.owner for slot in slots})
        new = [new_entry(services, slot, now, now + delay, entropy) for slot in slots]
        return _noted(transitions.added(entries, new, now), new, made)

    file.change(edit)
    return made


def rotate_lookup(
    file: KeyringFile, services: KeyService, chosen: Selection, now: float, entropy: Entropy, delay: float = 0.0
) -> list[Entry]:
    """A successor for every active lookup key that is chosen; the entries it made. Values are made with the old and
    the new one until `end_lookup`. Raises KeysError (also if nothing is chosen), KeyMismatchError."""
    made: list[Entry] = []

    def edit(entries: Entries) -> Entries:
        entries = transitions.settled(entries, now)
        slots = _active(entries, chosen, Purpose.LOOKUP)
        require_open(services, entries, {slot.owner for slot in slots})
        new = [new_entry(services, slot, now, now + delay, entropy) for slot in slots]
        for entry in new:
            entries = transitions.lookup_begun(entries, entry, now)
        return _noted(entries, new, made)

    file.change(edit)
    return made


def end_lookup(file: KeyringFile, chosen: Selection, now: float) -> list[Entry]:
    """Ends the replacement of every chosen lookup key that is being replaced; these keys. Raises KeysError if there is
    none."""
    ended: list[Entry] = []

    def edit(entries: Entries) -> Entries:
        entries = transitions.settled(entries, now)
        old = [entry for entry in entries if entry.being_replaced and chosen.has(entry.slot)]
        if not old:
            raise KeysError("no lookup key of that tenant, region and group is being replaced; see `wxgate keys list`")
        for entry in old:
            entries = transitions.lookup_ended(entries, entry.slot, now)
        return _noted(entries, old, ended)

    file.change(edit)
    return ended


def require_open(services: KeyService, entries: Entries, owners: Iterable[Owner]) -> None:
    """Raises KeysError, KeyMismatchError unless every usable key of `owners` opens."""
    concerned = set(owners)
    for entry in entries:
        if entry.state in USABLE and entry.slot.owner in concerned:
            DataKey(services.unwrap(entry.slot, entry.wrapped), entry.slot.purpose, entry.id)


def _fills(entry: Entry) -> bool:
    """A second lookup key would split equal values in two: a disabled one is enabled again, never replaced."""
    if entry.slot.purpose is Purpose.LOOKUP:
        return entry.state is not KeyState.DESTROYED
    return entry.state is KeyState.ACTIVE


def _active(entries: Entries, chosen: Selection, purpose: Purpose) -> list[Slot]:
    found = [
        entry.slot
        for entry in entries
        if entry.state is KeyState.ACTIVE and entry.slot.purpose is purpose and chosen.has(entry.slot)
    ]
    if not found:
        raise KeysError(f"no active {purpose.value} key of that tenant, region and group; see `wxgate keys list`")
    return found


def _noted(entries: Entries, new: Iterable[Entry], notes: list[Entry]) -> Entries:
    """`entries`, and what `new` became among them in `notes`."""
    by_id = {entry.id: entry for entry in entries}
    notes.extend(by_id[entry.id] for entry in new)
    return entries
