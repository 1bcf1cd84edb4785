"""Key material stays in memory: no core dumps, nobody looks into the process, and a word about swap. Linux."""

from __future__ import annotations

import ctypes
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

from proxy.serve.block_device import Device, encrypted
from proxy.serve.null_cipher import null_cipher_in_use

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4  # prctl(2)


class MemoryExposedError(OSError):
    """The kernel would not close the process's memory."""


def close_memory() -> None:
    """No core dump of this process and its children, and no ptrace or /proc/PID/mem by another process of this user.

    Inherited over fork, lost at exec. Raises MemoryExposedError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A core_pattern that is a pipe ignores the limit; a process that is not dumpable it gets nothing of.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 or not is_closed():
        raise MemoryExposedError(ctypes.get_errno(), "core dumps and ptrace of this process cannot be turned off")


def is_closed() -> bool:
    """Whether `close_memory` holds for this process."""
    dumpable = ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    return dumpable == 0 and resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)


def exposed_swap(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> list[str]:
    """Swap areas, by name, that could put key material on a disk in clear: neither on an encrypted device nor zram.

    `proc`, `sys`: where procfs and sysfs are mounted. An area that cannot be judged is exposed; so is all swap if the
    list cannot be read.
    """
    try:
        rows = (proc / "swaps").read_text().splitlines()[1:]
    except OSError:
        return ["unknown"]
    clear = bool(null_cipher_in_use(proc))
    return [name for name in _names(rows) if not _is_safe(name, sys, null_cipher=clear)]


def _names(rows: list[str]) -> Iterator[str]:
    """The first column; the kernel writes blanks in it as \\040."""
    for row in rows:
        if words := row.split():
            yield words[0].replace("\\040", " ")


def _is_safe(name: str, sys: Path, *, null_cipher: bool) -> bool:
    try:
        status = Path(name).stat()
    except OSError:
        return False
    number = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
    device = Device(os.major(number), os.minor(number))
    return _is_zram(device, sys) or (encrypted(device, sys) and not null_cipher)


def _is_zram(device: Device, sys: Path) -> bool:
    """In memory, unless it was given a device to write back to."""
    try:
        directory = device.directory(sys)
        backing = directory / "backing_dev"
        return directory.name.startswith("zram") and (not backing.exists() or backing.read_text().strip() == "none")
    except (OSError, RuntimeError):
        return False
