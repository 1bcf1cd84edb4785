"""What the gateway writes into its keyring by itself: budgets allowed, states settled, counts at the end.

Everything here blocks on the disk and belongs into a thread; no key service is asked. Processes that want the same
thing at once wait for each other at the file's lock, and all but the first find it done. New keys: successors.py.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from proxy.crypto.data_key import Purpose
from proxy.kms import transitions
from proxy.kms.budget import SharedBudget
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.limits import KeyLimits
from proxy.kms.service import Slot
from proxy.kms.transitions import Entries

# What is written to the disk as used at a time: so many parts of a budget.
_CHUNK = 16
_LINGER = 3600.0  # seconds; no exchange takes so long
_LAST_PATIENCE = 2.0  # seconds the end of all workers waits for the file's lock


class Custodian:
    """One in each process. Methods that change the file raise KeysError, KeyMismatchError."""

    def __init__(self, file: KeyringFile, limits: KeyLimits, budget: SharedBudget, now: Callable[[], float]) -> None:
        """`now`: the clock, in Unix seconds."""
        self.file, self.limits, self.now = file, limits, now
        self._budget = budget

    def relieve(self, slot: Slot, key_id: bytes) -> tuple[Document, bool]:
        """Sees to it that `slot` can protect on, if `key_id` is still its active key: allows more of its budget, or
        puts a successor in its place that waits. The keyring afterwards, and whether it can protect on."""

        def edit(entries: Entries) -> Entries:
            now = self.now()
            entries = transitions.settled(entries, now)
            active = still_active(entries, slot, key_id)
            if active is None:
                return entries
            entries = self._with_budget(entries, [active])
            return entries if self.has_left(active.id) else self._hastened(entries, slot, now)

        after = self.change(edit)
        return after, still_active(after.entries, slot, key_id) is None or self.has_left(key_id)

    def keep(self) -> Document:
        """What is due: keys that become active, budgets that run low. The keyring afterwards."""

        def edit(entries: Entries) -> Entries:
            entries = transitions.settled(entries, self.now())
            return self._with_budget(entries, active_data(entries))

        after = self.change(edit)
        self._budget.forget([entry.id for entry in after.entries if _counts(entry, self.now())])
        return after

    def due(self, entries: Entries) -> bool:
        """Whether `keep` has anything to do; costs no reading."""
        settled = transitions.settled(entries, self.now())
        return settled != entries or any(self._is_due(entry) for entry in active_data(entries))

    def close(self) -> None:
        """At the end of all workers: what was given out is what was used."""

        def edit(document: Document) -> Document:
            self._count_elsewhere(document.entries)
            counts = ((entry.id, self._budget.counts(entry.id)) for entry in document.entries)
            found = {key_id: used for key_id, used in counts if used is not None}
            return replace(document, entries=transitions.counted(document.entries, found))

        self.file.change_document(edit, _LAST_PATIENCE)

    def note_change(self) -> None:
        """Tells the other processes that the file is another one."""
        self._budget.note_change()

    # --- for successors

    def change(self, edit: Callable[[Entries], Entries]) -> Document:
        """Changes the file, then allows what it says as used, then tells the other processes; the keyring then."""
        before = Document(())

        def whole(document: Document) -> Document:
            nonlocal before
            before = document
            self._count_elsewhere(_protecting(document.entries))
            return replace(document, entries=edit(document.entries))

        # While the file is locked: what it says beyond what is allowed, no process of this machine wrote.
        after = self.file.change_document(whole, kept=self._allow)
        if after != before:
            self.note_change()
        return after

    def admitted(self, entry: Entry, now: float, at: float) -> Entry:
        """A new key as it is put into the file `now`, with the first part of its budget; to become active `at`."""
        self._budget.admit(entry.id, 0, 0, fresh=True)
        uses, size = (max(limit // _CHUNK, 1) for limit in self._all())
        return replace(entry, created=int(now), activated=int(at), uses=uses, size=size)

    def has_left(self, key_id: bytes) -> bool:
        """Whether the key may protect on: a block of its budget as a whole is there to be taken."""
        both = zip(self._used(key_id), self._all(), self.limits.block, strict=True)
        return all(limit - given >= block for given, limit, block in both)

    def spent(self, key_id: bytes) -> float:
        """Part of its budget that was given out, from 0 to 1."""
        return max(given / limit for given, limit in zip(self._used(key_id), self._all(), strict=True))

    # --- budgets

    def _used(self, key_id: bytes) -> tuple[int, int]:
        return self._budget.counts(key_id) or (0, 0)

    def _all(self) -> tuple[int, int]:
        return self.limits.uses, self.limits.size

    def _allow(self, document: Document) -> None:
        for entry in _protecting(document.entries):
            self._budget.allow(entry.id, entry.uses, entry.size)

    def _count_elsewhere(self, entries: Iterable[Entry]) -> None:
        """Takes over counts that somebody else put into the file, as an import does. What is left of a key must not be
        given out twice; a part of a budget that a killed process did not come to allow is lost with it."""
        for entry in entries:
            self._budget.count_elsewhere(entry.id, entry.uses, entry.size)

    def _is_due(self, entry: Entry) -> bool:
        given, allowed = self._budget.counts(entry.id), self._budget.allowed(entry.id)
        if given is None or allowed is None:
            return True
        return entry.uses > allowed[0] or entry.size > allowed[1] or self._allowance(entry, given) is not None

    def _allowance(self, entry: Entry, used: tuple[int, int]) -> tuple[int, int] | None:
        """What the file should say as used: a chunk ahead of what was given out. None if it is far enough ahead."""
        wanted = []
        short = False
        for given, allowed, limit in zip(used, (entry.uses, entry.size), self._all(), strict=True):
            chunk = max(limit // _CHUNK, 1)
            short = short or (allowed < limit and allowed - given <= chunk // 2)
            wanted.append(max(min(limit, given + chunk), allowed))
        return (wanted[0], wanted[1]) if short else None

    def _with_budget(self, entries: Entries, active: Iterable[Entry]) -> Entries:
        counts = {}
        for entry in active:
            self._budget.admit(entry.id, entry.uses, entry.size)
            used = self._budget.counts(entry.id) or (entry.uses, entry.size)
            if (wanted := self._allowance(entry, used)) is not None:
                counts[entry.id] = wanted
        return transitions.counted(entries, counts)

    def _hastened(self, entries: Entries, slot: Slot, now: float) -> Entries:
        """With the key that waits in `slot` active at once. Where machines share the keyring, one that all of them
        know."""
        known = now - self.limits.activate_after if self.limits.machines > 1 else now
        waiting = [e for e in entries if e.slot == slot and e.state is KeyState.PENDING and e.created <= known]
        return transitions.hastened(entries, slot, now) if waiting else entries


def still_active(entries: Entries, slot: Slot, key_id: bytes) -> Entry | None:
    """The key `key_id` if it is the one that protects in `slot`."""
    active = (entry for entry in entries if entry.slot == slot and entry.state is KeyState.ACTIVE)
    return next((entry for entry in active if hmac.compare_digest(entry.id, key_id)), None)


def active_data(entries: Entries) -> list[Entry]:
    """The keys that protect."""
    return [entry for entry in entries if _is_data(entry, KeyState.ACTIVE)]


def _is_data(entry: Entry, state: KeyState) -> bool:
    return entry.slot.purpose is Purpose.DATA and entry.state is state


def _counts(entry: Entry, now: float) -> bool:
    """Whether anything may be protected with the key: by exchanges that began before it retired, too."""
    waits = entry.state is KeyState.PENDING or entry.state is KeyState.ACTIVE
    return entry.slot.purpose is Purpose.DATA and (waits or (entry.retired or 0) > now - _LINGER)


def _protecting(entries: Entries) -> Iterator[Entry]:
    return (e for e in entries if _is_data(e, KeyState.ACTIVE) or _is_data(e, KeyState.PENDING))
