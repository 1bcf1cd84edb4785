"""One worker process: an assembled gateway on its sockets, told what to do by the supervisor."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace

import uvloop

from proxy.edge.upstream import UpstreamPool
from proxy.kms.budget import SharedBudget
from proxy.kms.keyring import Keyring
from proxy.kms.service import KeysError
from proxy.observe.log import StructuredLog
from proxy.replay.shared import SharedDeliveries
from proxy.serve.assemble import Assembly, Loaded, assemble, load, open_keys, swap
from proxy.serve.channel import Channel, Message
from proxy.serve.settings import Settings, load_settings

# Seconds without a beat after which the kernel ends a worker whose supervisor is gone: nobody else would, and it holds
# the state directory. A supervisor that is there does it sooner.
ALONE = 30
BEAT = 1.0  # seconds between reports to the supervisor; they come from the event loop, so that a stuck one shows


class Worker:
    """Runs until it is drained or the supervisor is gone."""

    def __init__(
        self, slot: int, loaded: Loaded, deliveries: SharedDeliveries, budget: SharedBudget, log: StructuredLog
    ) -> None:
        self.slot, self.log, self.budget = slot, log, budget
        self.assembly: Assembly = assemble(loaded, deliveries, slot, log)
        self.stop = asyncio.Event()
        self.background: set[asyncio.Task[None]] = set()

    async def run(self, sockets: Mapping[str, socket.socket], line: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, whatever Python is doing
        signal.alarm(ALONE)
        self.channel = await Channel.open(line, self.told, self.stop.set)
        self.note_attested(self.assembly.loaded.settings)
        await self.assembly.upstream.warm()
        for name, listener in self.assembly.listeners.items():
            await listener.start(sockets[name])
        # What was loaded so far lives as long as the worker: the collector need not look at it again.
        gc.freeze()
        gc.set_threshold(5000)
        self.report({"ready": True})
        beat = loop.create_task(self.beat())
        self.spawn(self.tend_keys())
        await self.stop.wait()
        await self.drain(beat)

    async def beat(self) -> None:
        while True:
            signal.alarm(ALONE)
            self.keep_audit()
            self.report({})
            await asyncio.sleep(BEAT)

    def report(self, message: Message) -> None:
        """A beat: counts so far, gauges of the moment, what configuration is in use."""
        gauges = [["connections", name, item.connections] for name, item in self.assembly.listeners.items()]
        for name, stats in self.assembly.upstream.stats().items():
            gauges += [["upstream_connections", name, "open", stats.open]]
            gauges += [["upstream_connections", name, "idle", stats.idle]]
        measures = self.assembly.measures.snapshot.to_plain()
        keys = self.assembly.loaded.keys
        state: Message = {"not_ready": keys.not_ready(), "warnings": keys.warnings()}
        state |= {"generation": self.assembly.loaded.generation, "audit": not self.assembly.audit.broken}
        self.channel.send({"measures": measures, "gauges": gauges, **state, **message})

    def told(self, message: Message) -> None:
        if message.get("do") == "drain":
            self.stop.set()
        elif message.get("do") == "reload":
            self.reload(message["digest"], message["generation"], message["cause"])
        elif message.get("do") == "note_kept":
            self.note_kept(message["cause"])
        elif message.get("do") == "reopen":
            self.reopen()

    def reload(self, digest: str, generation: int, cause: str) -> None:
        """Reads everything again and swaps it in, if it is what the supervisor checked; keeps the old otherwise.

        What cannot be put on record is not taken up.
        """
        if self.stop.is_set():
            return  # a reload while draining would only delay the end
        try:
            before = self.assembly.loaded.keys
            loaded = load(load_settings(self.assembly.loaded.settings.file), self.budget, before)
            if loaded.settings.digest != digest:
                raise KeysError("the configuration changed while it was reloaded")
            loaded.generation = generation
            longest = max((route.deadline for route in self.assembly.loaded.settings.routes), default=0.0)
            self.note("taken_up", cause, digest)
            self.note_attested(loaded.settings)
            retired = swap(self.assembly, loaded)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new, the old serves on
            self.log.write(40, "reload_failed", error=type(error).__name__)
            self.note_kept(cause)
            return
        self.spawn(self.retire(retired, before, longest))
        self.spawn(self.warm())
        self.report({})

    def note(self, outcome: str, cause: str, revision: str) -> None:
        """Puts a reload on record. Raises AuditUnwritable."""
        record = {"event": "reload", "outcome": outcome, "reason": cause, "revision": revision}
        self.assembly.audit.append({**record, "at": round(time.time(), 3)})

    def note_attested(self, settings: Settings) -> None:
        """Puts the deployer's word about the disk on record, whenever it is relied on anew. Raises AuditUnwritable."""
        if reason := settings.disk.attested:
            record = {"event": "disk_attested", "reason": reason, "revision": settings.digest}
            self.assembly.audit.append({**record, "at": round(time.time(), 3)})

    def note_kept(self, cause: str) -> None:
        """A reload that failed: the old configuration stays."""
        try:
            self.note("kept_old", cause, self.assembly.loaded.settings.digest)
        except OSError:
            self.log.write(40, "audit_unwritable")

    def keep_audit(self) -> None:
        """Once a second: records reach the disk, and a chain that broke (disk full, file gone) is taken up again."""
        audit = self.assembly.audit
        try:
            if audit.broken:
                audit.reopen()
            audit.sync()
        except OSError:
            self.log.write(40, "audit_unwritable")

    def reopen(self) -> None:
        try:
            self.assembly.audit.reopen()
        except OSError:
            self.log.write(40, "audit_unwritable")

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def warm(self) -> None:
        await self.assembly.upstream.warm()

    async def retire(self, upstream: UpstreamPool, keys: Keyring, seconds: float) -> None:
        """Closes pool and keyring when every exchange that may use them has come to its end."""
        await asyncio.sleep(seconds)
        await upstream.close()
        keys.close()

    async def tend_keys(self) -> None:
        """Takes up what changed in the keyring and keeps its keys fresh, for as long as the worker lives."""
        while True:
            keys = self.assembly.loaded.keys
            try:
                await keys.tick()
            except Exception as error:  # noqa: BLE001 - a fault here must not leave the keyring untended
                self.log.fault(error)
            await asyncio.sleep(self.assembly.loaded.settings.keys.limits.refresh)

    async def drain(self, beat: asyncio.Task[None]) -> None:
        """Lets every exchange that was accepted come to its end, within the configured time."""
        deadline = asyncio.get_running_loop().time() + self.assembly.loaded.settings.drain
        await asyncio.gather(*(listener.drain(deadline) for listener in self.assembly.listeners.values()))
        beat.cancel()  # not before: a worker without a beat counts as stuck
        await self.assembly.upstream.close()
        self.report({"drained": True})
        self.assembly.audit.close()
        self.channel.close()
        await asyncio.sleep(0)


def run_worker(
    slot: int,
    loaded: Loaded,
    deliveries: SharedDeliveries,
    budget: SharedBudget,
    sockets: Mapping[str, socket.socket],
    line: socket.socket,
    log: StructuredLog,
) -> None:
    """Body of a forked worker; returns when it has drained."""

    async def main() -> None:
        own = budget.reopened()
        fresh = replace(loaded, keys=open_keys(loaded.settings, own, loaded.keys))
        loaded.keys.close()  # the supervisor's, as it was: nobody here would tell it what must not be used any more
        await Worker(slot, fresh, deliveries, own, log).run(sockets, line)

    uvloop.run(main())
