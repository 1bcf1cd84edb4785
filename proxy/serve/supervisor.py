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
from contextlib import ExitStack

from proxy.crypto.data_key import KeyMismatchError
from proxy.kms.budget import SharedBudget
from proxy.kms.keyring import Keyring
from proxy.kms.service import KeysError
from proxy.observe.log import StructuredLog, to_stderr
from proxy.observe.measures import Key, Snapshot, empty
from proxy.serve import selfcheck, supervisor_report
from proxy.serve.assemble import Loaded, new_deliveries
from proxy.serve.channel import Channel, Message
from proxy.serve.key_tending import KeyTending
from proxy.serve.memory import exposed_swap
from proxy.serve.settings import Settings, load_settings
from proxy.serve.sockets import close_all_but, open_descriptors
from proxy.serve.starting import StartError, alone_on, bind, checked, require_audit, require_same_shape
from proxy.serve.worker import run_worker
from proxy.serve.worker_record import WorkerRecord
from proxy.source.problem import Problems

_STUCK_AFTER = 15.0  # seconds without a beat
_QUICK_DEATHS = 5  # in a row, each within a second: something is wrong that a new worker does not cure
_WATCH = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Supervisor:
    """`run` is the whole life of `wxgate serve`."""

    def __init__(self, settings: Settings, workers: int, log: StructuredLog) -> None:
        """Loads and checks everything. Raises StartError."""
        self.log, self.amount = log, workers
        with ExitStack() as undo:
            # Before anything is read or written there. Workers inherit it: what they may still do counts, too.
            undo.callback(os.close, alone_on(settings.state))
            self.budget = SharedBudget.create()
            undo.callback(self.budget.close)
            self.loaded = checked(settings, self.budget, None)
            undo.pop_all()
        self.loaded.keys.attach(log, None)
        self.deliveries = new_deliveries(settings, workers)
        self.inherited = open_descriptors()  # all that a worker gets, but for its own sockets
        self.sockets, self.admin_sockets = bind(settings, workers)
        require_audit(settings, workers)
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
        except (KeysError, KeyMismatchError) as error:
            # Nothing is over-spent: the file says more as used than was given out.
            self.log.write(40, "counts_not_settled", error=type(error).__name__)
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
        record.channel = await Channel.open(ours, record.heard, lambda: None)
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
            begun = time.monotonic()
            await asyncio.sleep(_WATCH)
            if time.monotonic() - begun > 2 * _WATCH:
                continue  # this process was held up itself, by a reload, and has not heard what they said meanwhile
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
            require_same_shape(self.loaded.settings, settings)
            loaded = checked(settings, self.budget, self.loaded.keys)
        except (StartError, Problems) as error:
            return self.keep_old(str(error).splitlines()[0])
        except Exception as error:  # noqa: BLE001 - nothing about a new configuration may end the old
            self.log.fault(error)
            return self.keep_old(f"internal fault {type(error).__name__}")
        loaded.generation = self.loaded.generation + 1
        loaded.keys.attach(self.log, None)
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

    # --- what it tells: supervisor_report.py

    def not_ready(self) -> list[str]:
        """See supervisor_report."""
        return supervisor_report.not_ready(self)

    def warnings(self) -> list[str]:
        """See supervisor_report."""
        return supervisor_report.warnings(self)

    def measures(self) -> tuple[Snapshot, dict[Key, float]]:
        """See supervisor_report."""
        return supervisor_report.measures(self)


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
