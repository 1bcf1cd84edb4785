"""What a forked process finds of the supervisor's keys: nothing, once its own are open."""

import gc
import secrets
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxy.crypto.data_key import DataKey, Purpose
from proxy.kms.budget import SharedBudget
from proxy.kms.keyring import Keyring
from proxy.kms.keystore import open_keyring_in_use
from proxy.kms.local import LocalKms
from proxy.kms.service import KeyServiceDownError, Slot
from proxy.kms.service_settings import KeySettings
from proxy.kms.services import open_services
from proxy.observe.clock import SystemClock
from proxy.ports import Owner
from proxy.refusal import Refusal
from proxy.serve import worker
from proxy.serve.assemble import Loaded, open_keys
from proxy.serve.settings import Settings
from proxy.serve.supervisor import Supervisor
from tests.support.embedded import init_keys

RANDOM = secrets.token_bytes
DATA = Slot(Owner("acme", "in"), "follower", Purpose.DATA)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """What keys are opened with."""
    state, unlock = tmp_path / "state", RANDOM(32)
    state.mkdir(mode=0o700)
    init_keys(state, unlock, [DATA, Slot(*DATA[:2], Purpose.LOOKUP)], time.time(), RANDOM)
    return cast(Settings, SimpleNamespace(keys=KeySettings.local(unlock), state=state))


def opened(settings: Settings, budget: SharedBudget) -> Keyring:
    services = open_services(settings.keys, settings.state, RANDOM)
    keys = open_keyring_in_use(services, settings.state, settings.keys.limits, budget, SystemClock(), RANDOM)
    keys.open_active()
    return keys


def known(keys: Keyring) -> list[weakref.ref[DataKey]]:
    return [weakref.ref(held.key) for held in keys._holdings.by_id.values() if held.key is not None]


def test_a_worker_has_its_own_keys_and_none_of_the_supervisor(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = SharedBudget.create()
    loaded = Loaded(settings, opened(settings, budget), {})
    theirs = known(loaded.keys)
    assert len(theirs) == 2

    class Serving:
        """In the place of the worker: what it would serve with."""

        def __init__(self, _slot: int, own: Loaded, *_: object) -> None:
            self.keys = own.keys

        async def run(self, *_: object) -> None:
            gc.collect()
            assert (await self.keys.active(*DATA)).purpose is Purpose.DATA
            assert len(known(self.keys)) == 2
            assert not known(loaded.keys)
            of_data = [key for key in (ref() for ref in theirs) if key is not None and key.purpose is Purpose.DATA]
            assert not of_data  # its own are told what they spend; lookup keys have no budget and are the same
            self.keys.close()
            assert not any(ref() for ref in theirs)

    monkeypatch.setattr(worker, "Worker", Serving)
    nothing = cast(Any, None)
    worker.run_worker(0, loaded, nothing, budget, {}, nothing, nothing)
    budget.close()


async def test_neither_a_suspended_machine_nor_a_reload_makes_a_key_serve_longer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspended, gettime = [0.0], time.clock_gettime  # for so many seconds in all
    monkeypatch.setattr(time, "clock_gettime", lambda id_: gettime(id_) + suspended[0] * (id_ == time.CLOCK_BOOTTIME))
    budget = SharedBudget.create()
    keyrings = [open_keys(settings, budget)]
    keyrings[0].open_active()

    def down(*_: Any) -> None:
        raise KeyServiceDownError("down")

    monkeypatch.setattr(LocalKms, "unwrap", down)
    age = settings.keys.limits.cache_age
    for suspended[0] in (0.4 * age, 0.9 * age):
        keyrings.append(open_keys(settings, budget, keyrings[-1]))
        for keys in keyrings:
            assert (await keys.active(*DATA)).purpose is Purpose.DATA
    suspended[0] = age + 1
    keyrings.append(open_keys(settings, budget, keyrings[-1]))
    for keys in keyrings:
        with pytest.raises(Refusal, match="key_unavailable"):
            await keys.active(*DATA)
        keys.close()
    budget.close()


def test_keyrings_that_a_reload_replaced_are_closed_oldest_first_or_all(settings: Settings) -> None:
    budget = SharedBudget.create()
    supervisor = Supervisor.__new__(Supervisor)
    supervisor.outgoing = replaced = [opened(settings, budget) for _ in range(3)]
    supervisor.close_outgoing(1)
    assert [len(known(keys)) for keys in replaced] == [0, 2, 2]
    supervisor.close_outgoing()
    assert not any(known(keys) for keys in replaced) and not supervisor.outgoing
    budget.close()
