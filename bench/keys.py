"""What keys cost: `python -m bench.keys`, in `.venv`. Three questions.

1. A field, encrypted and decrypted, against a bare call of AES-256-GCM in the same run (medians, interleaved).
2. How often a key service is asked for a million messages, counted on the real keyring with a clock that is turned by
   hand.
3. How long 10 000 data keys take to be rotated, and to be put under a new KEK, with each key service as it really is
   (`--keys N` for fewer).
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.crypto.data_key import DataKey, Purpose
from proxy.crypto.field_token import Scope, open_token, parse, seal, seal_equal
from proxy.kms.budget import SharedBudget
from proxy.kms.keystore import keyring_file_of, open_keyring_in_use
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing, rotate
from proxy.kms.private_file import make_private_directory
from proxy.kms.rewrapping import rewrap
from proxy.kms.selection import Selection
from proxy.kms.service import KeyService, Slot
from proxy.kms.service_set import ServiceSet
from proxy.ports import Owner
from tests.kms.conftest import Clock, Counting
from tests.kms.providers import PROVIDERS, Provider

_SIZES = (10, 100, 1000, 10000)
_ROUNDS = 15
_MILLION = 1_000_000
_SENT = 100_000
_OLD = 20  # data keys that still open
_SCOPE = Scope("acme", "cn", "follower.message", ("oAbCdEfGhIjKlMnOpQrStUvWxYz1",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--services", default=",".join(PROVIDERS), help="Separated by commas.")
    parser.add_argument("--only", choices=("fields", "calls", "lifecycle"))
    asked = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "fields": _fields,
        "calls": _calls,
        "lifecycle": lambda: _lifecycle(asked.keys, asked.services.split(",")),
    }
    for name, part in parts.items():
        if asked.only in (None, name):
            for line in part():
                print(line, flush=True)


# --- fields


def _fields() -> Iterator[str]:
    key, bare = DataKey(secrets.token_bytes(32), Purpose.LOOKUP), AESGCM(secrets.token_bytes(32))
    aad = _SCOPE.aad("wg1.")
    yield "microseconds a field; token: wg1, random nonce; equal: wd1, deterministic"
    yield f"{'':6}{'encrypt':^44}{'decrypt':^44}"
    yield f"{'bytes':>6}" + 2 * f"{'bare GCM':>10}{'token':>10}{'ratio':>10}{'equal':>10}    "
    for size in _SIZES:
        text = "x" * size
        raw, nonce = text.encode(), secrets.token_bytes(12)
        sealed, equal = bare.encrypt(nonce, raw, aad), seal_equal(key, text, _SCOPE)
        token = seal(key, "s", text, _SCOPE, bytes(24))
        took = _interleaved(
            lambda raw=raw: bare.encrypt(secrets.token_bytes(12), raw, aad),
            lambda text=text: seal(key, "s", text, _SCOPE, secrets.token_bytes(24)),
            lambda text=text: seal_equal(key, text, _SCOPE),
            lambda nonce=nonce, sealed=sealed: bare.decrypt(nonce, sealed, aad),
            lambda token=token: open_token(key, parse(token), _SCOPE),
            lambda equal=equal: open_token(key, parse(equal), _SCOPE),
        )
        halves = (took[:3], took[3:])
        cells = (f"{gcm:10.2f}{ours:10.2f}{ours / gcm:9.1f}x{same:10.2f}    " for gcm, ours, same in halves)
        yield f"{size:6}" + "".join(cells)


def _interleaved(*works: Callable[[], object]) -> list[float]:
    """Median microseconds of each, measured in turns so that a busy machine disturbs all alike."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(_ROUNDS):
        for work, found in zip(works, times, strict=True):
            begun = time.perf_counter()
            for _ in range(500):
                work()
            found.append((time.perf_counter() - begun) / 500 * 1e6)
    return [statistics.median(found) for found in times]


# --- calls of the key service


def _calls() -> Iterator[str]:
    limits = KeyLimits()
    yield (
        f"calls of the key service for a million messages; 2 workers, cache age {limits.cache_age:.0f} s; each message "
        f"protects with 2 keys and opens with one of {_OLD}"
    )
    yield f"(counted over {_SENT} messages, each standing for {_MILLION // _SENT}: the clock goes as for a million)"
    for rate in (10, 100, 1000):
        with tempfile.TemporaryDirectory() as directory:
            calls = asyncio.run(_asked(Path(directory) / "state", rate, limits))
        hours = _MILLION / rate / 3600
        yield f"{rate:6} messages a second ({hours:6.1f} hours)   {calls:6} calls"


async def _asked(state: Path, rate: int, limits: KeyLimits) -> int:
    """How often the key service was asked to unwrap."""
    make_private_directory(state)
    counting = Counting(LocalKms(state, secrets.token_bytes(32), secrets.token_bytes))
    services, clock, budget = ServiceSet(cast(KeyService, counting)), Clock(), SharedBudget.create(256)
    file = keyring_file_of(services, state, secrets.token_bytes)
    owner = Owner("acme", "in")
    make_missing(file, services, [Slot(owner, "follower", use) for use in Purpose], clock.now(), secrets.token_bytes)
    for _ in range(_OLD - 1):
        clock.move(1)
        rotate(file, services, Selection(), clock.now(), secrets.token_bytes)
    known = [entry.id for entry in file.read() if entry.slot.purpose is Purpose.DATA]
    keyrings = [open_keyring_in_use(services, state, limits, budget, clock, secrets.token_bytes) for _ in range(2)]
    counting.unwrapped = 0
    step, next_tick = _MILLION / _SENT / rate, clock.monotonic()
    for number in range(_SENT):
        keyring = keyrings[number % 2]
        for use in Purpose:
            await keyring.active(owner, "follower", use)
        await keyring.by_id(owner, known[number // 2 % len(known)])
        clock.move(step)
        if clock.monotonic() >= next_tick:
            next_tick = clock.monotonic() + limits.refresh
            for each in keyrings:
                await each.tick(keep=True)
            await _settled()
    for keyring in keyrings:
        keyring.close()
    budget.close()
    return counting.unwrapped


async def _settled() -> None:
    """Waits for what was begun in the background."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


# --- rotate and rewrap


def _lifecycle(amount: int, names: Iterable[str]) -> Iterator[str]:
    yield f"seconds for {amount} data keys"
    yield f"{'service':>8}{'make':>10}{'rewrap':>10}{'rotate':>10}   (every key is also opened once more)"
    for name in names:
        with tempfile.TemporaryDirectory() as directory:
            took = _one_lifecycle(PROVIDERS[name], Path(directory), amount)
            yield f"{name:>8}" + "".join(f"{seconds:10.1f}" for seconds in took)


def _one_lifecycle(provider: Callable[[Path], Provider], directory: Path, amount: int) -> list[float]:
    """Seconds to make the keys, to put them under a new KEK, and to replace each."""
    (directory / "service").mkdir()
    (directory / "keyring").mkdir(mode=0o700)
    running = provider(directory / "service")
    try:
        services = ServiceSet(running.open())
        file = keyring_file_of(services, directory / "keyring", secrets.token_bytes)
        slots = [Slot(Owner("acme", "in"), f"g{number}", Purpose.DATA) for number in range(amount)]
        return [
            _seconds(lambda: make_missing(file, services, slots, time.time(), secrets.token_bytes)),
            _seconds(lambda: rewrap(file, services, Selection())),
            _seconds(lambda: rotate(file, services, Selection(), time.time(), secrets.token_bytes)),
        ]
    finally:
        running.close()


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
