"""Closing a process's memory, seen from its own side; and what is said of swap on made-up machines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.serve.memory import exposed_swap
from tests.serve.test_block_device import LUKS, Sysfs
from tests.serve.test_null_cipher import crypto

_PROGRAM = """
import os, sys
from proxy.serve.memory import close_memory, is_closed
before = is_closed()
close_memory()
child = os.fork()
if child == 0:
    os._exit(0 if is_closed() else 1)
print(before, is_closed(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_memory_is_closed_here_and_in_children() -> None:
    result = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    assert result.stdout.split() == ["False", "True", "0"]


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Sysfs]:
    (tmp_path / "proc").mkdir()
    return tmp_path / "proc", Sysfs(tmp_path / "sys")


def swaps(proc: Path, *names: object) -> None:
    head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    (proc / "swaps").write_text(head + "".join(f"{name}\tfile\t\t1024\t\t0\t\t-2\n" for name in names))


def lies_on(sysfs: Sysfs, path: Path, name: str, uuid: str = "") -> Path:
    """Makes the device of `path`'s file system known to the tree under `name`."""
    number = os.stat(path).st_dev
    place = sysfs.root / "devices" / name
    (place / "dm").mkdir(parents=True)
    (place / "dm" / "uuid").write_text(uuid)
    (sysfs.root / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}").symlink_to(place)
    return place


def test_no_swap_is_no_warning(machine: tuple[Path, Sysfs]) -> None:
    proc, sysfs = machine
    swaps(proc)
    assert exposed_swap(proc, sysfs.root) == []


def test_swap_in_clear_is_named(machine: tuple[Path, Sysfs], tmp_path: Path) -> None:
    proc, sysfs = machine
    file = tmp_path / "swap file"
    file.touch()
    swaps(proc, str(file).replace(" ", "\\040"), "/dev/nowhere")
    lies_on(sysfs, file, "sda")
    assert exposed_swap(proc, sysfs.root) == [str(file), "/dev/nowhere"]


def test_swap_on_an_encrypted_device_is_none(machine: tuple[Path, Sysfs], tmp_path: Path) -> None:
    proc, sysfs = machine
    swaps(proc, tmp_path)
    lies_on(sysfs, tmp_path, "dm-3", LUKS)
    assert exposed_swap(proc, sysfs.root) == []
    crypto(proc, ("cipher_null", 2))
    assert exposed_swap(proc, sysfs.root) == [str(tmp_path)]


def test_swap_in_memory_is_none_unless_it_is_written_back(machine: tuple[Path, Sysfs], tmp_path: Path) -> None:
    proc, sysfs = machine
    swaps(proc, tmp_path)
    place = lies_on(sysfs, tmp_path, "zram0")
    assert exposed_swap(proc, sysfs.root) == []
    (place / "backing_dev").write_text("none\n")
    assert exposed_swap(proc, sysfs.root) == []
    (place / "backing_dev").write_text("/dev/sda2\n")
    assert exposed_swap(proc, sysfs.root) == [str(tmp_path)]


def test_swap_that_cannot_be_read_is_told(machine: tuple[Path, Sysfs]) -> None:
    proc, sysfs = machine
    assert exposed_swap(proc, sysfs.root) == ["unknown"]
