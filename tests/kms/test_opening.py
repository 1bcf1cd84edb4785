"""Keys at a start and at a reload: whose key service must answer, and whose failure is told and no more."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path
from typing import cast

import pytest

from proxy.kms.gate import THREADS
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing, rotate
from proxy.kms.selection import Selection
from proxy.kms.service import KeyService, KeyServiceDownError, Slot, Wrapped
from proxy.refusal import Refusal
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, NOW, Bench, Counting, Passing

RANDOM = secrets.token_bytes


@pytest.fixture
def own(bench: Bench, tmp_path: Path) -> Counting:
    """The key service of the tenant acme, which wraps its data key from now on."""
    (tmp_path / "own").mkdir(mode=0o700)
    service = Counting(LocalKms(tmp_path / "own", RANDOM(32), RANDOM, "own"))
    bench.services._tenants["acme"] = cast(KeyService, service)
    bench.services._brought["acme"] = None
    bench.services.create_kek(ACME)
    rotate(bench.file, bench.services, Selection(tenant="acme"), NOW, RANDOM)
    service.unwrapped = 0
    return service


async def test_a_tenant_s_own_service_that_is_closed_stops_no_start(bench: Bench, own: Counting) -> None:
    own.error = KeyServiceDownError("closed")
    keys = bench.open()
    keys.open_active()
    assert not own.unwrapped, "nor does the start wait for it"
    assert await keys.active(*FOREIGN) and await keys.active(*LOOKUP)
    assert bench.kms.unwrapped == 2
    with pytest.raises(Refusal, match="key_unavailable"):
        await keys.active(*DATA)
    assert not keys.not_ready()
    assert keys.warnings() == ["key service own does not answer as it should"]
    own.error = None
    bench.clock.move(40)
    await keys.tick(keep=True)
    await keys.quiet()
    assert await keys.active(*DATA) and not keys.warnings()


async def test_nor_does_one_that_gives_other_keys(bench: Bench, own: Counting) -> None:
    own.swapping = True
    keys = bench.open()
    keys.open_active()
    await keys.tick(keep=True)
    await keys.quiet()
    assert not keys.not_ready()
    assert any("does not match its id" in warning for warning in keys.warnings())
    with pytest.raises(Refusal, match="key_unavailable"):
        await keys.active(*DATA)


def test_the_gateway_s_own_service_must_answer_at_the_start(bench: Bench, own: Counting) -> None:
    keys = bench.open()
    bench.kms.error = KeyServiceDownError("down")
    with pytest.raises(KeyServiceDownError):
        keys.open_active()


def test_a_reload_uses_the_keys_that_are_open(bench: Bench) -> None:
    before = bench.open()
    before.open_active()
    bench.kms.error = KeyServiceDownError("down")
    bench.open(before=before).open_active()
    assert not bench.kms.unwrapped


class Crowded(Passing):
    """Answers when as many ask as may ask at a time, and counts them."""

    def __init__(self, kms: KeyService) -> None:
        super().__init__(kms)
        self.together = threading.Barrier(THREADS)
        self.now = self.most = 0

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        self.together.wait(20)
        self.now -= 1
        return self._kms.unwrap(slot, wrapped)


def test_a_few_are_asked_for_at_a_time_and_all_threads_have_ended(bench: Bench) -> None:
    slots = [DATA._replace(group=f"g{number}") for number in range(4 * THREADS - 3)]
    make_missing(bench.file, bench.services, slots, NOW, RANDOM)
    keys, threads = bench.open(), set(threading.enumerate())
    crowded = Crowded(cast(KeyService, bench.kms))
    bench.services.default = cast(KeyService, crowded)
    keys.open_active()
    assert crowded.most <= THREADS and bench.kms.unwrapped == 4 * THREADS
    assert set(threading.enumerate()) <= threads
