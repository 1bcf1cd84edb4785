"""The supervisor: binds the sockets, forks the workers, replaces dead ones, reloads, drains, serves the admin page.

It speaks to nobody but its workers and, on loopback, the administrator. It keeps the listening sockets, one for each
listener and worker (SO_REUSEPORT), so that the backlog of a killed worker waits for its successor.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from proxy.crypto.data_key import KeyMismatchError
from proxy.edge.tls import TlsConfigurationError
from proxy.kms.budget import SharedBudget
from proxy.kms.keyring import Keyring
from proxy.kms.service import KeysError
from proxy.observe.audit import AuditChain
from proxy.observe.log import StructuredLog, to_stderr
from proxy.observe.measures import Key, Snapshot, empty
from proxy.serve import selfcheck, state_lock
from proxy.serve.assemble import Loaded, load, new_deliveries, remembered
from proxy.serve.certificates import CertificateError, days_left, load_chain
from proxy.serve.channel import Channel, Message
from proxy.serve.key_tending import KeyTending
from proxy.serve.memory import exposed_swap
from proxy.serve.settings import Settings, load_settings
from proxy.serve.sockets import ListenError, bind_listeners, close_all_but, listen, open_descriptors
from proxy.serve.worker import run_worker
from proxy.source.problem import Problems

_STUCK_AFTER = 15.0  # seconds without a beat
_QUICK_DEATHS = 5  # in a row, each within a second: something is wrong that a new worker does not cure
_WATCH = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class StartError(Exception):
    """wxgate does not start. One sentence for each reason."""


@dataclass(slots=True)
class WorkerRecord:
    """What the supervisor knows of one worker."""

    slot: int
    pid: int
    born: float
    channel: Channel | None = None
    ready: bool = False
    beat: float = 0.0
    generation: int = 0
    audit: bool = True
    not_ready: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    measures: Snapshot = field(default_factory=empty)
    gauges: list[list[str | float]] = field(default_factory=list)


class Supervisor:
    """`run` is the whole life of `wxgate serve`."""

    def __init__(self, settings: Settings, workers: int, log: StructuredLog) -> None:
        """Loads and checks everything. Raises StartError."""
        self.log, self.amount = log, workers
        with ExitStack() as undo:
            # Before anything is read or written there. Workers inherit it: what they may still do counts, too.
            undo.callback(os.close, _alone_on(settings.state))
            self.budget = SharedBudget.create()
            undo.callback(self.budget.close)
            self.loaded = _checked(settings, self.budget, None)
            undo.pop_all()
        self.deliveries = new_deliveries(settings)
        self.inherited = open_descriptors()  # all that a worker gets, but for its own sockets
        self.sockets, self.admin_sockets = _bind(settings, workers)
        _require_audit(settings, workers)
        self.workers: dict[int, WorkerRecord] = {}
        self.spawning: set[asyncio.Task[None]] = set()
        self.past = empty()  # what dead workers counted
        self.outgoing: list[Keyring] = []  # replaced, and not closed yet
        self.tending = KeyTending(log, self.count)
        self.restarts = self.quick_deaths = 0
        self.reload_problem = self.reload_cause = ""
        self.draining = False
        self.over = asyncio.Event()
        self.still = asyncio.Lock()  # held while threads work on keys, and while a worker is forked

    # --- life

    async def run(self) -> int:
        """Returns the exit code: 0 after a drain, 1 if workers cannot live."""
        self.log.write(20, "starting", workers=self.amount, revision=self.loaded.settings.digest)
        for name in exposed_swap():
            self.log.write(30, "swap_not_encrypted", path=name)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self.reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        loop.add_signal_handler(signal.SIGHUP, self.reload, "signal")
        for slot in range(self.amount):
            await self.start_worker(slot)
        tasks = [loop.create_task(self.watch()), loop.create_task(self.tend_keys())]
        await self.over.wait()
        for task in tasks:
            task.cancel()
        try:
            self.loaded.keys.upkeep.settle_counts()
        except KeysError as error:
            self.log.write(40, "keyring_not_kept", error=type(error).__name__)
        return 1 if self.quick_deaths >= _QUICK_DEATHS else 0

    async def start_worker(self, slot: int) -> None:
        async with self.still:
            await self.fork_worker(slot)

    async def fork_worker(self, slot: int) -> None:
        if self.draining:
            return
        loaded = self.loaded
        ours, theirs = socket.socketpair()
        # A signal for the child, or for both, must not reach the child's copy of our handlers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            self.be_worker(slot, theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        record = WorkerRecord(slot, pid, time.monotonic(), beat=time.monotonic())
        self.workers[slot] = record
        self.log.write(20, "worker_started", worker=slot, pid=pid)
        record.channel = await Channel.open(ours, lambda message: self.heard(record, message), lambda: None)
        self.catch_up(record, loaded)

    def catch_up(self, record: WorkerRecord, loaded: Loaded) -> None:
        """Tells a new worker what it could not hear before its line was open."""
        if record.channel is None:
            return
        if self.draining:
            record.channel.send({"do": "drain"})
        elif self.loaded is not loaded:
            record.channel.send(self.order())

    def be_worker(self, slot: int, line: socket.socket) -> None:
        """In the child: never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)  # it leads into the supervisor's event loop
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGHUP):  # the terminal's ^C and the reload are for the supervisor
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            own = self.sockets[slot]
            close_all_but(self.inherited | {line.fileno()} | {sock.fileno() for sock in own.values()})
            log = StructuredLog(to_stderr, worker=slot)
            try:
                self.close_outgoing()
                run_worker(slot, self.loaded, self.deliveries, self.budget, own, line, log)
                code = 0
            except BaseException as error:  # noqa: BLE001 - the process ends here, whatever it was
                log.fault(error)
        finally:
            os._exit(code)

    def heard(self, record: WorkerRecord, message: Message) -> None:
        record.beat = time.monotonic()
        record.ready = record.ready or bool(message.get("ready"))
        if "measures" in message:
            record.measures = Snapshot.from_plain(message["measures"])
            record.gauges, record.audit = message["gauges"], message["audit"]
            record.generation = message["generation"]
            record.not_ready, record.warnings = message["not_ready"], message["warnings"]

    def reap(self) -> None:
        """Collects dead workers and, unless draining, has them replaced."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            record = next((item for item in self.workers.values() if item.pid == pid), None)
            if record is not None:
                self.bury(record, os.waitstatus_to_exitcode(status))
        if self.draining and not self.workers:
            self.over.set()

    def bury(self, record: WorkerRecord, code: int) -> None:
        del self.workers[record.slot]
        self.past.add(record.measures)
        if record.channel:
            record.channel.close()
        if self.draining:
            return
        self.restarts += 1
        self.quick_deaths = self.quick_deaths + 1 if time.monotonic() - record.born < 1.0 else 0
        self.log.write(40, "worker_died", worker=record.slot, pid=record.pid, status=code)
        if self.quick_deaths >= _QUICK_DEATHS:
            self.log.write(40, "workers_cannot_live")
            self.drain()
            return
        task = asyncio.get_running_loop().create_task(self.start_worker(record.slot))
        self.spawning.add(task)
        task.add_done_callback(self.spawning.discard)

    async def watch(self) -> None:
        """Stuck workers are killed; changed certificates and policies are taken up."""
        seen = _stamp(self.loaded.settings)
        while True:
            await asyncio.sleep(_WATCH)
            for record in self.workers.values():
                if time.monotonic() - record.beat > _STUCK_AFTER:
                    self.log.write(40, "worker_stuck", worker=record.slot, pid=record.pid)
                    os.kill(record.pid, signal.SIGKILL)
            now = _stamp(self.loaded.settings)
            if now != seen:
                seen = now
                self.log.write(20, "files_changed")
                self.reload("files")

    async def tend_keys(self) -> None:
        while True:
            settings = self.loaded.settings
            try:
                async with self.still:
                    await self.tending.turn(self.loaded.keys, settings)
            except Exception as error:  # noqa: BLE001 - a fault here must not end the gateway
                self.log.fault(error)
            await asyncio.sleep(settings.keys.limits.refresh)

    def count(self, name: str, label: str) -> None:
        self.past.counts[name, label] = self.past.counts.get((name, label), 0) + 1

    # --- what it is told

    def drain(self) -> None:
        """SIGTERM: no new connections, what was accepted is finished, then the end. Asked twice: the end now."""
        if self.draining:
            for record in self.workers.values():
                os.kill(record.pid, signal.SIGKILL)
            return
        self.draining = True
        self.log.write(20, "draining")
        for sockets in self.sockets:
            for sock in sockets.values():
                sock.close()
        for record in self.workers.values():
            if record.channel:
                record.channel.send({"do": "drain"})
        loop = asyncio.get_running_loop()
        loop.call_later(self.loaded.settings.drain + 5.0, self.drain)
        if not self.workers:
            self.over.set()

    def reload(self, cause: str) -> bool:
        """Load, check, swap, or keep the old and say so. Ignored while draining. `cause`, for the audit log: "signal",
        "files" or "admin"."""
        if self.draining:
            return False
        self.reload_cause = cause
        try:
            settings = load_settings(self.loaded.settings.file)
            _require_same_shape(self.loaded.settings, settings)
            loaded = _checked(settings, self.budget, self.loaded.keys)
        except (StartError, Problems) as error:
            return self.keep_old(str(error).splitlines()[0])
        except Exception as error:  # noqa: BLE001 - nothing about a new configuration may end the old
            self.log.fault(error)
            return self.keep_old(f"internal fault {type(error).__name__}")
        loaded.generation = self.loaded.generation + 1
        # Its threads may be at work for a moment more.
        self.outgoing.append(self.loaded.keys)
        asyncio.get_running_loop().call_later(_STUCK_AFTER, self.close_outgoing, 1)
        self.loaded, self.reload_problem = loaded, ""
        self.count("reloads", "ok")
        for record in self.workers.values():
            if record.channel:
                record.channel.send({"do": "reopen"})
                record.channel.send(self.order())
        self.log.write(20, "reloaded", revision=settings.digest)
        return True

    def close_outgoing(self, amount: int | None = None) -> None:
        """Closes the keyrings that were replaced: the `amount` oldest, or all."""
        closing, self.outgoing = self.outgoing[:amount], self.outgoing[amount or len(self.outgoing) :]
        for keys in closing:
            keys.close()

    def order(self) -> Message:
        """Tells a worker to take up what was checked here."""
        digest, generation = self.loaded.settings.digest, self.loaded.generation
        return {"do": "reload", "digest": digest, "generation": generation, "cause": self.reload_cause}

    def keep_old(self, reason: str) -> bool:
        self.reload_problem = reason
        self.count("reloads", "failed")
        self.log.write(40, "reload_failed", detail=reason)
        for record in self.workers.values():
            if record.channel:
                record.channel.send({"do": "note_kept", "cause": self.reload_cause})
        return False

    # --- what it tells

    def not_ready(self) -> list[str]:
        """Why the gateway cannot serve as it should; empty if it can. A balancer takes it out for these."""
        reasons = ["draining"] if self.draining else []
        up = [record for record in self.workers.values() if record.ready]
        if len(up) < self.amount:
            reasons.append(f"{len(up)} of {self.amount} workers are ready")
        reasons += [f"worker {record.slot} cannot write its audit log" for record in up if not record.audit]
        return reasons + _each_once(record.not_ready for record in up)

    def warnings(self) -> list[str]:
        """What somebody must look at while the gateway goes on with what it has: the old configuration stays good."""
        found = [f"reload failed: {self.reload_problem}"] if self.reload_problem else []
        found += [
            f"worker {record.slot} has not taken up the new configuration"
            for record in self.workers.values()
            if record.ready and record.generation != self.loaded.generation
        ]
        found += [
            f"certificate {name} has expired or cannot be read" for name, left in self.certificates() if left <= 0
        ]
        own = self.loaded.keys.warnings() + self.tending.warnings()
        found += _each_once([own, *(record.warnings for record in self.workers.values())])
        return found + [str(problem) for problem in self.loaded.settings.warnings]

    def certificates(self) -> Iterator[tuple[str, float]]:
        """Name and days left of every certificate; 0 for a file that cannot be read."""
        now = datetime.now(UTC)
        for pair in selfcheck.key_pairs(self.loaded.settings):
            try:
                yield pair.certificate.name, days_left(load_chain(pair.certificate.read_bytes()), now)
            except (CertificateError, OSError):
                yield pair.certificate.name, 0.0

    def measures(self) -> tuple[Snapshot, dict[Key, float]]:
        """Sum of all workers that are or were, and the gauges of the moment."""
        total = empty()
        total.add(self.past)
        total.counts[("worker_restarts",)] = self.restarts
        gauges: dict[Key, float] = {("ready",): 0.0 if self.not_ready() else 1.0}
        gauges[("warnings",)] = len(self.warnings())
        gauges[("workers",)] = sum(record.ready for record in self.workers.values())
        for record in self.workers.values():
            total.add(record.measures)
            for *labels, value in record.gauges:
                key = tuple(str(label) for label in labels)
                gauges[key] = gauges.get(key, 0.0) + float(value)
        for age in self.loaded.keys.ages(time.time()):
            owner, key_id = age.owner, age.key_id.hex()
            names = (owner.tenant, owner.region, age.group, age.purpose.value, key_id)
            gauges["key_age_seconds", *names] = age.seconds
            gauges["key_uses", *names] = age.uses
            gauges["key_bytes", *names] = age.size
            gauges["key_budget_spent", *names] = age.spent
        for name, left in self.certificates():
            gauges["certificate_days_left", name] = round(left, 2)
        return total, gauges


def _each_once(lists: Iterable[list[str]]) -> list[str]:
    """What several say, once."""
    return list(dict.fromkeys(text for texts in lists for text in texts))


def _alone_on(state: Path) -> int:
    """The lock of the state directory, held while the descriptor is open here or in a worker. Raises StartError."""
    try:
        return state_lock.take(state)
    except KeysError as error:
        raise StartError(str(error)) from None


def _checked(settings: Settings, budget: SharedBudget, before: Keyring | None) -> Loaded:
    """Everything of `settings` loaded and self-checked. Raises StartError."""
    try:
        loaded = load(settings, budget, before, distributed=True)
        loaded.keys.reload()  # `before` must not hide that the file cannot be read
        loaded.keys.open_active()
        loaded.keys.upkeep.keep_now()
    except (KeysError, KeyMismatchError, TlsConfigurationError, ValueError, OSError) as error:
        raise StartError(str(error)) from None
    if found := selfcheck.problems(loaded):
        raise StartError("\n".join(found))
    return loaded


def _bind(settings: Settings, workers: int) -> tuple[list[dict[str, socket.socket]], list[socket.socket]]:
    """The sockets of each worker and of the admin page. Raises StartError if an address cannot be had."""
    try:
        return bind_listeners(settings.listeners, workers), [listen(settings.admin.host, settings.admin.port)]
    except ListenError as error:
        raise StartError(str(error)) from None


def _require_audit(settings: Settings, workers: int) -> None:
    """Raises StartError if a worker could not write its audit log."""
    try:
        for slot in range(workers):
            AuditChain.open(settings.audit, slot, max_bytes=settings.audit_max_bytes).close()
    except OSError as error:
        raise StartError(str(error)) from None


def _require_same_shape(old: Settings, new: Settings) -> None:
    """What a running gateway cannot change is refused, not ignored. Raises StartError."""

    def fixed(settings: Settings) -> tuple[object, ...]:
        places = {(item.name, item.host, item.port) for item in settings.listeners}
        memory = (settings.delivery_entries, settings.delivery_reply_bytes)
        return places, settings.state, settings.audit, settings.admin, memory

    # A longer window would take deliveries as fresh that the shared memory has forgotten already.
    if fixed(old) != fixed(new) or remembered(new) > remembered(old):
        raise StartError(
            "addresses, state, audit, admin, deliveries, longer account windows change with a restart only"
        )


def _stamp(settings: Settings) -> tuple[tuple[str, int, int], ...]:
    """What tells that a certificate, a key or a policy was changed or replaced."""
    stamps = []
    pairs = selfcheck.key_pairs(settings)
    for path in (*settings.policy_files(), *(path for pair in pairs for path in (pair.certificate, pair.key))):
        try:
            stat = path.stat()
            stamps.append((str(path), stat.st_mtime_ns, stat.st_ino))
        except OSError:
            stamps.append((str(path), 0, 0))
    return tuple(stamps)
