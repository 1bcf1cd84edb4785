"""The keyring in use: which key protects and which open, from dictionaries; keys are unwrapped when they are needed.

The file is the truth. It is looked at every so often, and when a token names a key that is not known; what it no longer
lets be used is dropped at once. A pending key becomes active by the clock, whether or not the file says so yet.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from proxy.crypto.data_key import DataKey, KeyMismatchError, Purpose
from proxy.kms.budget import Meter, SharedBudget
from proxy.kms.cache import Held, KeyCache
from proxy.kms.custody import Custodian
from proxy.kms.distribution import Distribution, Outcome
from proxy.kms.gate import pause
from proxy.kms.holdings import arranged
from proxy.kms.key_report import KeyAge, age_of, failing_services, faults
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.limits import KeyLimits
from proxy.kms.service import KeysError, Slot
from proxy.kms.shredded import Shredded
from proxy.ports import Clock, Log, Measures, Owner
from proxy.refusal import Refusal

_TRIES = 100  # times others may take what one caller had allowed before it is refused


class Keyring:
    """The `Keys` port, used from one event loop."""

    def __init__(
        self,
        file: KeyringFile,
        cache: KeyCache,
        limits: KeyLimits,
        clock: Clock,
        budget: SharedBudget | None = None,
        custodian: Custodian | None = None,
        before: Keyring | None = None,
        distribution: Distribution | None = None,
    ) -> None:
        """Reads `file`; unwraps nothing yet. Without `budget` and `custodian` uses are not counted: for tools.

        Raises KeysError, KeyMismatchError; not if there is a keyring `before` it, which then says what is known.
        """
        self.file, self._cache, self._limits, self._clock = file, cache, limits, clock
        self._budget, self._custodian, self._distribution = budget, custodian, distribution
        self._monotonic = clock.monotonic
        self._held: dict[tuple[Owner, bytes], Held] = {}
        self._by_slot: dict[Slot, Held] = {}
        self._ready: dict[tuple[Owner, str, Purpose], Held] = {}
        self._previous: dict[Slot, Held] = {}
        self._ids: set[bytes] = set()
        self._next_due = math.inf
        self._next_look = -math.inf
        self._look: asyncio.Task[None] | None = None
        self._relief: dict[Slot, asyncio.Task[bool]] = {}
        self._disk: ThreadPoolExecutor | None = None
        self._keep_at, self._keep_failures = -math.inf, 0
        self.problem, self._over = "", False
        self._changes = budget.changes if budget else 0
        self._stamp: tuple[int, ...] | None = None
        self._document = Document(())
        if before is not None:
            self._take_up(before._document)
            self._adopt(before)
        try:
            self.reload()
        except (KeysError, KeyMismatchError) as error:
            if before is None:
                raise
            self.problem = str(error)

    # --- the port

    async def active(self, owner: Owner, group: str, purpose: Purpose) -> DataKey:
        """See Keys."""
        held = self._ready.get((owner, group, purpose))
        if held is not None and held.until > self._monotonic() and held.key is not None:
            held.used = True
            return held.key
        return await self._made_ready(Slot(owner, group, purpose))

    async def by_id(self, owner: Owner, key_id: bytes) -> DataKey | None:
        """See Keys. Pending and retiring keys open too; disabled and destroyed ones never do."""
        held = self._held.get((owner, key_id))
        if held is None:
            if key_id in self._ids:
                return None
            await self._look_for_unknown()
            held = self._held.get((owner, key_id))
            if held is None:
                return None
        if held.until > self._monotonic() and held.key is not None:
            held.used = True
            return held.key
        return await self._fetched(held)

    async def previous(self, owner: Owner, group: str) -> DataKey:
        """See Keys."""
        held = self._previous.get(Slot(owner, group, Purpose.LOOKUP))
        if held is None:
            return await self.active(owner, group, Purpose.LOOKUP)
        held.used = True
        return await self._fetched(held)

    # --- how keys become ready

    async def _fetched(self, held: Held) -> DataKey:
        if held.until > self._monotonic() and held.key is not None:
            return held.key
        return await self._cache.get(held)  # not one that was released meanwhile

    async def _made_ready(self, slot: Slot) -> DataKey:
        relieved = False
        for _ in range(_TRIES):
            held = self._by_slot.get(slot)
            if held is None:
                raise Refusal("key_unavailable")
            key = await self._fetched(held)
            if self._by_slot.get(slot) is not held:
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
                self._ready[slot] = held
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
            if self._custodian is None:
                return False
            document = await self._off_loop(self._custodian.relieve, slot, held.entry.id)
        except (KeysError, KeyMismatchError, Refusal) as error:
            held.retry_at = self._monotonic() + self._limits.refresh
            self._write(40, "key_not_replaced", key_id=held.entry.id.hex(), error=type(error).__name__)
            return False
        else:
            self._take_up(document)
            # What was allowed others may have taken by now; then the caller comes again.
            return not self._custodian.stuck
        finally:
            del self._relief[slot]

    def _metered(self, held: Held) -> None:
        """Gives a data key that protects its meter."""
        entry = held.entry
        if self._budget is None or held.meter is not None or entry.slot.purpose is not Purpose.DATA:
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
            self._ready.pop(held.entry.slot, None)  # the next one waits until there is more
        uses, size = meter.uses_taken, meter.size_taken
        if 2 * uses > self._limits.cache_uses or 2 * size > self._limits.cache_size:
            held.refresh_at = -math.inf
        if uses > self._limits.cache_uses or size > self._limits.cache_size:
            self._ready.pop(held.entry.slot, None)
            held.until = -math.inf
            meter.uses_taken = meter.size_taken = 0

    # --- the file

    def open_active(self) -> None:
        """Unwraps every key that protects or makes lookup values, in this thread: before the start.

        Raises KeysError, KeyMismatchError.
        """
        for held in (*self._by_slot.values(), *self._previous.values()):
            if held.key is None:
                self._cache.open_now(held)

    def _adopt(self, other: Keyring) -> None:
        """Takes over what `other` has unwrapped of keys that both know."""
        for name, held in self._held.items():
            theirs = other._held.get(name)
            if theirs is not None and theirs.entry.slot == held.entry.slot:
                self._cache.adopt(held, theirs)

    def reload(self) -> None:
        """Takes up what the file says now, all of it or nothing. Blocks.

        Raises KeysError, KeyMismatchError; the keys held so far then stay, and the caller sounds the alarm.
        """
        stamp = self.file.stamp()
        self._take_up(self.file.document())
        self._stamp = stamp

    async def tick(self, *, keep: bool = False) -> None:
        """Once every `refresh` seconds. `keep`: active keys are kept at hand even if nobody uses them."""
        await self._follow()
        await self._cache.refresh_services()
        if self._clock.now() >= self._next_due:
            self._arrange()
        soon = self._clock.now() + 2 * self._limits.activate_after
        for held in list(self._held.values()):
            entry = held.entry
            line = self._by_slot.get(entry.slot)
            coming = entry.state is KeyState.PENDING and entry.activated is not None and entry.activated <= soon
            known = coming and line is not None and line.key is not None
            self._cache.tend(held, wanted=known or (keep and line is held))

    def keep_now(self) -> None:
        """What Custodian.keep does, in this thread: before there is an event loop. Raises what it raises."""
        if self._custodian is not None:
            self._take_up(self._custodian.keep())

    async def keep(self) -> None:
        """The same if anything is due; a failure is told as a warning and tried again later."""
        custodian = self._custodian
        if custodian is None or self._monotonic() < self._keep_at or not custodian.due(self._document.entries):
            return
        try:
            self._take_up(await self._off_loop(custodian.keep))
        except (KeysError, KeyMismatchError, Refusal) as error:
            custodian.problem = str(error)
        if custodian.problem:
            self._keep_failures += 1
            self._keep_at = self._monotonic() + pause(self._keep_failures, 1.0)
            self._write(40, "keyring_not_kept")
        else:
            self._keep_failures = 0

    async def exchange(self) -> Outcome | None:
        """With the other machines; None if there are none. Raises KeysError, KeyMismatchError for the file."""
        if self._distribution is None:
            return None
        outcome, document = await self._off_loop(self._distribution.exchange)
        if outcome is Outcome.TAKEN and self._budget:
            self._budget.note_change()
        self._take_up(document)
        return outcome

    def settle_counts(self) -> None:
        """Writes down what was protected; when all workers have ended. Raises KeysError."""
        if self._custodian is not None:
            self._custodian.close()

    async def quiet(self) -> None:
        """Waits until no thread is at work."""
        tasks = [held.task for held in self._held.values() if held.task is not None]
        await asyncio.gather(*tasks, *self._relief.values(), return_exceptions=True)

    async def _look_for_unknown(self) -> None:
        """Looks at the file for a key nobody knows: at once if a process of this machine changed it, else at most once
        an interval. Never asks a key service."""
        if self._look is None:
            changed = self._budget is not None and self._budget.changes != self._changes
            if not changed and self._monotonic() < self._next_look:
                return
        await self._follow()

    async def _follow(self) -> None:
        """Takes up the file if it changed; one reading for all who wait."""
        if self._look is None:
            self._next_look = self._monotonic() + self._limits.refresh
            self._look = asyncio.get_running_loop().create_task(self._read())
        await asyncio.shield(self._look)

    async def _read(self) -> None:
        if (
            self._budget
        ):  # seen, whatever comes of it: a file that cannot be read is not read again for each unknown key
            self._changes = self._budget.changes
        try:
            stamp = self.file.stamp()
            if stamp != self._stamp:
                document = await self._off_loop(self.file.document)
                self._take_up(document)
                self._stamp = stamp
            self.problem = ""
        except (KeysError, KeyMismatchError) as error:
            if not self.problem:
                self._write(40, "keyring_unreadable", error=type(error).__name__)
            self.problem = str(error)
        finally:
            self._look = None

    def _take_up(self, document: Document) -> None:
        if self._over:
            return
        # The file counts, even if somebody put an older one in its place; readings come in the order they were made in.
        if document.revision < self._document.revision:
            self._write(40, "keyring_older")
        self._document = document
        self._arrange()

    def _arrange(self) -> None:
        found = arranged(self._document.entries, self._clock.now(), self._held, self._metered)
        for name, held in self._held.items():
            if found.by_id.get(name) is not held:
                held.release()
        self._held, self._by_slot, self._previous = found.by_id, found.by_slot, found.replaced
        self._ids, self._next_due = found.ids, found.next_due
        self._ready = {slot: held for slot, held in self._ready.items() if self._by_slot.get(Slot(*slot)) is held}

    async def _off_loop[*P, R](self, work: Callable[[*P], R], *arguments: *P) -> R:
        self._disk = self._disk or ThreadPoolExecutor(1, "keyring")
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)

    # --- telling

    def attach(self, log: Log, measures: Measures) -> None:
        """Who hears of faults and calls from now on."""
        self._cache.log, self._cache.measures = log, measures

    def _write(self, level: int, event: str, **facts: str | int | float) -> None:
        if self._cache.log:
            self._cache.log.write(level, event, **facts)

    def entries(self) -> tuple[Entry, ...]:
        """As the file said when it was last read."""
        return self._document.entries

    def shredded(self) -> frozenset[Shredded]:
        """The KEKs that are to be nowhere any more, as the file said when it was last read."""
        return self._document.shredded

    def not_ready(self) -> list[str]:
        """Why messages are refused, or soon will be."""
        return faults(self._held.values(), self._cache)

    def warnings(self) -> list[str]:
        """What somebody must look at while the gateway goes on."""
        found = [f"the keyring cannot be read: {self.problem}"] if self.problem else []
        if self._distribution is not None and self._distribution.problem:
            found.append(f"the keyring does not reach other machines: {self._distribution.problem}")
        if self._custodian is not None and self._custodian.problem:
            found.append(f"no successor for a data key: {self._custodian.problem}")
        return found + failing_services(self._held.values())

    def ages(self, now: float) -> list[KeyAge]:
        """One for every entry but destroyed ones, in the file's order. `now`: Unix seconds."""
        there = (entry for entry in self._document.entries if entry.state is not KeyState.DESTROYED)
        return [age_of(entry, self._limits, self._budget, now) for entry in there]

    def close(self) -> None:
        """Ends the threads and gives up every key; who has one goes on with it."""
        self._over = True
        for held in self._held.values():
            held.release()
        self._cache.close()
        if self._disk:
            self._disk.shutdown(wait=False, cancel_futures=True)
