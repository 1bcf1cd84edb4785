"""Keys at a start and at a reload: whose key service must answer, and whose failure is told and no more."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from proxy.kms import transitions
from proxy.kms.budget import SharedBudget
from proxy.kms.gate import THREADS
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_format import Entry
from proxy.kms.keystore import open_keyring_in_use
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing, rotate
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, KeyService, KeyServiceDownError, Slot, Wrapped
from proxy.kms.shredded import Shredded
from proxy.kms.shredding import shred
from proxy.refusal import Refusal
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, NOW, Bench, Clock, Counting, Passing
from tests.kms.machine import Machine, Two

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


# --- a key that a machine made before it knew of a shredding


@pytest.fixture
def late(two: Two) -> tuple[Machine, Entry]:
    """A machine that shredded acme and then took up a key of acme from another."""
    one, other = two
    shred(one.file, one.services, ACME, NOW, several_machines=True)
    entry = other.rotated(DATA)
    one.takes_up(other)
    return one, entry


def _in_use(machine: Machine, clock: Clock, budget: SharedBudget) -> Keyring:
    limits = KeyLimits()
    return open_keyring_in_use(machine.services, machine.state, limits, budget, clock, RANDOM)


async def test_a_late_key_of_a_shredded_tenant_stops_no_start_and_no_other_tenant(
    late: tuple[Machine, Entry], clock: Clock, budget: SharedBudget
) -> None:
    machine, entry = late
    keys = _in_use(machine, clock, budget)
    keys.open_active()
    assert await keys.active(*FOREIGN)
    for _ in range(3):
        with pytest.raises(Refusal, match="key_unavailable"):
            await keys.active(*DATA)
        assert not keys.not_ready()
        (warning,) = keys.warnings()
        assert entry.id.hex() in warning and "was shredded" in warning and "doctor" in warning
        clock.move(400)
        await keys.tick(keep=True)
        await keys.quiet()
    machine.file.change(lambda entries: transitions.destroyed(entries, {entry.id}, NOW))
    await keys.tick(keep=True)
    assert not keys.warnings()
    keys.close()


async def test_one_that_is_taken_up_while_serving_is_a_warning_too(
    late: tuple[Machine, Entry], clock: Clock, budget: SharedBudget
) -> None:
    machine, _ = late
    keys = _in_use(machine, clock, budget)
    await keys.tick(keep=True)
    await keys.quiet()
    assert not keys.not_ready() and "was shredded" in " ".join(keys.warnings())
    keys.close()


def test_a_kek_that_is_missing_without_a_shredding_stops_the_start(
    two: Two, clock: Clock, budget: SharedBudget
) -> None:
    one, _ = two
    one.services.destroy_kek(ACME)
    keys = _in_use(one, clock, budget)
    with pytest.raises(KeysError, match="no KEK version 1"):
        keys.open_active()
    keys.close()


def test_nor_does_a_shredding_excuse_a_key_that_was_changed(two: Two, clock: Clock, budget: SharedBudget) -> None:
    one, _ = two
    one.file.change_document(lambda document: replace(document, shredded=frozenset({Shredded(ACME, bytes(16))})))
    one.file.change(lambda entries: tuple(_changed(entry) for entry in entries))
    keys = _in_use(one, clock, budget)
    with pytest.raises(KeysError, match="does not open under its KEK"):
        keys.open_active()
    keys.close()


def _changed(entry: Entry) -> Entry:
    return replace(entry, wrapped=replace(entry.wrapped, sealed=entry.wrapped.sealed[::-1]))
