"""New data keys that the gateway makes by itself: ahead of time for those that are old or nearly spent, and at once for
one that is spent.

A key service may take its time or say nothing: it is asked while everybody else can read and change the keyring. Who
makes keys holds a lock of those only who make keys with the same service, so that they find them made; then those that
are still wanted are put into the file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from proxy.crypto.data_key import KeyMismatchError
from proxy.kms import transitions
from proxy.kms.bounded import PATIENCE
from proxy.kms.custody import Custodian, active_data, still_active
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.making import new_entry
from proxy.kms.service import KeysError, Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.transitions import Entries
from proxy.ports import Entropy, Owner

_SOFT = 0.75  # part of a budget from where on a successor is made
_AT_ONCE = 50  # made between two changes of the file
_PATIENCE = 2.0  # seconds to wait for others who make keys: those that are due are looked for again soon


class Successors:
    """One in each process. `make` and `replace` block: for PATIENCE and two more calls of a key service at most."""

    def __init__(
        self, custodian: Custodian, services: ServiceSet, entropy: Entropy, monotonic: Callable[[], float]
    ) -> None:
        self._custodian, self._services, self._entropy = custodian, services, entropy
        self._monotonic = monotonic
        self._failed: set[Owner] = set()

    def wanting(self, entries: Entries) -> list[Slot]:
        """Slots whose active data key is old or nearly spent, and that have no successor yet. Costs no reading."""
        waiting = {entry.slot for entry in entries if entry.state is KeyState.PENDING and entry.activated is not None}
        return [entry.slot for entry in active_data(entries) if entry.slot not in waiting and self._is_worn(entry)]

    def make(self) -> str:
        """Puts a pending key into every slot that wants one, in a few turns if there are many. The first problem there
        was, empty if there was none.

        Owners whose key service failed the last time come last, and when the time is over none is begun: one tenant's
        closed service is no other's matter, but each call may take long.
        """
        until = self._monotonic() + PATIENCE
        slots = self.wanting(self._entries())
        slots.sort(key=lambda slot: slot.owner in self._failed)
        problems: dict[Owner, str] = {}
        for name in dict.fromkeys(self._services.of(slot.owner).name for slot in slots):
            if self._monotonic() >= until:
                break
            some = {slot.owner for slot in slots if self._services.of(slot.owner).name == name}
            try:
                with self._custodian.file.making([name], _PATIENCE):
                    problems |= self._make(some, until)
            except KeysError as error:  # somebody else makes keys there
                problems |= dict.fromkeys(some, str(error))
        self._failed = set(problems)
        return next(iter(problems.values()), "")

    def replace(self, slot: Slot, key_id: bytes) -> None:
        """Another active key in `slot`, if `key_id` still is and is spent; where machines share the keyring a pending
        one, since no other machine knows it. Raises KeysError, KeyMismatchError."""
        limits = self._custodian.limits

        def wanting(entries: Entries) -> list[Slot]:
            entries = transitions.settled(entries, self._custodian.now())
            if still_active(entries, slot, key_id) is None or self._custodian.has_left(key_id):
                return []
            return [slot] if limits.machines == 1 or slot in self.wanting(entries) else []

        with self._custodian.file.making([self._services.of(slot.owner).name]):
            if wanting(self._custodian.file.read()):
                delay = limits.activate_after if limits.machines > 1 else 0.0
                self._put([self._made(slot)], wanting, delay)

    def _entries(self) -> Entries:
        return transitions.settled(self._custodian.file.read(), self._custodian.now())

    def _make(self, owners: Collection[Owner], until: float) -> dict[Owner, str]:
        """For `owners`, who have one key service; the problems it made."""
        failed: dict[Owner, str] = {}
        made: list[Entry] = []
        for slot in sorted(self.wanting(self._entries()), key=lambda slot: slot.owner in self._failed):
            if self._monotonic() >= until or len(made) >= _AT_ONCE:
                break
            if slot.owner not in owners or slot.owner in failed:
                continue
            try:
                made.append(self._made(slot))
            except (KeysError, KeyMismatchError) as error:
                failed[slot.owner] = str(error)
        if made:
            self._put(made, self.wanting, self._custodian.limits.activate_after)
        return failed

    def _made(self, slot: Slot) -> Entry:
        now = self._custodian.now()
        return new_entry(self._services, slot, now, now, self._entropy)

    def _put(self, made: list[Entry], wanting: Callable[[Entries], list[Slot]], delay: float) -> None:
        """Into the file, those that are still wanted there; to become active `delay` seconds after that, however long
        they took to make."""

        def edit(entries: Entries) -> Entries:
            now = self._custodian.now()
            entries = transitions.settled(entries, now)
            wanted = set(wanting(entries))
            new = [self._custodian.admitted(entry, now, now + delay) for entry in made if entry.slot in wanted]
            return transitions.added(entries, new, now)

        self._custodian.change(edit)

    def _is_worn(self, entry: Entry) -> bool:
        limits = self._custodian.limits
        age = self._custodian.now() - (entry.activated or 0)
        return age >= limits.rotate_after - limits.activate_after or self._custodian.spent(entry.id) >= _SOFT
