"""Every metric, in one place: names, labels, help. Workers count here; the supervisor adds up and renders.

A snapshot is plain data, so that it can cross a pipe; `render` makes Prometheus text of the sum of several.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

# Seconds. WeChat hangs up after 5.
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0)

COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "exchanges": ("Exchanges by route and outcome: answered, or the code of the refusal", ("route", "outcome")),
    "repeats": ("Repeated deliveries that got the stored reply", ()),
    "values": ("Values by what was done to them", ("treatment",)),
    "shadow_messages": ("Messages a next policy was tried on, by outcome", ("route", "outcome")),
    "shadow_differences": ("What a next policy would decide otherwise", ("route", "selector", "now", "then")),
    "handshakes": ("TLS handshakes by listener and version", ("listener", "version")),
    "handshakes_failed": ("Connections that ended before a handshake", ("listener",)),
    "connections_cut": ("Connections cut by the gateway", ("listener", "reason")),
    "reloads": ("Reloads by outcome", ("outcome",)),
    "key_service_calls": ("Data keys asked of a key service, by outcome", ("service", "outcome")),
    "keyring_exchanges": ("Exchanges of the keyring with other machines, by outcome", ("outcome",)),
    "key_mismatches": ("Data keys that did not match their ids", ()),
    "worker_restarts": ("Workers that died and were replaced", ()),
}
HISTOGRAMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "step_seconds": ("Seconds by step of an exchange", ("step",)),
}
GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ready": ("1 if the gateway is ready", ()),
    "warnings": ("What somebody must look at, as /readyz lists it", ()),
    "workers": ("Workers that are up", ()),
    "connections": ("Open client connections", ("listener",)),
    "upstream_connections": ("Open upstream connections", ("upstream", "state")),
    "key_age_seconds": ("Age of each active key", ("tenant", "region", "group", "purpose", "key_id")),
    "key_uses": ("Values protected with each key on this machine", ("tenant", "region", "group", "purpose", "key_id")),
    "key_bytes": ("Bytes protected with each key on this machine", ("tenant", "region", "group", "purpose", "key_id")),
    "key_budget_spent": (
        "Part of its budget that each key has spent, from 0 to 1",
        ("tenant", "region", "group", "purpose", "key_id"),
    ),
    "certificate_days_left": ("Days until a certificate expires", ("certificate",)),
}

_MOST_UNSORTED = 1000  # observations

Key = tuple[str, ...]
Plain = dict[str, list[list[Any]]]


@dataclass(slots=True)
class Snapshot:
    """Counts by (name, labels...) and histograms as bucket counts with the sum of seconds at the end."""

    counts: dict[Key, float]
    buckets: dict[Key, list[float]]

    def add(self, other: Snapshot) -> None:
        for key, value in other.counts.items():
            self.counts[key] = self.counts.get(key, 0) + value
        for key, values in other.buckets.items():
            mine = self.buckets.get(key)
            self.buckets[key] = values[:] if mine is None else [a + b for a, b in zip(mine, values, strict=True)]

    def to_plain(self) -> Plain:
        """For JSON."""
        return {
            "counts": [[*key, value] for key, value in self.counts.items()],
            "buckets": [[*key, values] for key, values in self.buckets.items()],
        }

    @classmethod
    def from_plain(cls, plain: Plain) -> Snapshot:
        return cls(
            {tuple(row[:-1]): row[-1] for row in plain["counts"]},
            {tuple(row[:-1]): row[-1] for row in plain["buckets"]},
        )


def empty() -> Snapshot:
    return Snapshot({}, {})


class WorkerMeasures:
    """Implements ports.Measures. KeyError for a name that is not listed above."""

    def __init__(self) -> None:
        self._snapshot = empty()
        self._unsorted: dict[Key, list[float]] = {}
        """Seconds that are in no bucket yet. Many at a time take less to be put there."""
        self._observations = 0

    @property
    def snapshot(self) -> Snapshot:
        """Everything up to now."""
        self._sort_in()
        return self._snapshot

    def count(self, name: str, *labels: str) -> None:
        self._add((name, *labels), 1)

    def count_each(self, name: str, amounts: Mapping[str, int]) -> None:
        counts = self._snapshot.counts
        for label, amount in amounts.items():
            key = (name, label)
            if key in counts:
                counts[key] += amount
            else:
                self._add(key, amount)

    def _add(self, key: Key, amount: int) -> None:
        counts = self._snapshot.counts
        if key not in counts and len(COUNTERS[key[0]][1]) != len(key) - 1:
            raise KeyError(key[0])
        counts[key] = counts.get(key, 0) + amount

    def observe(self, name: str, samples: Iterable[tuple[str, float]]) -> None:
        unsorted = self._unsorted
        for label, seconds in samples:
            try:
                unsorted[name, label].append(seconds)
            except KeyError:
                if len(HISTOGRAMS[name][1]) != 1:
                    raise
                unsorted[name, label] = [seconds]
        self._observations += 1
        if self._observations == _MOST_UNSORTED:
            self._sort_in()

    def _sort_in(self) -> None:
        for key, seconds in self._unsorted.items():
            buckets = self._snapshot.buckets.setdefault(key, [0.0] * (len(BUCKETS) + 2))
            seconds.sort()
            before = 0
            for place, bound in enumerate((*BUCKETS, math.inf)):
                up_to = bisect_right(seconds, bound)
                buckets[place] += up_to - before
                before = up_to
            buckets[-1] += math.fsum(seconds)
            seconds.clear()
        self._observations = 0


class _Rendered(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def render(snapshot: Snapshot, gauges: Mapping[Key, float]) -> bytes:
    """Prometheus text format of the sums and of the gauges of the moment."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Rendered([*_counters(snapshot), *_histograms(snapshot), *_gauges(gauges)]))
    return generate_latest(registry)


def _counters(snapshot: Snapshot) -> Iterator[Metric]:
    for name, (text, labels) in COUNTERS.items():
        family = CounterMetricFamily(f"wxgate_{name}", text, labels=labels)
        for key, value in sorted(snapshot.counts.items()):
            if key[0] == name:
                family.add_metric(key[1:], value)
        yield family


def _histograms(snapshot: Snapshot) -> Iterator[Metric]:
    for name, (text, labels) in HISTOGRAMS.items():
        family = HistogramMetricFamily(f"wxgate_{name}", text, labels=labels)
        for key, values in sorted(snapshot.buckets.items()):
            if key[0] == name:
                bounds = [*map(str, BUCKETS), "+Inf"]
                sums, running = [], 0.0
                for bound, amount in zip(bounds, values[:-1], strict=True):
                    running += amount
                    sums.append((bound, running))
                family.add_metric(key[1:], sums, values[-1])
        yield family


def _gauges(gauges: Mapping[Key, float]) -> Iterator[Metric]:
    for name, (text, labels) in GAUGES.items():
        family = GaugeMetricFamily(f"wxgate_{name}", text, labels=labels)
        for key, value in sorted(gauges.items()):
            if key[0] == name:
                family.add_metric(key[1:], value)
        yield family
