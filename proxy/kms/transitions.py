"""The life of data keys: pending -> active -> retiring -> disabled -> destroyed, as functions of a keyring's entries.

Pure: `now` is given in Unix seconds, new keys are made by the caller. docs/spec/keyring.md is normative.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from proxy.crypto.data_key import Purpose
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.service import KeysError, Slot, Wrapped

Entries = tuple[Entry, ...]

# What may come of two that differ: the one that is further on in its life.
_AGE = {state: place for place, state in enumerate(KeyState)}
# What people order counts as more changes of a key than machines come to by themselves: another machine that retires it
# meanwhile must not undo it.
_ORDERED = 1 << 20


def pending(slot: Slot, wrapped: Wrapped, now: float, at: float) -> Entry:
    """A new key that is to become active `at`."""
    return Entry(slot, wrapped, KeyState.PENDING, int(now), int(at))


def settled(entries: Entries, now: float) -> Entries:
    """Pending keys whose time has come are active; what they replace retires, at the moment its successor came.

    A lookup key that is replaced goes on making the values of before until `lookup_ended`.
    """
    newest: dict[Slot, Entry] = {}
    for entry in entries:
        if _protects(entry, now) and (entry.slot not in newest or _later(entry, newest[entry.slot])):
            newest[entry.slot] = entry
    return tuple(_settled(entry, newest[entry.slot]) if _protects(entry, now) else entry for entry in entries)


def _protects(entry: Entry, now: float) -> bool:
    due = entry.state is KeyState.PENDING and entry.activated is not None and entry.activated <= now
    return due or entry.state is KeyState.ACTIVE


def _later(one: Entry, other: Entry) -> bool:
    return _turn(one) > _turn(other)


def _turn(entry: Entry) -> tuple[int, int, bool, bytes]:
    """Of the same second, the one that waits replaces the one that is active."""
    return entry.activated or 0, entry.created, entry.state is KeyState.PENDING, entry.id


def _settled(entry: Entry, newest: Entry) -> Entry:
    if entry is newest:
        return entry if entry.state is KeyState.ACTIVE else replace(entry, state=KeyState.ACTIVE)
    ends = None if entry.slot.purpose is Purpose.LOOKUP and entry.state is KeyState.ACTIVE else newest.activated
    return replace(entry, state=KeyState.RETIRING, retired=ends)


def added(entries: Entries, made: Iterable[Entry], now: float) -> Entries:
    """With new pending data keys beside the active ones. Raises KeysError for a lookup key: see `lookup_begun`."""
    made = tuple(made)
    filled = {entry.slot for entry in entries if entry.state is not KeyState.DESTROYED}
    if any(entry.slot.purpose is Purpose.LOOKUP and entry.slot in filled for entry in made):
        raise KeysError("a second lookup key would split equal values in two; replace it with `rotate --lookup`")
    return settled((*entries, *made), now)


def hastened(entries: Entries, slot: Slot, now: float) -> Entries:
    """With the pending data key of `slot` that would become active next active now; as they are if there is none."""
    waiting = [e for e in entries if e.slot == slot and e.state is KeyState.PENDING and e.activated is not None]
    if not waiting:
        return entries
    first = min(waiting, key=lambda entry: (entry.activated or 0, entry.id))
    return settled(_changed(entries, first, replace(first, activated=int(now))), now)


def lookup_begun(entries: Entries, made: Entry, now: float) -> Entries:
    """With `made`, a pending lookup key, beside the one it will replace. From its time on values are made with both.

    Raises KeysError if its slot has no active lookup key, or a replacement is under way.
    """
    same = [entry for entry in entries if entry.slot == made.slot]
    if made.slot.purpose is not Purpose.LOOKUP or not any(entry.state is KeyState.ACTIVE for entry in same):
        raise KeysError(f"{made.slot}: there is no active lookup key to replace")
    if any(entry.being_replaced or entry.state is KeyState.PENDING for entry in same):
        raise KeysError(f"{made.slot}: its lookup key is being replaced already; end that first")
    return settled((*entries, made), now)


def lookup_ended(entries: Entries, slot: Slot, now: float) -> Entries:
    """Without the values of the old lookup key; it still opens deterministic tokens. Raises KeysError if no replacement
    is under way."""
    for entry in entries:
        if entry.slot == slot and entry.being_replaced:
            return _changed(entries, entry, replace(entry, retired=int(now)))
    raise KeysError(f"{slot}: its lookup key is not being replaced")


def disabled(entries: Entries, ids: Collection[bytes], now: float) -> Entries:
    """With the keys `ids` of no use until they are enabled again. Raises KeysError for an unknown or destroyed one."""

    def change(entry: Entry) -> Entry:
        _require_there(entry)
        if entry.state is KeyState.DISABLED:
            return entry
        changes = entry.changes + _ORDERED
        return replace(entry, state=KeyState.DISABLED, retired=entry.retired or int(now), changes=changes)

    return _each(entries, ids, change)


def enabled(entries: Entries, ids: Collection[bytes], now: float) -> Entries:
    """With the disabled keys `ids` opening again; they protect no more. A lookup key is active again if its slot has
    no other. Raises KeysError for an unknown or destroyed one."""
    active = {entry.slot for entry in entries if entry.state is KeyState.ACTIVE}

    def change(entry: Entry) -> Entry:
        _require_there(entry)
        if entry.state is not KeyState.DISABLED:
            return entry
        activated = entry.created if entry.activated is None else entry.activated
        used = replace(entry, activated=activated, changes=entry.changes + _ORDERED)
        if entry.slot.purpose is Purpose.LOOKUP and entry.slot not in active:
            return replace(used, state=KeyState.ACTIVE, retired=None)
        return replace(used, state=KeyState.RETIRING, retired=entry.retired or int(now))

    return _each(entries, ids, change)


def destroyed(entries: Entries, ids: Collection[bytes], now: float) -> Entries:
    """Without the wrapped DEKs of `ids`; their rows stay, so that no older copy brings them back. Raises KeysError for
    an unknown one."""

    def change(entry: Entry) -> Entry:
        if entry.state is KeyState.DESTROYED:
            return entry
        wrapped = replace(entry.wrapped, sealed=b"")
        return replace(entry, state=KeyState.DESTROYED, retired=entry.retired or int(now), wrapped=wrapped)

    return _each(entries, ids, change)


def rewrapped(entries: Entries, anew: Mapping[Wrapped, Wrapped]) -> Entries:
    """With other wrappings of the same DEKs, `anew` by those of before. What looks otherwise by now stays: it was
    destroyed meanwhile, or wrapped by somebody else."""
    return tuple(replace(entry, wrapped=anew.get(entry.wrapped, entry.wrapped)) for entry in entries)


def counted(entries: Entries, counts: Mapping[bytes, tuple[int, int]]) -> Entries:
    """With uses and bytes by key id."""
    return tuple(
        replace(entry, uses=counts[entry.id][0], size=counts[entry.id][1]) if entry.id in counts else entry
        for entry in entries
    )


def merged(mine: Document, other: Document) -> Document:
    """What two copies of one keyring say together: every key of both, each as the copy has it that changed it more
    often; of as many changes, the one further on in its life. What one of them has destroyed, or shredded, stays so.
    Counts are this machine's own.

    The revision of the whole says nothing of a key: another one's change must not undo what was said of this one. Both
    machines come to the same result, but for the counts.
    """
    newer, older = (other, mine) if other.revision > mine.revision else (mine, other)
    own = {entry.id: (entry.uses, entry.size) for entry in mine.entries}
    found = {entry.id: entry for entry in older.entries}
    for entry in newer.entries:
        found[entry.id] = max(found.get(entry.id, entry), entry, key=_further)
    together = sorted(found.values(), key=lambda entry: (entry.created, entry.id))
    zero = {entry.id: (0, 0) for entry in together}
    entries = _one_active(counted(tuple(together), zero | own))
    return replace(newer, entries=entries, shredded=mine.shredded | other.shredded)


def _further(entry: Entry) -> tuple[bool, int, int, int, int, bytes]:
    gone = entry.state is KeyState.DESTROYED
    life = _AGE[entry.state], entry.retired or 0, entry.activated or 0
    return gone, entry.changes, *life, entry.wrapped.sealed


def _one_active(entries: Entries) -> Entries:
    """Two machines that could not see each other may each have made a key active: the later one stays."""
    return settled(entries, max((e.activated or 0 for e in entries if e.state is KeyState.ACTIVE), default=0))


def _changed(entries: Entries, old: Entry, new: Entry) -> Entries:
    return tuple(new if entry is old else entry for entry in entries)


def _each(entries: Entries, ids: Collection[bytes], change: Callable[[Entry], Entry]) -> Entries:
    """With `change` done to the keys `ids`. Raises KeysError for an unknown one."""
    missing = set(ids) - {entry.id for entry in entries}
    if missing:
        raise KeysError(f"there is no key {min(missing).hex()}; see `wxgate keys list`")
    return tuple(change(entry) if entry.id in ids else entry for entry in entries)


def _require_there(entry: Entry) -> None:
    if entry.state is KeyState.DESTROYED:
        raise KeysError(f"key {entry.id.hex()} is destroyed")
