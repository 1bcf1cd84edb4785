"""A server under test as a process tree: started on its cores, metered through /proc, stopped for certain."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process tree has used so far: CPU seconds (user + system), and resident bytes now."""

    cpu: float
    rss: int


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    cpu: float
    rss: int


@dataclass(frozen=True, slots=True)
class Running:
    """A started server and the file its output goes to."""

    child: subprocess.Popen[bytes]
    log: Path

    def usage(self) -> Usage:
        """Add up the tree; children that have ended are in their parent's account."""
        stats = _all_stats()
        members = _tree(self.child.pid, stats)
        return Usage(sum(stats[pid].cpu for pid in members), sum(stats[pid].rss for pid in members))

    def tail(self) -> str:
        """Return the end of the server's output, to say why it did not start."""
        return self.log.read_text(errors="replace").strip()[-600:]


@contextmanager
def running(
    argv: Sequence[str], env: Mapping[str, str], cores: Sequence[int] | None, log: Path, cwd: Path
) -> Iterator[Running]:
    """Start `argv` on `cores` (None: any) in a process group of its own, and end the whole group on the way out."""
    pin = [] if cores is None else ["taskset", "-c", ",".join(map(str, cores))]
    with log.open("wb") as output:
        child = subprocess.Popen(
            [*pin, *argv],
            env={**os.environ, **env},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Running(child, log)
    finally:
        _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # whatever is left of the group
    child.wait()


def _tree(root: int, stats: Mapping[int, _Stat]) -> set[int]:
    members = {root} & stats.keys()
    grown = True
    while grown:
        children = {pid for pid, stat in stats.items() if stat.parent in members} - members
        members |= children
        grown = bool(children)
    return members


def _all_stats() -> dict[int, _Stat]:
    return {
        int(entry.name): stat
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (stat := _stat(entry)) is not None
    }


def _stat(entry: Path) -> _Stat | None:
    try:
        text = (entry / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None  # ended meanwhile
    # proc(5): after the name in brackets come state, ppid, …; utime, stime, cutime, cstime are 12 to 15, rss is 22.
    fields = text.rpartition(")")[2].split()
    return _Stat(int(fields[1]), sum(map(int, fields[11:15])) / _TICK, int(fields[21]) * _PAGE)
