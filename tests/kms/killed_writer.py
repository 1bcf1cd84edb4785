"""Kills processes that write a keyring, and reads the file after each death. Run as a program of its own: it forks.

Usage: python -m tests.kms.killed_writer STATE_DIRECTORY ROUNDS. Prints what it saw as JSON; fails if a file is torn.
"""

import json
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxy.crypto.data_key import Purpose
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.local import LocalKms
from proxy.kms.service import Slot, Wrapped
from proxy.ports import Owner
from tests.support.embedded import keyring_file

SYSTEM_CALLS = ("open", "write", "fsync", "rename", "unlink", "close")
SLOT = Slot(Owner("acme", "in"), "follower", Purpose.DATA)


def entries(generation: int) -> tuple[Entry, ...]:
    """Sixty entries that all tell their generation, so that a mixture would show."""
    return tuple(
        Entry(
            SLOT,
            Wrapped(i.to_bytes(16, "big"), "local", 1, bytes(72)),
            KeyState.RETIRING,
            generation,
            generation,
            generation,
        )
        for i in range(60)
    )


def write(file: KeyringFile, generation: int) -> None:
    file.change(lambda _: entries(generation))


def generation_in(file: KeyringFile) -> int:
    found = file.read()
    assert len({entry.changes for entry in found}) == 1
    assert tuple(replace(entry, changes=0) for entry in found) == entries(found[0].created)
    return found[0].created


def arm(moment: int) -> None:
    """This process dies before its `moment`-th system call on files, in the middle of it if it is a write."""
    left = moment

    def dying(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if name == "write":
                    call(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return run

    for name in SYSTEM_CALLS:
        setattr(os, name, dying(getattr(os, name), name))


def at_every_call(file: KeyringFile) -> dict[str, int]:
    """One death at each system call in turn, until a writer survives."""
    seen = {"calls": 0, "old": 0, "new": 0}
    while True:
        before = generation_in(file)
        pid = os.fork()
        if pid == 0:
            arm(seen["calls"] + 1)
            write(file, before + 1)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        after = generation_in(file)
        assert after in (before, before + 1)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0 and after == before + 1
            return seen
        seen["calls"] += 1
        seen["old" if after == before else "new"] += 1


def in_every_part(file: KeyringFile, parts: int) -> dict[str, int]:
    """Deaths in the write, at `parts` places evenly over the file, after its last byte among them."""
    seen = {"parts": 0}
    for part in range(parts + 1):
        before = generation_in(file)
        pid = os.fork()
        if pid == 0:
            os.write = dying_in_write(part / parts)  # type: ignore[assignment]
            write(file, before + 1)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status) and generation_in(file) == before
        seen["parts"] += 1
    return seen


def dying_in_write(cut: float) -> Callable[[int, Any], int]:
    real = os.write

    def run(fd: int, data: Any) -> int:
        real(fd, bytes(data)[: int(len(data) * cut)])
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    return run


def at_any_moment(file: KeyringFile, rounds: int) -> dict[str, int]:
    """A writer writes on and on and is killed from outside; what it reported as written must be there."""
    seen = {"rounds": 0, "written": 0}
    chance = random.Random(1)
    for _ in range(rounds):
        reader, writer = os.pipe()
        start = generation_in(file)
        pid = os.fork()
        if pid == 0:
            for generation in range(start + 1, start + 1_000_000):
                write(file, generation)
                os.write(writer, b".")
            os._exit(1)
        os.close(writer)
        os.read(reader, 1)  # it is at work
        time.sleep(chance.uniform(0, 0.015))  # a change takes less
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        reported = 1
        while chunk := os.read(reader, 65536):
            reported += len(chunk)
        os.close(reader)
        assert generation_in(file) - start in (reported, reported + 1)
        seen["rounds"] += 1
        seen["written"] += reported
    return seen


def main() -> None:
    state = Path(sys.argv[1])
    file = keyring_file(state, LocalKms(state, secrets.token_bytes(32), secrets.token_bytes), secrets.token_bytes)
    write(file, 1)
    seen = {"calls": at_every_call(file), **in_every_part(file, 50)}
    print(json.dumps({**seen, "moments": at_any_moment(file, int(sys.argv[2]))}))


if __name__ == "__main__":
    main()
