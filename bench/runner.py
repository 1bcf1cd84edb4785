"""One benchmark: start the CRM and the targets, send every mode's messages in interleaved runs, keep every figure."""

import http.client
import itertools
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import load, messages, process, targets
from bench.scene import REPOSITORY, Cores, Scene, crm_nginx, free_port

MODES = ("keep-alive", "close")
_READY_SECONDS = 30.0
_FIRST_GUESS = {"keep-alive": 40_000, "close": 5_000}  # messages of the one-second warm-up; doubled while too few
_SPARE = 1.6  # messages made, as a multiple of what the best run so far would have used
_ATTEMPTS = 3  # a run that runs out of messages is thrown away and repeated with twice as many


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how often, with how many connections, and on which cores."""

    runs: int
    seconds: int
    connections: int
    cores: Cores


@dataclass(frozen=True, slots=True)
class Sample:
    """One run's figures: answers/s, ms, ms, CPU ms per message, resident bytes, and why it does not count, if so."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    rss: int
    problem: str


@dataclass(slots=True)
class Row:
    """All runs of one target in one mode; `unavailable` says why there are none."""

    target: str
    mode: str
    unavailable: str = ""
    samples: list[Sample] = field(default_factory=list)

    @property
    def problem(self) -> str:
        """The first thing that makes this row not count, or nothing."""
        return self.unavailable or next((sample.problem for sample in self.samples if sample.problem), "")


@dataclass(slots=True)
class _Started:
    target: targets.Target
    port: int
    server: process.Running
    rate: float = 0.0  # answers per second in the best run of the mode so far


class Bench:
    """The servers of one benchmark, alive while its `with` block is."""

    def __init__(self, place: Scene, settings: Settings, note: Callable[[str], None]) -> None:
        self._place = place
        self._settings = settings
        self._note = note
        self._stack = ExitStack()

    def __enter__(self) -> "Bench":
        with self._stack:  # ends what was started if the rest fails
            self._shim = load.build_shim(self._place.directory)
            self._start_crm()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, chosen: Sequence[targets.Target], modes: Sequence[str]) -> list[Row]:
        """Run every chosen target in every mode and return a row for each pair."""
        started, missing = [], {}
        for target in chosen:
            try:
                started.append(self._start(target))
            except targets.TargetUnavailable as unavailable:
                missing[target.name] = str(unavailable)
                self._note(f"{target.name}: not measured: {unavailable}")
        measured = {
            (row.target, row.mode): row for row in itertools.chain(*(self._measure(started, mode) for mode in modes))
        }
        return [
            measured.get((target.name, mode)) or Row(target.name, mode, missing[target.name])
            for mode in modes
            for target in chosen
        ]

    def _measure(self, started: Sequence[_Started], mode: str) -> list[Row]:
        rows = [Row(one.target.name, mode) for one in started]
        for one, row in zip(started, rows, strict=True):
            self._warm_up(one, row)
        for number in range(1, self._settings.runs + 1):
            for one, row in zip(started, rows, strict=True):
                if row.problem:
                    continue
                sample = self._sample(one, mode, self._enough(one), self._settings.seconds)
                row.samples.append(sample)
                self._note(
                    f"{mode} run {number}/{self._settings.runs} {row.target}: "
                    + (sample.problem or f"{sample.rate:.0f}/s, CPU {sample.cpu_ms:.3f} ms per message")
                )
        return rows

    def _enough(self, one: _Started) -> int:
        return int(one.rate * self._settings.seconds * _SPARE) + 2_000

    def _warm_up(self, one: _Started, row: Row) -> None:
        one.rate = 0.0
        sample = self._sample(one, row.mode, _FIRST_GUESS[row.mode], 1)
        if sample.problem:  # kept, so that the row fails
            row.samples.append(sample)
            self._note(f"{row.mode} warm-up {row.target}: {sample.problem}\n{one.server.tail()}")

    def _sample(self, one: _Started, mode: str, count: int, seconds: int) -> Sample:
        for _ in range(_ATTEMPTS - 1):
            sample, exhausted = self._attempt(one, mode, count, seconds)
            if not exhausted:
                return sample
            self._note(f"{mode} {one.target.name}: {sample.problem}; repeated with {count * 2}")
            count *= 2
        return self._attempt(one, mode, count, seconds)[0]

    def _attempt(self, one: _Started, mode: str, count: int, seconds: int) -> tuple[Sample, bool]:
        before, served = one.server.usage(), self._place.crm_requests()
        outcome = self._load(one, mode, count, seconds)
        after, delivered = one.server.usage(), self._place.crm_requests() - served - 1
        one.rate = max(one.rate, outcome.rate)
        problem = outcome.problem()
        if not problem and delivered < outcome.requests:
            problem = f"the CRM saw {delivered} of {outcome.requests} messages"
        cpu_ms = (after.cpu - before.cpu) * 1_000 / max(outcome.requests, 1)
        sample = Sample(outcome.rate, outcome.p50_ms, outcome.p99_ms, cpu_ms, after.rss, problem)
        return sample, bool(outcome.exhausted)

    def _load(self, one: _Started, mode: str, count: int, seconds: int) -> load.Outcome:
        host, close = f"localhost:{one.port}", mode == "close"
        file = self._place.directory / "requests"
        messages.write_requests(file, self._place.account, count, host, close=close)
        url, connections, core = f"https://{host}/", self._settings.connections, self._settings.cores.load
        try:
            return load.run(load.Load(url, file, connections, seconds, close, core, self._shim))
        finally:
            file.unlink()

    def _start_crm(self) -> None:
        directory = self._directory("crm")
        config = directory / "nginx.conf"
        config.write_text(crm_nginx(self._place))
        cores = self._settings.cores
        server = self._run(targets.Command(targets.nginx_argv(config)), cores.of(cores.load), directory)
        _await("the CRM", server, self._place.crm_requests)

    def _start(self, target: targets.Target) -> _Started:
        directory, port = self._directory(target.name), free_port()
        cores = self._settings.cores
        # More than one worker on one core would measure the scheduler: they get every core, wrk's included.
        place = cores.of(cores.target) if target.workers == 1 else None
        server = self._run(target.command(self._place, directory, port), place, directory)
        _await(target.name, server, lambda: self._probe(port))
        return _Started(target, port, server)

    def _probe(self, port: int) -> None:
        tls = ssl.create_default_context(cafile=self._place.ca)
        connection = http.client.HTTPSConnection("localhost", port, context=tls, timeout=5)
        push = next(messages.pushes(self._place.account))
        try:
            connection.request("POST", push.target, push.body, {"Content-Type": "text/xml"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or body != b"success":
                raise OSError(f"answered {answer.status} {body[:80]!r} instead of 200 `success`")
        finally:
            connection.close()

    def _run(self, command: targets.Command, cores: Sequence[int] | None, directory: Path) -> process.Running:
        log = directory / "output.log"
        return self._stack.enter_context(process.running(command.argv, command.env, cores, log, REPOSITORY))

    def _directory(self, name: str) -> Path:
        directory = self._place.directory / name
        directory.mkdir()
        return directory


def _await(name: str, server: process.Running, ask: Callable[[], object]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            ask()
            return
        except (OSError, http.client.HTTPException) as error:
            if server.child.poll() is not None:
                raise targets.TargetUnavailable(f"{name} ended at once: {server.tail()}") from error
            if time.monotonic() > deadline:
                raise targets.TargetUnavailable(f"{name} is not ready: {error}\n{server.tail()}") from error
        time.sleep(0.1)
