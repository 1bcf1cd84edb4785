"""The keyring on a real key service that is stopped, hangs and comes back: who waits, what is asked, who hears."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from proxy.kms.budget import SharedBudget
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_format import Entry
from proxy.kms.keystore import keyring_file_of, open_keyring_in_use
from proxy.kms.limits import KeyLimits
from proxy.kms.making import make_missing
from proxy.kms.service_settings import KeySettings, ServiceSettings, VaultSettings
from proxy.kms.services import open_services
from proxy.observe.clock import SystemClock
from proxy.refusal import Refusal
from tests.kms.conftest import ACME, DATA, LOOKUP
from tests.support.openbao import OpenBao

AGE = 4.0  # seconds a key serves here without the key service
RANDOM = secrets.token_bytes


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    server = OpenBao(tmp_path_factory.mktemp("bao"))
    yield server
    server.stop()


class Heard:
    """Log and measures."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def count(self, name: str, *labels: str) -> None:
        if name == "key_service_calls":
            self.calls[labels[1]] += 1

    def count_each(self, name: str, amounts: Mapping[str, int]) -> None: ...

    def observe(self, name: str, samples: Iterable[tuple[str, float]]) -> None: ...

    def write(self, level: int, event: str, **facts: str | int | float) -> None: ...

    def fault(self, error: BaseException) -> None:
        raise error


class Opened:
    """A keyring on that server, and what it told."""

    def __init__(self, bao: OpenBao, state: Path, budget: SharedBudget) -> None:
        reach = VaultSettings(bao.url, bao.ca, token=bao.token(), timeout=1.0)
        settings = KeySettings(ServiceSettings("vault", reach))
        services = open_services(settings, state, RANDOM)
        file = keyring_file_of(services, state, RANDOM)
        self.entries: list[Entry] = make_missing(file, services, [DATA, LOOKUP], time.time(), RANDOM)
        limits = KeyLimits(cache_age=AGE, activate_after=1.0, refresh=0.1)
        self.keys: Keyring = open_keyring_in_use(services, state, limits, budget, SystemClock(), RANDOM)
        self.heard = Heard()
        self.keys.attach(self.heard, self.heard)

    async def refused(self) -> bool:
        try:
            await self.keys.active(*DATA)
        except Refusal as refusal:
            assert refusal.code == "key_unavailable"
            return True
        return False

    async def until(self, holds: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline
            await self.keys.tick()
            await asyncio.sleep(0.02)


@pytest.fixture
def opened(bao: OpenBao, state: Path, budget: SharedBudget) -> Iterator[Opened]:
    it = Opened(bao, state, budget)
    yield it
    it.keys.close()


async def test_a_thousand_messages_cost_one_call(opened: Opened) -> None:
    keys = await asyncio.gather(*(opened.keys.active(*DATA) for _ in range(1000)))
    assert len(set(keys)) == 1 and opened.heard.calls == {"ok": 1}


async def test_a_thousand_messages_meet_a_server_that_is_gone(opened: Opened, bao: OpenBao) -> None:
    bao.stop()
    try:
        for _ in range(3):
            assert all(await asyncio.gather(*(opened.refused() for _ in range(1000))))
        assert opened.heard.calls["down"] <= 3
        assert opened.keys.not_ready() == ["key service vault does not answer and keys are missing"]
    finally:
        bao.start()
    await opened.until(lambda: not opened.keys.not_ready())
    assert not await opened.refused()


async def test_cached_keys_serve_to_their_limit_and_readiness_turns_before(opened: Opened, bao: OpenBao) -> None:
    await opened.keys.active(*DATA)
    await opened.keys.active(*DATA)
    begun = time.monotonic()
    bao.stop()
    red = None
    try:
        while not await opened.refused():
            if red is None and opened.keys.not_ready():
                red = time.monotonic() - begun
            await opened.keys.tick()
            await asyncio.sleep(0.02)
        served = time.monotonic() - begun
    finally:
        bao.start()
    assert red is not None and red < served and served > AGE / 2
    assert opened.heard.calls["down"] <= 8
    await opened.until(lambda: not opened.keys.not_ready() and not opened.keys.warnings())
    assert not await opened.refused()


async def test_a_server_that_hangs_stalls_nobody_who_has_a_key(opened: Opened, bao: OpenBao) -> None:
    await opened.keys.active(*DATA)
    await opened.keys.active(*DATA)
    await asyncio.sleep(0.65 * AGE)
    bao.freeze()
    try:
        await opened.keys.tick()  # the refresh is under way now, and hangs
        begun = time.monotonic()
        for _ in range(1000):
            await opened.keys.active(*DATA)
        took = time.monotonic() - begun
        assert not opened.heard.calls["down"] and took < 1.0  # the server's time-out has not even passed
        await opened.until(lambda: opened.heard.calls["down"] > 0)
        assert not await opened.refused()
    finally:
        bao.thaw()
    await opened.until(lambda: not opened.keys.warnings())


async def test_an_unknown_key_id_asks_the_server_nothing(opened: Opened) -> None:
    assert await asyncio.gather(*(opened.keys.by_id(ACME, RANDOM(16)) for _ in range(1000))) == [None] * 1000
    assert not opened.heard.calls
