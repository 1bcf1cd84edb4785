"""What the gateway does to its keyring by itself: successors made ahead of time, budgets allowed, states settled.

Everything here blocks (disk, key service) and belongs into a thread. Processes that want the same thing at once wait
for each other at the file's lock, and all but the first find it done.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from proxy.crypto.data_key import KeyMismatchError, Purpose
from proxy.kms import transitions
from proxy.kms.budget import SharedBudget
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.limits import KeyLimits
from proxy.kms.making import new_entry
from proxy.kms.service import KeysError, Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.transitions import Entries
from proxy.ports import Entropy, Owner

# Of a budget: what is written to the disk as used at a time, and from where on a successor is made.
_CHUNK = 16
_SOFT = 0.75
_LINGER = 3600.0  # seconds; no exchange takes so long
# Successors made in one change of the file, so that it is not locked for long.
_AT_ONCE = 50
_GIVE_UP = 3  # owners whose key service makes none: it is the same for all, probably


class Custodian:
    """One in each process. All methods raise KeysError, KeyMismatchError."""

    def __init__(
        self,
        file: KeyringFile,
        services: ServiceSet,
        limits: KeyLimits,
        budget: SharedBudget,
        entropy: Entropy,
        now: Callable[[], float],
    ) -> None:
        """`now`: the clock, in Unix seconds."""
        self._file, self._services, self._limits = file, services, limits
        self._budget, self._entropy, self._now = budget, entropy, now
        self.stuck = False  # whether a spent key could not be replaced
        self.problem = ""  # why a successor could not be made ahead of time

    def relieve(self, slot: Slot, key_id: bytes) -> Document:
        """Sees to it that `slot` can protect on, if `key_id` is still its active key: allows more of its budget, or
        puts a successor in its place. The keyring afterwards."""

        def edit(entries: Entries) -> Entries:
            now = self._now()
            entries = transitions.settled(entries, now)
            active = _active(entries, slot)
            if active is None or not hmac.compare_digest(active.id, key_id):
                return entries
            entries = self._with_budget(entries, [active])
            if self._has_left(active.id):
                return self._with_successors(entries, self._wanting(entries, [active], now), now)
            after = self._replaced(entries, slot, now)
            self.stuck = _active(after, slot) == active
            return after

        self.stuck = False
        return self._change(edit)

    def keep(self) -> Document:
        """What is due: keys that become active, budgets that run low, successors of keys that are old or nearly spent.
        The keyring afterwards."""

        def edit(entries: Entries) -> Entries:
            now = self._now()
            entries = transitions.settled(entries, now)
            active = [entry for entry in entries if _is_data(entry, KeyState.ACTIVE)]
            entries = self._with_budget(entries, active)
            return self._with_successors(entries, self._wanting(entries, active, now), now)

        after = self._change(edit)
        self._budget.forget([entry.id for entry in after.entries if _counts(entry, self._now())])
        return after

    def due(self, entries: Entries) -> bool:
        """Whether `keep` has anything to do; costs no reading."""
        now = self._now()
        if transitions.settled(entries, now) != entries:
            return True
        active = [entry for entry in entries if _is_data(entry, KeyState.ACTIVE)]
        return any(self._runs_low(entry) for entry in active) or bool(self._wanting(entries, active, now))

    def close(self) -> None:
        """At the end of all workers: what was given out is what was used."""

        def edit(entries: Entries) -> Entries:
            counts = ((entry.id, self._budget.counts(entry.id)) for entry in entries)
            return transitions.counted(entries, {key_id: found for key_id, found in counts if found is not None})

        self._file.change(edit)

    # --- budgets

    def _has_left(self, key_id: bytes) -> bool:
        """Whether the key may protect on: a block of its budget as a whole is there to be taken."""
        counts = self._budget.counts(key_id) or (0, 0)
        both = zip(counts, self._all(), self._limits.block, strict=True)
        return all(limit - given >= block for given, limit, block in both)

    def _runs_low(self, entry: Entry) -> bool:
        found = self._budget.counts(entry.id)
        return found is None or self._allowance(entry, found) is not None

    def _allowance(self, entry: Entry, used: tuple[int, int]) -> tuple[int, int] | None:
        """What the file should say as used: a chunk ahead of what was given out. None if it is far enough ahead."""
        wanted = []
        short = False
        for given, allowed, limit in zip(used, (entry.uses, entry.size), self._all(), strict=True):
            chunk = max(limit // _CHUNK, 1)
            short = short or (allowed < limit and allowed - given <= chunk // 2)
            wanted.append(max(min(limit, given + chunk), allowed))
        return (wanted[0], wanted[1]) if short else None

    def _all(self) -> tuple[int, int]:
        return self._limits.uses, self._limits.size

    def _with_budget(self, entries: Entries, active: Iterable[Entry]) -> Entries:
        counts = {}
        for entry in active:
            self._budget.admit(entry.id, entry.uses, entry.size)
            used = self._budget.counts(entry.id) or (entry.uses, entry.size)
            if (wanted := self._allowance(entry, used)) is not None:
                counts[entry.id] = wanted
        return transitions.counted(entries, counts)

    # --- successors

    def _wanting(self, entries: Entries, active: Iterable[Entry], now: float) -> list[Slot]:
        """Slots whose active key is old or nearly spent, and that have no successor yet."""
        waiting = {entry.slot for entry in entries if entry.state is KeyState.PENDING and entry.activated is not None}
        return [entry.slot for entry in active if entry.slot not in waiting and self._is_worn(entry, now)]

    def _is_worn(self, entry: Entry, now: float) -> bool:
        if now - (entry.activated or 0) >= self._limits.rotate_after - self._limits.activate_after:
            return True
        used = self._budget.counts(entry.id) or (0, 0)
        return any(given >= _SOFT * limit for given, limit in zip(used, self._all(), strict=True))

    def _with_successors(self, entries: Entries, slots: list[Slot], now: float) -> Entries:
        """With pending keys for `slots`; without those whose key service makes none now, and `problem` set."""
        at = now + self._limits.activate_after
        made: list[Entry] = []
        failed: dict[Owner, str] = {}
        for slot in slots:
            if len(made) >= _AT_ONCE or len(failed) >= _GIVE_UP:
                break
            if slot.owner in failed:  # one tenant's closed service is no other's matter, but each call may take long
                continue
            try:
                made.append(self._made(slot, now, at))
            except (KeysError, KeyMismatchError) as error:
                failed[slot.owner] = str(error)
        self.problem = next(iter(failed.values()), "")
        return transitions.added(entries, made, now)

    def _replaced(self, entries: Entries, slot: Slot, now: float) -> Entries:
        """With another active key in `slot` at once. Where machines share the keyring, one that all of them know."""
        known = now - self._limits.activate_after if self._limits.machines > 1 else now
        waiting = [e for e in entries if e.slot == slot and e.state is KeyState.PENDING and e.created <= known]
        if waiting:
            return transitions.hastened(entries, slot, now)
        if self._limits.machines > 1:
            return self._with_successors(
                entries, self._wanting(entries, [e for e in entries if e.slot == slot], now), now
            )
        return transitions.added(entries, [self._made(slot, now, now)], now)

    def _made(self, slot: Slot, now: float, at: float) -> Entry:
        entry = new_entry(self._services, slot, now, at, self._entropy)
        self._budget.admit(entry.id, 0, 0, fresh=True)
        uses, size = (max(limit // _CHUNK, 1) for limit in self._all())
        return replace(entry, uses=uses, size=size)

    def _change(self, edit: Callable[[Entries], Entries]) -> Document:
        """Changes the file, then allows what it says as used, then tells the other processes."""
        before = after = Document(())

        def whole(document: Document) -> Document:
            nonlocal before
            before = document
            return replace(document, entries=edit(document.entries))

        after = self._file.change_document(whole)
        for entry in _protecting(after.entries):
            self._budget.allow(entry.id, entry.uses, entry.size)
        if after != before:
            self._budget.note_change()
        return after


def _is_data(entry: Entry, state: KeyState) -> bool:
    return entry.slot.purpose is Purpose.DATA and entry.state is state


def _counts(entry: Entry, now: float) -> bool:
    """Whether anything may be protected with the key: by exchanges that began before it retired, too."""
    waits = entry.state is KeyState.PENDING or entry.state is KeyState.ACTIVE
    return entry.slot.purpose is Purpose.DATA and (waits or (entry.retired or 0) > now - _LINGER)


def _protecting(entries: Entries) -> Iterator[Entry]:
    return (e for e in entries if _is_data(e, KeyState.ACTIVE) or _is_data(e, KeyState.PENDING))


def _active(entries: Entries, slot: Slot) -> Entry | None:
    return next((entry for entry in entries if entry.slot == slot and entry.state is KeyState.ACTIVE), None)
