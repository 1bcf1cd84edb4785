"""What the keyring in use tells of itself: ages and counts for metrics, reasons and warnings for readiness."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from proxy.crypto.data_key import Purpose
from proxy.kms.budget import SharedBudget
from proxy.kms.cache import Held, KeyCache
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.limits import KeyLimits
from proxy.ports import Owner


@dataclass(frozen=True, slots=True)
class KeyAge:
    """How old a key is and how much was protected with it on this machine, for metrics. `seconds`: since it became
    active; since it was made if it has not. `spent`: part of its budget, from 0 to 1."""

    owner: Owner
    group: str
    purpose: Purpose
    key_id: bytes
    seconds: float
    state: KeyState
    uses: int
    size: int
    spent: float


def age_of(entry: Entry, limits: KeyLimits, budget: SharedBudget, now: float) -> KeyAge:
    """`now`: Unix seconds."""
    since = entry.created
    if entry.activated is not None and entry.state is not KeyState.PENDING:
        since = entry.activated
    uses, size = budget.counts(entry.id) or (entry.uses, entry.size)
    spent = max(uses / limits.uses, size / limits.size) if entry.slot.purpose is Purpose.DATA else 0.0
    return KeyAge(*entry.slot, entry.id, max(now - since, 0.0), entry.state, uses, size, spent)


def faults(held: Collection[Held], cache: KeyCache) -> list[str]:
    """Why messages are refused, or soon will be: from a quarter of a key's time before its end. Not for keys with a
    service of their tenant's own: that it is closed takes no gateway out of service."""
    ours = [each for each in held if not cache.is_tenants(each)]
    left: dict[str, float] = {}
    for each in ours:
        seconds = cache.seconds_left(each)
        if each.failures and not each.mismatched and seconds < cache.age(each) / 4:
            name = each.entry.wrapped.service
            left[name] = min(left.get(name, math.inf), seconds)
    return [*_mismatches(ours), *(_lasting(name, seconds) for name, seconds in left.items())]


def closed_services(held: Collection[Held], cache: KeyCache) -> list[str]:
    """Key services that did not do what they were asked last, and keys from a tenant's own that are others than asked
    for."""
    names = {each.entry.wrapped.service for each in held if each.failures}
    failing = [f"key service {name} does not answer as it should" for name in sorted(names)]
    return [*failing, *_mismatches(each for each in held if cache.is_tenants(each))]


def left_over(held: Iterable[Held]) -> list[str]:
    """Keys that never open here, of owners of whom a KEK was shredded."""
    return [
        f"data key {each.entry.id.hex()} ({each.entry.slot}) does not open, and a KEK of this tenant was shredded: see "
        "`wxgate keys doctor`"
        for each in held
    ]


def _mismatches(held: Iterable[Held]) -> list[str]:
    return [f"data key {each.entry.id.hex()} does not match its id" for each in held if each.mismatched]


def _lasting(service: str, seconds: float) -> str:
    if seconds <= 0:
        return f"key service {service} does not answer and keys are missing"
    return f"key service {service} does not answer; the first key can be used {seconds:.0f} s more"
