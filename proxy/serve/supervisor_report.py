"""What the supervisor tells of itself and its workers: why it is not ready, what somebody must look at, figures."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol

from proxy.observe.measures import Key, Snapshot, empty
from proxy.serve import selfcheck
from proxy.serve.assemble import Loaded
from proxy.serve.certificates import CertificateError, days_left, load_chain
from proxy.serve.key_tending import KeyTending
from proxy.serve.settings import Settings
from proxy.serve.worker_record import WorkerRecord


class Supervised(Protocol):
    """What is looked at. `amount`: of workers there should be; `past`: what dead ones counted."""

    amount: int
    workers: dict[int, WorkerRecord]
    past: Snapshot
    restarts: int
    loaded: Loaded
    tending: KeyTending
    reload_problem: str
    draining: bool


def not_ready(state: Supervised) -> list[str]:
    """Why the gateway cannot serve as it should; empty if it can. A balancer takes it out for these."""
    reasons = ["draining"] if state.draining else []
    up = [record for record in state.workers.values() if record.ready]
    if len(up) < state.amount:
        reasons.append(f"{len(up)} of {state.amount} workers are ready")
    reasons += [f"worker {record.slot} cannot write its audit log" for record in up if not record.audit]
    return reasons + _each_once(record.not_ready for record in up)


def warnings(state: Supervised) -> list[str]:
    """What somebody must look at while the gateway goes on with what it has: the old configuration stays good."""
    found = [f"reload failed: {state.reload_problem}"] if state.reload_problem else []
    found += [
        f"worker {record.slot} has not taken up the new configuration"
        for record in state.workers.values()
        if record.ready and record.generation != state.loaded.generation
    ]
    found += [
        f"certificate {name} has expired or cannot be read"
        for name, left in _certificates(state.loaded.settings)
        if left <= 0
    ]
    own = state.loaded.keys.warnings() + state.tending.warnings()
    found += _each_once([own, *(record.warnings for record in state.workers.values())])
    return found + [str(problem) for problem in state.loaded.settings.warnings]


def _certificates(settings: Settings) -> Iterator[tuple[str, float]]:
    """Name and days left of every certificate; 0 for a file that cannot be read."""
    now = datetime.now(UTC)
    for pair in selfcheck.key_pairs(settings):
        try:
            yield pair.certificate.name, days_left(load_chain(pair.certificate.read_bytes()), now)
        except (CertificateError, OSError):
            yield pair.certificate.name, 0.0


def measures(state: Supervised) -> tuple[Snapshot, dict[Key, float]]:
    """Sum of all workers that are or were, and the gauges of the moment."""
    total = empty()
    total.add(state.past)
    total.counts[("worker_restarts",)] = state.restarts
    gauges: dict[Key, float] = {("ready",): 0.0 if not_ready(state) else 1.0}
    gauges[("warnings",)] = len(warnings(state))
    gauges[("workers",)] = sum(record.ready for record in state.workers.values())
    for record in state.workers.values():
        total.add(record.measures)
        for *labels, value in record.gauges:
            key = tuple(str(label) for label in labels)
            gauges[key] = gauges.get(key, 0.0) + float(value)
    for age in state.loaded.keys.ages(time.time()):
        owner, key_id = age.owner, age.key_id.hex()
        names = (owner.tenant, owner.region, age.group, age.purpose.value, key_id)
        gauges["key_age_seconds", *names] = age.seconds
        gauges["key_uses", *names] = age.uses
        gauges["key_bytes", *names] = age.size
        gauges["key_budget_spent", *names] = age.spent
    for name, left in _certificates(state.loaded.settings):
        gauges["certificate_days_left", name] = round(left, 2)
    return total, gauges


def _each_once(lists: Iterable[list[str]]) -> list[str]:
    """What several say, once."""
    return list(dict.fromkeys(text for texts in lists for text in texts))
