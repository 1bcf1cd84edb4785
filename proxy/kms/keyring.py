"""The keyring in use: which key protects and which open, from dictionaries; keys are unwrapped when they are needed.

The file is the truth. It is looked at every so often, and when a token names a key that is not known; what it no longer
lets be used is dropped at once. A pending key becomes active by the clock, whether or not the file says so yet.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor

from proxy.crypto.data_key import DataKey, KeyMismatchError, Purpose
from proxy.kms.budget import Meter, SharedBudget
from proxy.kms.cache import Held, KeyCache
from proxy.kms.gate import THREADS
from proxy.kms.holdings import Holdings
from proxy.kms.key_report import KeyAge, age_of, closed_services, faults, left_over
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.limits import KeyLimits
from proxy.kms.reading import Reading
from proxy.kms.service import KeysError, NoKekError, Slot
from proxy.kms.shredded import Shredded
from proxy.kms.upkeep import Upkeep, Writers
from proxy.ports import Clock, Log, Measures, Owner
from proxy.refusal import Refusal

_TRIES = 100  # times others may take what one caller had allowed before it is refused
_QUIET = 1.0  # seconds until calls of a key service that have not begun are called off


class Keyring:
    """The `Keys` port, used from one event loop. `upkeep`: what is done to its file."""

    def __init__(
        self,
        file: KeyringFile,
        cache: KeyCache,
        limits: KeyLimits,
        clock: Clock,
        budget: SharedBudget,
        writers: Writers,
        before: Keyring | None = None,
    ) -> None:
        """Reads `file`; unwraps nothing yet.

        Raises KeysError, KeyMismatchError; not if there is a keyring `before` it, which then says what is known.
        """
        self.file, self._cache, self._limits, self._clock = file, cache, limits, clock
        self._budget, self._monotonic = budget, clock.monotonic
        self._reading = Reading(file, limits.refresh, clock, budget, self._metered, cache.write)
        self.upkeep = Upkeep(writers, self._reading, clock.monotonic, cache.write)
        self._relief: dict[Slot, asyncio.Task[bool]] = {}
        if before is not None:
            self._reading.take_up(before._reading.document)
            self._adopt(before)
        try:
            self.reload()
        except (KeysError, KeyMismatchError) as error:
            if before is None:
                raise
            self._reading.problem = str(error)

    # --- the port

    def at_hand(self, owner: Owner, group: str, purpose: Purpose) -> DataKey | None:
        """See Keys."""
        held = self._reading.holdings.ready.get((owner, group, purpose))
        if held is not None and held.until > self._monotonic() and held.key is not None:
            held.used = True
            return held.key
        return None

    async def active(self, owner: Owner, group: str, purpose: Purpose) -> DataKey:
        """See Keys."""
        return self.at_hand(owner, group, purpose) or await self._made_ready(Slot(owner, group, purpose))

    async def by_id(self, owner: Owner, key_id: bytes) -> DataKey | None:
        """See Keys. Pending and retiring keys open too; disabled and destroyed ones never do."""
        held = self._holdings.by_id.get((owner, key_id))
        if held is None:
            if key_id in self._holdings.ids:
                return None
            await self._reading.look_for_unknown()
            held = self._holdings.by_id.get((owner, key_id))
            if held is None:
                return None
        if held.until > self._monotonic() and held.key is not None:
            held.used = True
            return held.key
        return await self._fetched(held)

    async def previous(self, owner: Owner, group: str) -> DataKey:
        """See Keys."""
        held = self._holdings.replaced.get(Slot(owner, group, Purpose.LOOKUP))
        if held is None:
            return await self.active(owner, group, Purpose.LOOKUP)
        held.used = True
        return await self._fetched(held)

    # --- how keys become ready

    @property
    def _holdings(self) -> Holdings:
        return self._reading.holdings

    async def _fetched(self, held: Held) -> DataKey:
        if held.until > self._monotonic() and held.key is not None:
            return held.key
        return await self._cache.get(held)  # not one that was released meanwhile

    async def _made_ready(self, slot: Slot) -> DataKey:
        relieved = False
        for _ in range(_TRIES):
            held = self._holdings.by_slot.get(slot)
            if held is None:
                raise Refusal("key_unavailable")
            key = await self._fetched(held)
            if self._holdings.by_slot.get(slot) is not held:
                continue
            meter = held.meter
            if meter is not None:
                some = meter.ready()
                if meter.scarce and not (some and relieved) and await self._relieved(slot, held):
                    relieved, meter.scarce = True, False
                    continue
                if not some:
                    break
            if held.until > self._monotonic():  # the meter may have found that it served often enough
                self._holdings.ready[slot] = held
                return key
        raise Refusal("key_unavailable")

    async def _relieved(self, slot: Slot, held: Held) -> bool:
        """Has more of the budget allowed, or the key replaced; one for all who wait. Whether that went well."""
        if slot not in self._relief:
            if held.retry_at > self._monotonic():
                return False
            self._relief[slot] = asyncio.get_running_loop().create_task(self._relieve(slot, held))
        return await asyncio.shield(self._relief[slot])

    async def _relieve(self, slot: Slot, held: Held) -> bool:
        try:
            return await self.upkeep.relieve(slot, held.entry.id)
        except (KeysError, KeyMismatchError, Refusal) as error:
            held.retry_at = self._monotonic() + self._limits.refresh
            self._cache.write(40, "key_not_replaced", key_id=held.entry.id.hex(), error=type(error).__name__)
            return False
        finally:
            del self._relief[slot]

    def _metered(self, held: Held) -> None:
        """Gives a data key that protects its meter."""
        entry = held.entry
        if held.meter is not None or entry.slot.purpose is not Purpose.DATA:
            return
        self._budget.admit(entry.id, entry.uses, entry.size)
        held.meter = Meter(self._budget, entry.id, self._limits.block, lambda: self._taken(held))
        if held.key is not None:
            held.key = held.key.metered(held.meter.spend)

    def _taken(self, held: Held) -> None:
        meter = held.meter
        if meter is None:
            return
        if meter.scarce:
            self._holdings.ready.pop(held.entry.slot, None)  # the next one waits until there is more
        uses, size = meter.uses_taken, meter.size_taken
        if 2 * uses > self._limits.cache_uses or 2 * size > self._limits.cache_size:
            held.refresh_at = -math.inf
        if uses > self._limits.cache_uses or size > self._limits.cache_size:
            self._holdings.ready.pop(held.entry.slot, None)
            held.until = -math.inf
            meter.uses_taken = meter.size_taken = 0

    # --- at the start, and from time to time

    def reload(self) -> None:
        """See Reading."""
        self._reading.reload()

    def open_active(self) -> None:
        """Unwraps every key that protects or makes lookup values, a few at a time, before there is an event loop. All
        threads have ended when this returns.

        Keys that were taken over are not asked for again, and those with a service of their tenant's own are left to
        the first `tick`: that it is closed must stop neither start nor reload. No more must a key that another machine
        made before it knew of a shredding. Raises KeysError, KeyMismatchError.
        """
        wanted = (*self._holdings.by_slot.values(), *self._holdings.replaced.values())
        missing = [held for held in wanted if held.key is None and not self._cache.is_tenants(held)]
        with ThreadPoolExecutor(THREADS, "open") as pool:
            for _ in pool.map(self._open_now, missing):
                pass

    def _open_now(self, held: Held) -> None:
        try:
            self._cache.open_now(held)
        except NoKekError:
            if not self._is_left_over(held):
                raise

    def _is_left_over(self, held: Held) -> bool:
        """Whether its KEK is nowhere here, and was shredded or belongs to an owner who was: no other tenant is to wait
        for this one."""
        return held.kekless and any(each.owner == held.entry.slot.owner for each in self.shredded())

    def _adopt(self, other: Keyring) -> None:
        """Takes over what `other` has unwrapped of keys that both know."""
        for name, held in self._holdings.by_id.items():
            theirs = other._holdings.by_id.get(name)
            if theirs is not None and theirs.entry.slot == held.entry.slot:
                self._cache.adopt(held, theirs)

    async def tick(self, *, keep: bool = False) -> None:
        """Once every `refresh` seconds. `keep`: active keys are kept at hand even if nobody uses them."""
        await self._reading.follow()
        await self._cache.refresh_services()
        if self._clock.now() >= self._holdings.next_due:
            self._reading.arrange()
        soon = self._clock.now() + 2 * self._limits.activate_after
        for held in list(self._holdings.by_id.values()):
            entry = held.entry
            line = self._holdings.by_slot.get(entry.slot)
            coming = entry.state is KeyState.PENDING and entry.activated is not None and entry.activated <= soon
            known = coming and line is not None and line.key is not None
            self._cache.tend(held, wanted=known or (keep and line is held))

    async def quiet(self) -> None:
        """Waits until no thread is at work. What has not begun after a moment is called off, and comes with the next
        `tick`: a key service that is slow must not hold this up."""
        tasks = list(self._cache.tasks)  # those of keys that were taken out of use too
        if tasks:
            await asyncio.wait(tasks, timeout=_QUIET)
        self._cache.call_off()
        await asyncio.gather(*tasks, *self._relief.values(), return_exceptions=True)

    # --- telling

    def attach(self, log: Log, measures: Measures | None) -> None:
        """Who hears of faults and calls from now on."""
        self._cache.log, self._cache.measures = log, measures

    def entries(self) -> tuple[Entry, ...]:
        """As the file said when it was last read."""
        return self._reading.document.entries

    def shredded(self) -> frozenset[Shredded]:
        """The KEKs that are to be nowhere any more, as the file said when it was last read."""
        return self._reading.document.shredded

    def not_ready(self) -> list[str]:
        """Why messages are refused, or soon will be."""
        held = self._holdings.by_id.values()
        return faults([each for each in held if not self._is_left_over(each)], self._cache)

    def warnings(self) -> list[str]:
        """What somebody must look at while the gateway goes on."""
        problem = self._reading.problem
        found = [f"the keyring cannot be read: {problem}"] if problem else []
        held = self._holdings.by_id.values()
        others = [each for each in held if not self._is_left_over(each)]
        return [
            *found,
            *self.upkeep.warnings(),
            *closed_services(others, self._cache),
            *left_over(each for each in held if self._is_left_over(each)),
        ]

    def ages(self, now: float) -> list[KeyAge]:
        """One for every entry but destroyed ones, in the file's order. `now`: Unix seconds."""
        there = (entry for entry in self.entries() if entry.state is not KeyState.DESTROYED)
        return [age_of(entry, self._limits, self._budget, now) for entry in there]

    def close(self) -> None:
        """Gives up every key; who has one goes on with it."""
        self._reading.close()
        self._cache.close()
