"""The composition root: the only place that builds adapters and knows the clock and the source of randomness."""

from __future__ import annotations

import os
from dataclasses import dataclass

from proxy.cohorts import Cohorts
from proxy.edge.listener import Listener
from proxy.edge.tls import ContextSet
from proxy.edge.upstream import UpstreamPool
from proxy.gateway import Gateway, World
from proxy.kms.budget import SharedBudget
from proxy.kms.keyring import Keyring
from proxy.kms.keystore import open_keyring_in_use
from proxy.kms.services import open_services
from proxy.observe.audit import AuditChain
from proxy.observe.clock import SleeplessClock, SystemClock
from proxy.observe.log import StructuredLog
from proxy.observe.measures import WorkerMeasures
from proxy.replay.shared import SharedDeliveries
from proxy.route import RouteTable
from proxy.serve.settings import Settings


@dataclass(slots=True)
class Loaded:
    """What a reload replaces as a whole: read and checked together, before the fork or in a worker."""

    settings: Settings
    keys: Keyring
    contexts: dict[str, ContextSet]
    generation: int = 0
    """Counts reloads: by it the supervisor knows whether a worker has taken up the newest."""

    @property
    def table(self) -> RouteTable:
        return RouteTable(self.settings.routes, self.settings.policies)


def load(
    settings: Settings, budget: SharedBudget, before: Keyring | None = None, *, distributed: bool = False
) -> Loaded:
    """`budget`: this process's. `before`: a keyring whose unwrapped keys are taken over. `distributed`: its keyring is
    the one that exchanges with other machines.

    Raises KeysError, KeyMismatchError, TlsConfigurationError, ValueError for an unusable upstream file.
    """
    UpstreamPool(settings.upstreams)  # only to see that it can be made; each worker makes its own
    keys = open_keys(settings, budget, before, distributed=distributed)
    return Loaded(settings, keys, {item.name: ContextSet(item.tls) for item in settings.listeners})


def open_keys(
    settings: Settings, budget: SharedBudget, before: Keyring | None = None, *, distributed: bool = False
) -> Keyring:
    """The keyring with key services of its own. Each process has to make them: their connections, threads and sessions
    do not survive a fork.

    Raises KeysError, KeyMismatchError.
    """
    services = open_services(settings.keys, settings.state, os.urandom)
    limits = settings.keys.limits
    redis = settings.keys.redis if distributed else None
    return open_keyring_in_use(
        services, settings.state, limits, budget, SleeplessClock(), os.urandom, before=before, redis=redis
    )


def remembered(settings: Settings) -> float:
    """Seconds a delivery's triple must be remembered: it is fresh for the account's window on both sides of now."""
    window = max((route.account.window for route in settings.routes if route.account), default=300)
    return 2.0 * window + 100.0


def new_deliveries(settings: Settings, workers: int) -> SharedDeliveries:
    """The memory all workers share; made once, before the first fork."""
    entries, reply_bytes = settings.delivery_entries, settings.delivery_reply_bytes
    return SharedDeliveries.create(entries, reply_bytes, processes=workers, triple_window=remembered(settings))


@dataclass(slots=True)
class Assembly:
    """One worker's gateway with everything it stands on."""

    loaded: Loaded
    gateway: Gateway
    cohorts: Cohorts
    upstream: UpstreamPool
    audit: AuditChain
    measures: WorkerMeasures
    log: StructuredLog
    listeners: dict[str, Listener]


def assemble(loaded: Loaded, deliveries: SharedDeliveries, slot: int, log: StructuredLog) -> Assembly:
    """Builds a worker. Raises OSError if the audit log cannot be opened, ValueError for an unusable upstream file."""
    settings = loaded.settings
    audit = AuditChain.open(settings.audit, slot, max_bytes=settings.audit_max_bytes)
    cohorts, measures = Cohorts(), WorkerMeasures()
    upstream = UpstreamPool(settings.upstreams, cohorts)
    loaded.keys.attach(log, measures)
    world = World(loaded.keys, deliveries, upstream, SystemClock(), os.urandom, audit, log, measures)
    gateway = Gateway(loaded.table, world, cohorts)
    listeners = {
        item.name: Listener(item, loaded.contexts[item.name], gateway, measures, log, cohorts)
        for item in settings.listeners
    }
    return Assembly(loaded, gateway, cohorts, upstream, audit, measures, log, listeners)


def swap(assembly: Assembly, loaded: Loaded) -> UpstreamPool:
    """Puts a new configuration into a running worker, all of it at once; returns the upstream pool it retired.

    Exchanges under way keep what they began with; connections stay.
    """
    retired, assembly.upstream = assembly.upstream, UpstreamPool(loaded.settings.upstreams, assembly.cohorts)
    loaded.keys.attach(assembly.log, assembly.measures)
    assembly.gateway.replace(loaded.table, loaded.keys, assembly.upstream)
    for name, listener in assembly.listeners.items():
        settings = next(item for item in loaded.settings.listeners if item.name == name)
        listener.settings, listener.contexts = settings, loaded.contexts[name]
    assembly.loaded = loaded
    return retired
