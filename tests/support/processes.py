"""A running gateway's processes, seen from outside, and waiting for something to become so."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from proxy.emulate.stage import PUSH_PATH, Stage
from proxy.emulate.wechat import Delivery

FOLLOWER = "oProc3ssesP8q7ou2gfYjqLzSIWZ"


def until[T](look: Callable[[], T], what: str, seconds: float = 15.0) -> T:
    """The first true value of `look`; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"in {seconds} s it did not become so: {what}"
        time.sleep(0.02)
    return found


def children(pid: int) -> list[int]:
    """Child processes, zombies included; none if `pid` is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def state(pid: int) -> str:
    """One letter of proc(5): R, S, T, Z ...; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    return state(pid) not in ("", "Z", "X")


def freeze(pid: int) -> None:
    """Stops a process, and waits until every thread of it stands still: on a busy machine one may go on for a while."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    until(lambda: all(state(int(thread.name)) == "T" for thread in threads.iterdir()), "it stands still")


def descriptors(pid: int) -> dict[int, str]:
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except OSError:
            continue
    return found


def listening(pid: int) -> set[int]:
    """Local ports of the listening sockets that `pid` holds."""
    inodes = {match[1] for name in descriptors(pid).values() if (match := re.fullmatch(r"socket:\[(\d+)\]", name))}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes}


class Gateway(Stage):
    """A stage whose gateway can be started with changed constants of `proxy.serve.supervisor`.

    `looked_into`: that its processes hide their descriptors from their own user is undone where the tests are not root.
    """

    looked_into = os.geteuid() != 0

    def __init__(self, *, workers: int = 1, drain: str = "5s", limits: str = "", patches: str = "") -> None:
        super().__init__(workers=workers, drain=drain, limits=limits)
        self.patches = patches
        if self.looked_into:
            self.patches += "\nimport proxy.serve.memory\nproxy.serve.memory.close_memory = lambda: None\n"

    def start_gateway(self) -> None:
        if not self.patches:
            super().start_gateway()
            return
        self.log = self.directory / "gateway.log"
        code = f"import proxy.serve.supervisor as s\n{self.patches}\nfrom proxy.cli import main\nmain()"
        command = [sys.executable, "-c", code, "serve", "--config", str(self.config), "--workers", str(self.workers)]
        with self.log.open("ab") as log:
            self.gateway = subprocess.Popen(command, stderr=log, cwd=self.directory)
        self.processes.append(self.gateway)
        until(lambda: self.is_ready() or self.gateway.poll() is not None, "the gateway is ready", 30)
        assert self.gateway.poll() is None, self.log.read_text()

    def restart(self) -> None:
        """Starts the gateway again if it ended."""
        if self.gateway.poll() is not None:
            self.processes.remove(self.gateway)
            self.start_gateway()

    # --- processes

    @property
    def pids(self) -> list[int]:
        """The workers that are up."""
        return [pid for pid in children(self.gateway.pid) if alive(pid)]

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """Lines of the log, those of one event if it is named. Every line must be JSON."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if name in ("", line["event"])]

    def slot_of(self, pid: int) -> int:
        return next(int(line["worker"]) for line in self.events("worker_started") if line["pid"] == pid)

    def pid_of(self, slot: int) -> int:
        return [int(line["pid"]) for line in self.events("worker_started") if line["worker"] == slot][-1]

    def replaced(self, pid: int) -> int:
        """Waits until another worker has the slot of `pid` and all are ready; its pid."""
        slot = self.slot_of(pid)
        until(lambda: self.pid_of(slot) != pid and self.is_ready(), f"worker {slot} is replaced", 25)
        return self.pid_of(slot)

    def signalled(self, number: signal.Signals, event: str) -> None:
        """Sends a signal and waits for the event it brings about."""
        before = len(self.events(event))
        self.gateway.send_signal(number)
        until(lambda: len(self.events(event)) > before, event)

    # --- figures and messages

    def figure(self, name: str, **labels: str) -> float:
        """A figure of /metrics, summed over the labels that are not given."""
        text = self.ask_admin("/metrics").body.decode()
        samples = [it for family in text_string_to_metric_families(text) for it in family.samples]
        wanted = [it.value for it in samples if it.name == name and labels.items() <= it.labels.items()]
        return sum(wanted)

    def reasons(self) -> list[str]:
        answer = self.ask_admin("/readyz")
        assert (answer.status == 200) == (not answer.json["reasons"])
        return [*answer.json["reasons"], *answer.json["warnings"]]

    def text(self, content: str = "words") -> Delivery:
        return self.pusher.deliver(self.pusher.message(FOLLOWER, "text", Content=content), openid=FOLLOWER)

    def open(self, port: int | None = None) -> http.client.HTTPSConnection:
        """A connection, its handshake done."""
        connection = http.client.HTTPSConnection("localhost", port or self.public, timeout=15, context=self.tls())
        connection.connect()
        return connection

    def push_over(self, connection: http.client.HTTPSConnection, delivery: Delivery) -> tuple[int, bytes]:
        headers = {"User-Agent": "Mozilla/4.0", "Content-Type": "text/xml"}
        connection.request("POST", f"{PUSH_PATH}?{delivery.query}", delivery.body, headers)
        response = connection.getresponse()
        return response.status, response.read()

    def from_worker(self, slot: int, tries: int = 60) -> http.client.HTTPSConnection:
        """A connection that the worker of `slot` accepted."""
        pid = self.pid_of(slot)
        for _ in range(tries):
            connection = self.open()
            if self.serves(pid, connection):
                return connection
            connection.close()
        raise AssertionError(f"no connection came to worker {slot}")

    def serves(self, pid: int, connection: http.client.HTTPSConnection) -> bool:
        """Whether `pid` holds the other end of `connection`."""
        port = connection.sock.getsockname()[1]
        names = set(descriptors(pid).values())
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ends = [row[9] for row in rows if row[2].endswith(f":{port:04X}") and row[1].endswith(f":{self.public:04X}")]
        return any(f"socket:[{inode}]" in names for inode in ends)
