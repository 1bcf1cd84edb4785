"""While a key service hangs: who makes keys waits for it, and nobody else does."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.kms import keyring as keyrings
from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.keystore import keyring_file_of
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing, rotate, rotate_lookup
from proxy.kms.own_thread import in_own_thread
from proxy.kms.private_file import PrivateFile
from proxy.kms.rewrapping import rewrap
from proxy.kms.selection import Selection
from proxy.kms.service import KeyService, KeyServiceDownError, Slot
from proxy.kms.service_set import ServiceSet
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, NOW, Bench, Passing

RANDOM = secrets.token_bytes
ROTATING = KeyLimits(rotate_after=100.0, activate_after=10.0)


class Watching(Passing):
    """Looks, whatever it is asked, whether somebody holds the keyring's lock."""

    def __init__(self, kms: KeyService, state: Path) -> None:
        super().__init__(kms)
        self._lock = state / "keyring.json.lock"
        self.asked = 0

    def __getattr__(self, name: str) -> object:
        verb = super().__getattr__(name)
        if not callable(verb):
            return verb

        def watched(*arguments: object) -> object:
            self.asked += 1
            if self._lock.exists():
                fd = os.open(self._lock, os.O_RDWR)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError if it is held
                finally:
                    os.close(fd)
            return verb(*arguments)

        return watched


class Watched:
    """A keyring whose key service looks. Each `file` is as another process would have it."""

    def __init__(self, state: Path, unlock: bytes) -> None:
        self.kms = Watching(LocalKms(state, unlock, RANDOM), state)
        self.services = ServiceSet(cast(KeyService, self.kms))
        self._state = state

    @property
    def file(self) -> KeyringFile:
        return keyring_file_of(self.services, self._state, RANDOM)


CHANGES: dict[str, Callable[[Watched], object]] = {
    "init": lambda it: make_missing(it.file, it.services, [DATA._replace(group="another")], NOW, RANDOM),
    "rotate": lambda it: rotate(it.file, it.services, Selection(), NOW + 1, RANDOM),
    "rotate lookup": lambda it: rotate_lookup(it.file, it.services, Selection(), NOW + 1, RANDOM),
    "rewrap": lambda it: rewrap(it.file, it.services, Selection()),
    "disable": lambda it: it.file.change(lambda e: transitions.disabled(e, {e[0].id}, NOW)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_key_service_is_asked_while_the_keyring_is_locked(filled: Path, unlock: bytes, change: str) -> None:
    it = Watched(filled, unlock)
    CHANGES[change](it)
    assert it.kms.asked


def test_nor_when_there_is_no_keyring_yet(state: Path, unlock: bytes) -> None:
    it = Watched(state, unlock)
    assert len(make_missing(it.file, it.services, [DATA, LOOKUP], NOW, RANDOM)) == 2
    assert it.kms.asked and len(it.file.read()) == 2


async def test_nor_for_a_successor(filled: Path, unlock: bytes, bench: Bench) -> None:
    bench.services.default = cast(KeyService, Watching(LocalKms(filled, unlock, RANDOM), filled))
    keys = bench.open(ROTATING)
    bench.clock.move(200)
    await keys.upkeep.keep()
    assert not keys.warnings()
    assert {entry.slot for entry in bench.file.read() if entry.state is KeyState.PENDING} == {DATA, FOREIGN}


# --- a service that hangs


class Wrapping(Passing):
    """Wraps nothing before `over` is set. `reached`: somebody waits for it."""

    def __init__(self, kms: KeyService) -> None:
        super().__init__(kms)
        self.reached, self.over = threading.Event(), threading.Event()

    def wrap(self, *arguments: object) -> object:
        self.reached.set()
        assert self.over.wait(30)
        return self._kms.wrap(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def hanging(bench: Bench) -> Iterator[Wrapping]:
    service = Wrapping(cast(KeyService, bench.kms))
    bench.services.default = cast(KeyService, service)
    yield service
    service.over.set()


@contextmanager
def rotating(bench: Bench, hanging: Wrapping) -> Iterator[Future[object]]:
    """A rotation that hangs in its key service."""
    call = in_own_thread("rotates", lambda: rotate(bench.file, bench.services, Selection(), NOW, RANDOM))
    assert hanging.reached.wait(10)
    yield cast("Future[object]", call)
    hanging.over.set()


def test_a_key_is_disabled_while_a_rotation_hangs(bench: Bench, hanging: Wrapping) -> None:
    with rotating(bench, hanging) as call:
        mine = bench.only(DATA).id
        bench.change(lambda entries: transitions.disabled(entries, {mine}, NOW))
        assert bench.only(DATA).state is KeyState.DISABLED and not call.done()


def test_what_was_made_is_not_put_where_it_is_not_wanted_any_more(bench: Bench, hanging: Wrapping) -> None:
    """A tenant that is shredded while its keys are rotated gets none."""
    with rotating(bench, hanging) as call:
        bench.change(lambda entries: transitions.destroyed(entries, {bench.only(DATA).id}, NOW))
    made = cast(list[Entry], call.result(10))
    assert [entry.slot for entry in made] == [FOREIGN]
    assert bench.only(DATA).state is KeyState.DESTROYED


async def test_nor_is_a_successor(bench: Bench, hanging: Wrapping) -> None:
    keys = bench.open(ROTATING)
    bench.clock.move(200)
    task = asyncio.get_running_loop().create_task(keys.upkeep.keep())
    await asyncio.to_thread(hanging.reached.wait, 10)
    bench.change(lambda entries: transitions.destroyed(entries, {bench.only(DATA).id}, NOW))
    hanging.over.set()
    await task
    assert {entry.slot for entry in bench.file.read() if entry.state is KeyState.PENDING} == {FOREIGN}


async def test_a_successor_waits_its_time_however_long_it_took_to_make(bench: Bench, hanging: Wrapping) -> None:
    keys = bench.open(ROTATING)
    bench.clock.move(200)
    task = asyncio.get_running_loop().create_task(keys.upkeep.keep())
    await asyncio.to_thread(hanging.reached.wait, 10)
    bench.clock.move(60)
    hanging.over.set()
    await task
    coming = [entry for entry in bench.file.read() if entry.state is KeyState.PENDING]
    assert coming and {entry.activated for entry in coming} == {int(bench.clock.now() + ROTATING.activate_after)}


async def test_while_a_spent_key_waits_for_its_successor_changes_are_taken_up(bench: Bench, hanging: Wrapping) -> None:
    keys = bench.open(KeyLimits(budget_uses=1000))
    spent = bench.only(DATA).id

    async def spend() -> None:
        while True:
            (await keys.active(*DATA)).seal(bytes(24), b"words", b"")

    task = asyncio.get_running_loop().create_task(spend())
    await asyncio.to_thread(hanging.reached.wait, 10)
    bench.change(lambda entries: transitions.disabled(entries, {spent}, NOW))
    await keys.tick()
    assert await keys.by_id(ACME, spent) is None
    task.cancel()


def test_of_many_that_want_a_successor_one_makes_it(bench: Bench, hanging: Wrapping) -> None:
    """Each as a process of its own: the others wait for the first, and find it made."""
    bench.clock.move(200)
    keyrings = [bench.open(ROTATING) for _ in range(5)]
    makers = [in_own_thread("makes", keys.upkeep._successors.make) for keys in keyrings]
    assert hanging.reached.wait(10)
    hanging.over.set()
    assert [maker.result(10) for maker in makers] == [""] * 5
    pending = [entry.slot for entry in bench.file.read() if entry.state is KeyState.PENDING]
    assert sorted(pending) == sorted([DATA, FOREIGN])


async def test_owners_whose_service_failed_come_last_and_the_time_has_an_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    wrap = LocalKms.wrap

    def slow(self: LocalKms, slot: Slot, *more: object) -> object:
        asked.append(slot.owner.tenant)
        bench.clock.move(12)
        if slot.owner == ACME:
            raise KeyServiceDownError("no answer in 12 s")
        return wrap(self, slot, *more)  # type: ignore[arg-type]

    keys = bench.open(ROTATING)
    bench.clock.move(200)
    monkeypatch.setattr(LocalKms, "wrap", slow)
    for _ in range(3):
        await keys.upkeep.keep()
        bench.clock.move(40)
    assert asked == ["acme", "other", "acme"], "one in the time there is"
    assert any("no answer in 12 s" in warning for warning in keys.warnings())


async def test_keys_of_another_service_are_made_meanwhile(bench: Bench, hanging: Wrapping, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir(mode=0o700)
    own = LocalKms(tmp_path / "own", RANDOM(32), RANDOM, "own")
    own.create_kek(ACME)
    bench.services._tenants["acme"] = own
    bench.clock.move(200)
    waits = in_own_thread("waits", bench.open(ROTATING).upkeep._successors.make)
    assert await asyncio.to_thread(hanging.reached.wait, 10)
    made = rotate(bench.file, bench.services, Selection(tenant="acme"), bench.clock.now(), RANDOM)
    assert [entry.wrapped.service for entry in made] == ["own"] and not waits.done()


def test_makers_with_several_services_do_not_wait_for_each_other_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order they name them: who waits for the first holds none of the others."""
    waits, locked = threading.Event(), PrivateFile.locked

    def telling(self: PrivateFile, *arguments: Any) -> AbstractContextManager[None]:
        if threading.current_thread().name == "makes" and "a.making.lock" in arguments:
            waits.set()
        return locked(self, *arguments)

    def make() -> None:
        with bench.file.making(["b", "a", "b"], 10):
            pass

    monkeypatch.setattr(PrivateFile, "locked", telling)
    with bench.file.making(["a"]):
        other = in_own_thread("makes", make)
        assert waits.wait(10)
        with bench.file.making(["b"], 0):
            assert not other.done()
    other.result(10)


async def test_quiet_comes_though_a_service_is_slow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four calls at a time: those under way come to their end, the rest are not begun."""
    monkeypatch.setattr(keyrings, "_QUIET", 0.05)
    slots = [DATA._replace(group=f"g{number}") for number in range(12)]
    make_missing(bench.file, bench.services, slots, NOW, RANDOM)
    keys = bench.open()
    bench.kms.answers.clear()
    await keys.tick(keep=True)
    quiet = asyncio.get_running_loop().create_task(keys.quiet())
    until_cut = time.monotonic() + 10
    while sum(held.task is not None for held in keys._holdings.by_id.values()) > 4:
        assert time.monotonic() < until_cut
        await asyncio.sleep(0.01)
    assert not quiet.done() and bench.kms.unwrapped == 4
    bench.kms.answers.set()
    await quiet
    assert bench.kms.unwrapped == 4 and not keys.warnings()
    for _ in range(4):
        await keys.tick(keep=True)
        await asyncio.sleep(0.2)
    assert all(held.key for held in keys._holdings.by_slot.values())
