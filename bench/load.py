"""The load: wrk on one thread, each message sent once, every answer looked at."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).with_name("push.lua")
_SHIM = Path(__file__).with_name("full_handshake.c")


class LoadError(Exception):
    """wrk did not run, or did not report."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one wrk run does: where, what file, how many connections, how long (seconds), on which core (None: any)."""

    url: str
    requests: Path
    connections: int
    seconds: int
    close: bool
    core: int | None
    shim: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What wrk saw. Latency runs from writing a request to its complete answer; the handshake is not in it."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    first_status: int
    odd: int
    kept: int
    exhausted: int
    connect: int
    read: int
    write: int
    timeout: int

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds

    def problem(self) -> str:
        """Say why this run does not count, or nothing."""
        if self.exhausted:
            return f"ran out of messages after {self.requests}"
        if self.refused:
            return f"{self.refused} of {self.requests} answers were not 2xx, the first {self.first_status}"
        if self.odd:
            return f"{self.odd} of {self.requests} answers were not `success`"
        if self.kept:
            return f"{self.kept} of {self.requests} answers did not close the connection"
        if self.connect or self.read or self.write or self.timeout:
            return (
                f"socket errors: connect {self.connect}, read {self.read}, write {self.write}, time-out {self.timeout}"
            )
        return "" if self.requests else "no answer at all"


def build_shim(directory: Path) -> Path:
    """Compile the library that keeps wrk from resuming TLS sessions into `directory`; raises LoadError."""
    library = directory / "full_handshake.so"
    done = subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(_SHIM)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LoadError(f"{_SHIM.name} does not compile: {done.stderr.strip()[-400:]}")
    return library


def run(load: Load) -> Outcome:
    """Run wrk to the end and return what it saw; raises LoadError."""
    pin = [] if load.core is None else ["taskset", "-c", str(load.core)]
    wrk = ["wrk", "-t1", f"-c{load.connections}", f"-d{load.seconds}s", "--timeout", "5s", "-s", str(_SCRIPT), load.url]
    script_arguments = ["--", str(load.requests), "close" if load.close else "keep"]
    done = subprocess.run(
        [*pin, *wrk, *script_arguments],
        env={**os.environ, "LD_PRELOAD": str(load.shim)},
        capture_output=True,
        text=True,
        timeout=load.seconds + 60,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return Outcome(**json.loads(line.removeprefix("RESULT ")))
    raise LoadError(f"wrk ended with {done.returncode} and no result: {(done.stderr or done.stdout).strip()[-400:]}")
