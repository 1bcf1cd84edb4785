"""Four processes protect values with one budget, and some are killed and replaced meanwhile. A program of its own: it
forks.

Usage: python -m tests.kms.spenders STATE UNLOCK_HEX LIMIT AMOUNT. Prints what it saw as JSON. What each use was made
with is counted in shared memory before it is made, so that a kill hides none.
"""

import asyncio
import json
import mmap
import os
import random
import secrets
import signal
import sys
import time
import traceback
from pathlib import Path

from proxy.kms.budget import SharedBudget
from proxy.kms.keystore import open_keyring_in_use
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.service_set import ServiceSet
from proxy.observe.clock import SystemClock
from proxy.refusal import Refusal
from tests.kms.conftest import DATA

_ROW = 16  # key id


class Uses:
    """A row for each use, appended by each process in its own part."""

    def __init__(self, parts: int, rows: int) -> None:
        self.rows = rows
        self.memory = mmap.mmap(-1, parts * rows * _ROW)

    def note(self, part: int, number: int, key_id: bytes) -> None:
        at = (part * self.rows + number) * _ROW
        self.memory[at : at + _ROW] = key_id

    def counts(self) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for at in range(0, len(self.memory), _ROW):
            key_id = self.memory[at : at + _ROW]
            if key_id != bytes(_ROW):
                found[key_id] = found.get(key_id, 0) + 1
        return found


def spend(state: Path, unlock: bytes, limit: int, budget: SharedBudget, uses: Uses, part: int) -> int:
    """Exit code: 0 when its part is full, 3 if it was refused."""
    limits = KeyLimits(budget_uses=limit)
    services = ServiceSet(LocalKms(state, unlock, secrets.token_bytes))
    keys = open_keyring_in_use(services, state, limits, budget.reopened(), SystemClock(), secrets.token_bytes)

    async def run() -> int:
        for number in range(uses.rows):
            try:
                key = await keys.active(*DATA)
                uses.note(part, number, key.id)
                key.seal(secrets.token_bytes(24), b"words", b"")
            except Refusal:
                uses.note(part, number, bytes(_ROW))
                return 3
        return 0

    return asyncio.run(run())


def main() -> None:
    state, unlock = Path(sys.argv[1]), bytes.fromhex(sys.argv[2])
    limit, amount = int(sys.argv[3]), int(sys.argv[4])
    budget, kills = SharedBudget.create(256), 8
    uses = Uses(4 + kills, amount // 4)
    running: dict[int, int] = {}
    chance, parts, killed, refused = random.Random(7), 0, 0, 0
    struck: set[int] = set()

    def start() -> None:
        nonlocal parts
        pid = os.fork()
        if pid == 0:
            code = 4
            try:
                code = spend(state, unlock, limit, budget, uses, parts)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        running[pid] = parts
        parts += 1

    for _ in range(4):
        start()
    while running:
        time.sleep(chance.uniform(0.02, 0.08))
        alive = [pid for pid in running if pid not in struck]
        if len(struck) < kills and alive:
            struck.add(victim := chance.choice(alive))
            os.kill(victim, signal.SIGKILL)
        for pid in list(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del running[pid]
                if os.WIFSIGNALED(status):
                    killed += 1
                    start()
                elif os.WEXITSTATUS(status) == 3:
                    refused += 1
                else:
                    assert os.WEXITSTATUS(status) == 0
    counts = uses.counts()
    seen = {"keys": len(counts), "most": max(counts.values()), "sealed": sum(counts.values())}
    print(json.dumps(seen | {"killed": killed, "refused": refused}))


if __name__ == "__main__":
    main()
