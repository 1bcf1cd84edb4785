"""No process of `wxgate serve` leaves a core, whatever kills it, and none can be looked into by its own user."""

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Gateway, children, until

# Every process says in a file what the kernel holds of it: only it can ask.
_ASK = """
import ctypes, os, pathlib
def _ask(of):
    pathlib.Path(f"dumpable-{os.getpid()}").write_text(str(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)))
    return of
_worker, _run = s.run_worker, s.Supervisor.run
s.run_worker = lambda *args: _ask(_worker)(*args)
s.Supervisor.run = lambda self: _ask(_run)(self)
"""


class _Closed(Gateway):
    looked_into = False


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))  # what a machine that collects cores gives to its services
    try:
        with _Closed(workers=2, patches=_ASK) as it:
            yield it
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def limit_of(pid: int) -> list[str]:
    (line,) = [it for it in Path(f"/proc/{pid}/limits").read_text().splitlines() if it.startswith("Max core file size")]
    return line.split()[4:6]


def cores(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith("core")]


def test_no_process_of_the_gateway_is_dumpable(gateway: Gateway) -> None:
    for pid in (gateway.gateway.pid, *children(gateway.gateway.pid)):
        assert limit_of(pid) == ["0", "0"]
        assert until(lambda pid=pid: _told(gateway, pid), "it said what it is") == "0"  # type: ignore[misc]


def _told(gateway: Gateway, pid: int) -> str:
    path = gateway.directory / f"dumpable-{pid}"
    return path.read_text() if path.exists() else ""


def test_an_aborted_worker_and_supervisor_leave_no_core(gateway: Gateway) -> None:
    worker = gateway.pids[0]
    os.kill(worker, signal.SIGABRT)
    gateway.replaced(worker)
    gateway.gateway.send_signal(signal.SIGABRT)
    assert gateway.gateway.wait(15) == -signal.SIGABRT
    assert cores(gateway.directory) == []
