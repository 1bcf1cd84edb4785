"""One reading of the keyring, arranged for look-ups: what opens, what protects, what is being replaced."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.crypto.data_key import Purpose
from proxy.kms.cache import Held
from proxy.kms.keyring_format import USABLE, Entry, KeyState
from proxy.kms.service import Slot
from proxy.kms.transitions import settled
from proxy.ports import Owner


@dataclass(slots=True)
class Holdings:
    """`ready`: of those that protect, what can be used without waiting; whoever looks up enters them. `ids`: of every
    entry, usable or not. `next_due`: Unix seconds when a pending key becomes active, inf if none."""

    by_id: dict[tuple[Owner, bytes], Held] = field(default_factory=dict)
    by_slot: dict[Slot, Held] = field(default_factory=dict)
    replaced: dict[Slot, Held] = field(default_factory=dict)
    ready: dict[tuple[Owner, str, Purpose], Held] = field(default_factory=dict)
    ids: set[bytes] = field(default_factory=set)
    next_due: float = math.inf


def arranged(entries: tuple[Entry, ...], now: float, before: Holdings, protects: Callable[[Held], object]) -> Holdings:
    """`entries` as they are at `now` by the clock. What `before` had of the same keys goes on; `protects` is called
    with each active one."""
    found = Holdings()
    for entry in settled(entries, now):
        found.ids.add(entry.id)
        if entry.state in USABLE:
            held = _continued(entry, before.by_id.get((entry.slot.owner, entry.id)))
            found.by_id[entry.slot.owner, entry.id] = held
            if entry.state is KeyState.ACTIVE:
                found.by_slot[entry.slot] = held
                protects(held)
            elif entry.being_replaced:
                found.replaced[entry.slot] = held
            elif entry.state is KeyState.PENDING and entry.activated is not None:
                found.next_due = min(found.next_due, entry.activated)
    found.ready = {slot: held for slot, held in before.ready.items() if found.by_slot.get(Slot(*slot)) is held}
    return found


def _continued(entry: Entry, held: Held | None) -> Held:
    if held is None or held.entry.slot != entry.slot:
        return Held(entry)
    held.entry = entry
    return held
