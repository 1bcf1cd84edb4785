"""New data keys: those that are missing, those that replace others. Blocks on the key services.

A DEK is made here, wrapped by the key service of its owner, and unwrapped once more before anything is protected with
it. Nothing is added beside keys of the same owner that do not open: that would hide that they are lost. The key
services are asked first, while others can change the keyring; then what is still wanted is put into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from time import monotonic

from proxy.crypto.data_key import DEK_SIZE, DataKey, Purpose
from proxy.crypto.secret_bytes import SecretBytes
from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import USABLE, Entry, KeyState
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, KeyService, Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.transitions import Entries
from proxy.ports import Entropy, Owner


def new_entry(services: KeyService, slot: Slot, now: float, at: float, entropy: Entropy) -> Entry:
    """A key that is to become active `at`. Times: Unix seconds. Raises KeysError, KeyMismatchError."""
    wrapped = services.wrap(slot, SecretBytes(entropy(DEK_SIZE)))
    DataKey(services.unwrap(slot, wrapped), slot.purpose, wrapped.key_id)
    return transitions.pending(slot, wrapped, now, at)


def make_missing(
    file: KeyringFile, services: ServiceSet, wanted: Iterable[Slot], now: float, entropy: Entropy
) -> list[Entry]:
    """Makes the KEKs and active DEKs that `wanted` lacks; the entries it made, none if called again.

    Raises KeysError, KeyMismatchError if a key of an owner concerned does not open, before anything is made.
    """
    wanted = tuple(dict.fromkeys(wanted))

    def missing(entries: Entries) -> list[Slot]:
        filled = {entry.slot for entry in entries if _fills(entry)}
        return [slot for slot in wanted if slot not in filled]

    def present() -> Entries:
        return transitions.settled(file.read() if file.stamp() is not None else (), now)

    with file.making(_names(services, missing(present()))):
        entries = present()
        owners = list(dict.fromkeys(slot.owner for slot in missing(entries)))
        require_open(services, entries, owners)
        for owner in owners:
            services.create_kek(owner)
        new = [new_entry(services, slot, now, now, entropy) for slot in missing(entries)]

        def edit(entries: Entries) -> Entries:
            entries = transitions.settled(entries, now)
            return transitions.added(entries, _of(new, missing(entries)), now)

        return _those_of(new, file.change(edit))


def rotate(
    file: KeyringFile, services: ServiceSet, chosen: Selection, now: float, entropy: Entropy, delay: float = 0.0
) -> list[Entry]:
    """A new data key for every active one that is chosen; the entries it made. Lookup keys are left alone.

    `delay`: seconds until the new ones protect, for keyrings that other machines must learn of first. The old ones then
    retire: they open what they protected and protect no more. Raises KeysError (also if nothing is chosen),
    KeyMismatchError.
    """
    find = _active(chosen, Purpose.DATA)
    return _replaced(file, services, find, transitions.added, (now, now + delay), entropy)


def rotate_lookup(
    file: KeyringFile, services: ServiceSet, chosen: Selection, now: float, entropy: Entropy, delay: float = 0.0
) -> list[Entry]:
    """A successor for every active lookup key that is chosen; the entries it made. Values are made with the old and
    the new one until `end_lookup`. Raises KeysError (also if nothing is chosen), KeyMismatchError."""

    def put(entries: Entries, new: Iterable[Entry], now: float) -> Entries:
        for entry in new:
            entries = transitions.lookup_begun(entries, entry, now)
        return entries

    return _replaced(file, services, _active(chosen, Purpose.LOOKUP), put, (now, now + delay), entropy)


def _replaced(
    file: KeyringFile,
    services: ServiceSet,
    active: Callable[[Entries], list[Slot]],
    put: Callable[[Entries, Iterable[Entry], float], Entries],
    times: tuple[float, float],
    entropy: Entropy,
) -> list[Entry]:
    """New keys for the slots that `active` finds, among the entries by `put`; these entries. `times`: now, and when
    they become active."""
    now, at = times
    begun = monotonic()
    with file.making(_names(services, active(transitions.settled(file.read(), now)))):
        entries = transitions.settled(file.read(), now)
        slots = active(entries)
        require_open(services, entries, {slot.owner for slot in slots})
        made = [new_entry(services, slot, now, at, entropy) for slot in slots]

        def edit(entries: Entries) -> Entries:
            # The time in which all processes learn of them begins now, however long key services and locks took.
            late = int(monotonic() - begun)
            entries = transitions.settled(entries, now + late)
            new = [replace(entry, created=entry.created + late, activated=int(at) + late) for entry in made]
            return put(entries, _of(new, active(entries)), now + late)

        return _those_of(made, file.change(edit))


def end_lookup(file: KeyringFile, chosen: Selection, now: float) -> list[Entry]:
    """Ends the replacement of every chosen lookup key that is being replaced; these keys. Raises KeysError if there is
    none."""
    ended: set[bytes] = set()

    def edit(entries: Entries) -> Entries:
        entries = transitions.settled(entries, now)
        old = [entry for entry in entries if entry.being_replaced and chosen.has(entry.slot)]
        if not old:
            raise KeysError("no lookup key of that tenant, region and group is being replaced; see `wxgate keys list`")
        for entry in old:
            entries = transitions.lookup_ended(entries, entry.slot, now)
        ended.update(entry.id for entry in old)
        return entries

    return [entry for entry in file.change(edit) if entry.id in ended]


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


def _active(chosen: Selection, purpose: Purpose) -> Callable[[Entries], list[Slot]]:
    """What finds the chosen slots with an active key. It raises KeysError if there is none."""

    def find(entries: Entries) -> list[Slot]:
        active = [e.slot for e in entries if e.state is KeyState.ACTIVE and e.slot.purpose is purpose]
        if found := [slot for slot in active if chosen.has(slot)]:
            return found
        raise KeysError(f"no active {purpose.value} key of that tenant, region and group; see `wxgate keys list`")

    return find


def _names(services: ServiceSet, slots: Iterable[Slot]) -> set[str]:
    """The key services that wrap for `slots`."""
    return {services.of(slot.owner).name for slot in slots}


def _of(new: Iterable[Entry], slots: Iterable[Slot]) -> list[Entry]:
    """Those of `new` whose slots still want one: keys may have been shredded, or made, meanwhile."""
    wanted = set(slots)
    return [entry for entry in new if entry.slot in wanted]


def _those_of(new: Iterable[Entry], entries: Entries) -> list[Entry]:
    """What `new` became among `entries`."""
    by_id = {entry.id: entry for entry in entries}
    return [by_id[entry.id] for entry in new if entry.id in by_id]
