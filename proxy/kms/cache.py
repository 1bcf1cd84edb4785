"""Unwrapped data keys and how they are had: at most one call per key at a time, none soon after one that failed.

A key serves for a stated age after the key service last answered for it. From half of that age on it is asked again in
the background, and nobody waits for that; the other half is the grace while the service is down. Everything here runs
on one event loop; dropping a key here takes it from nobody who is using it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

from proxy.crypto.data_key import DataKey, KeyMismatchError
from proxy.kms.budget import Meter
from proxy.kms.gate import Gate, pause
from proxy.kms.keyring_format import Entry
from proxy.kms.limits import KeyLimits
from proxy.kms.service import Holding, KeysError, KeyService, KeyServiceDownError, NoKekError
from proxy.kms.service_set import ServiceSet
from proxy.ports import Clock, Log, Measures
from proxy.refusal import Refusal

_FINAL = 6  # failures: what will hardly change soon is asked for rarely


class Held:
    """An entry and its DEK while it is unwrapped. `until`: monotonic seconds it may serve, -inf if it is not there.
    `kekless`: its key service said that it has no such KEK. `meter`: of a key that protects. `over`: it was released
    and takes no key any more."""

    __slots__ = (
        *("entry", "failures", "kekless", "key", "meter", "mismatched", "over"),
        *("refresh_at", "retry_at", "task", "until", "used"),
    )

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.key: DataKey | None = None
        self.until = self.refresh_at = self.retry_at = -math.inf
        self.failures = 0
        self.mismatched = self.kekless = False
        self.used = self.over = False
        self.task: asyncio.Task[None] | None = None
        self.meter: Meter | None = None

    def drop(self) -> None:
        self.key = None
        self.until = -math.inf

    def release(self) -> None:
        """Drops the key for good. Nothing here refers to it then: no collector is needed, and none may ever come, for
        what lives when a worker begins to serve is frozen."""
        self.drop()
        self.meter, self.over = None, True


class KeyCache:
    """Unwraps. `log` and `measures` may be given later."""

    def __init__(
        self,
        services: ServiceSet,
        limits: KeyLimits,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        """`chance`: evenly distributed from 0 to 1, for jitter."""
        self._services, self._limits, self._clock, self._chance = services, limits, clock, chance
        self._gates: dict[str, Gate] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        """Calls of key services that are under way."""
        self.log: Log | None = None
        self.measures: Measures | None = None

    async def get(self, held: Held) -> DataKey:
        """The key, unwrapped now if need be. Refusal `key_unavailable` if it cannot be had."""
        if held.until <= self._clock.monotonic():
            task = self.begin(held)
            if task is None:
                raise Refusal("key_unavailable")
            # Who stops waiting does not stop the others.
            await asyncio.shield(task)
        if held.key is None or held.until <= self._clock.monotonic():
            raise Refusal("key_unavailable")
        return held.key

    def begin(self, held: Held) -> asyncio.Task[None] | None:
        """The call for `held` that is under way, or a new one; None too soon after a failure, and of what is over."""
        if held.over:
            return None
        if held.task is None and held.retry_at <= self._clock.monotonic():
            held.task = asyncio.get_running_loop().create_task(self._fetch(held))
            self.tasks.add(held.task)
            held.task.add_done_callback(self.tasks.discard)
        return held.task

    def open_now(self, held: Held) -> None:
        """Unwraps in this thread, before there is an event loop. Raises KeysError, KeyMismatchError."""
        entry = held.entry
        try:
            dek = self._services.unwrap(entry.slot, entry.wrapped)
        except NoKekError:
            held.kekless = True
            raise
        self._put(held, self._made(held, dek))

    def adopt(self, held: Held, other: Held) -> None:
        """Takes over what another cache had unwrapped, with its age, or a shorter one that is stated now."""
        held.key = self._handle(other.key, held) if other.key is not None else None
        until, refresh_at = self._times(held)
        held.until, held.refresh_at = min(other.until, until), min(other.refresh_at, refresh_at)
        held.used = other.used

    def tend(self, held: Held, *, wanted: bool) -> None:
        """Drops what is too old, and asks again in the background for what is used, or `wanted`, and half as old."""
        now = self._clock.monotonic()
        if held.key is not None and held.until <= now:
            held.drop()
        stale = held.refresh_at <= now if held.key is not None else wanted or held.failures > 0
        if stale and (held.used or wanted or held.failures):
            self.begin(held)

    def age(self, held: Held) -> float:
        """Seconds for which a key serves after each answer of its key service."""
        own = self._services.cache_age(held.entry.slot.owner)
        return self._limits.cache_age if own is None else min(own, self._limits.cache_age)

    def seconds_left(self, held: Held) -> float:
        """How long the key serves without another answer; 0 if it does not."""
        return max(held.until - self._clock.monotonic(), 0.0)

    def down(self) -> list[str]:
        """Key services that do not answer."""
        return [name for name, gate in self._gates.items() if gate.down]

    async def refresh_services(self) -> None:
        """Lets go of KEKs in this process that were destroyed by another, without waiting for the next call."""
        for service in self._services:
            if isinstance(service, Holding) and service.stale():
                with suppress(KeyServiceDownError):
                    await self._gate(service).call(service.refresh)

    def call_off(self) -> None:
        """Calls that wait for their turn are not made."""
        for gate in self._gates.values():
            gate.call_off()

    def write(self, level: int, event: str, **facts: str | int | float) -> None:
        """A line for the log, if there is one yet."""
        if self.log:
            self.log.write(level, event, **facts)

    def is_tenants(self, held: Held) -> bool:
        """Whether the key is with a key service of its tenant's own."""
        return self._services.holds_own(held.entry.slot, held.entry.wrapped)

    def close(self) -> None:
        """Lets go of KEKs. A call under way ends by itself."""
        for service in self._services:
            if isinstance(service, Holding):
                service.forget()

    async def _fetch(self, held: Held) -> None:
        entry, outcome, failures = held.entry, "ok", held.failures
        try:
            gate = self._gate(self._services.opener(entry.slot, entry.wrapped))
            dek = await gate.call(gate.service.unwrap, entry.slot, entry.wrapped)
            self._put(held, self._made(held, dek))
        except KeyServiceDownError:
            outcome = "down"
            held.failures += 1
        except KeyMismatchError:
            outcome = "mismatch"
            held.mismatched = True
            held.failures = _FINAL
            held.drop()
            self._alarm(entry)
        except (KeysError, ValueError) as error:
            outcome = "refused"
            held.failures = _FINAL
            held.kekless = isinstance(error, NoKekError)
        finally:
            held.task = None
        if outcome != "ok":
            held.retry_at = self._clock.monotonic() + pause(held.failures, self._chance())
        self._tell(entry, outcome, again=failures > 0)

    def _gate(self, service: KeyService) -> Gate:
        if service.name not in self._gates:
            self._gates[service.name] = Gate(service, self._clock.monotonic, self._chance)
        return self._gates[service.name]

    def _made(self, held: Held, dek: bytes) -> DataKey:
        entry = held.entry
        return DataKey(dek, entry.slot.purpose, entry.id, held.meter.spend if held.meter else None)

    def _handle(self, key: DataKey, held: Held) -> DataKey:
        return key.metered(held.meter.spend) if held.meter else key

    def _put(self, held: Held, key: DataKey) -> None:
        if held.over:  # taken out of use while it was unwrapped
            return
        held.key = key
        held.until, held.refresh_at = self._times(held)
        held.failures, held.retry_at = 0, -math.inf
        held.mismatched = held.kekless = held.used = False

    def _times(self, held: Held) -> tuple[float, float]:
        """Until when a key serves that is unwrapped now, and when it is asked for again."""
        now, age = self._clock.monotonic(), self.age(held)
        # Workers that unwrapped together should not all ask again together.
        return now + age, now + age * (0.5 + 0.1 * self._chance())

    def _alarm(self, entry: Entry) -> None:
        if self.measures:
            self.measures.count("key_mismatches")
        self.write(40, "key_mismatch", key_id=entry.id.hex())

    def _tell(self, entry: Entry, outcome: str, *, again: bool) -> None:
        """`again`: the call before failed too."""
        service = entry.wrapped.service
        if self.measures:
            self.measures.count("key_service_calls", service, outcome)
        if outcome not in ("ok", "mismatch") and not again:
            self.write(30, "key_not_unwrapped", key_id=entry.id.hex(), service=service, detail=outcome)
