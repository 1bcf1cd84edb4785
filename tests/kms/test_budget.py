"""Budgets: no key protects more than its limit, whoever is killed when; nobody is refused while keys can be made."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from proxy.kms.budget import Meter, SharedBudget
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_format import KeyState
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, KeyServiceDownError, Slot
from proxy.kms.transfer import export_wrapped, import_wrapped
from proxy.refusal import Refusal
from tests.kms.conftest import DATA, FOREIGN, NOW, Bench
from tests.support.embedded import init_keys

KEY = bytes(range(16))


def test_no_more_is_given_than_is_allowed(budget: SharedBudget) -> None:
    assert budget.take(KEY, 1, 1) == (0, 0, 0, 0) and budget.counts(KEY) is None
    budget.admit(KEY, 0, 0, fresh=True)
    assert budget.take(KEY, 1, 1) == (0, 0, 0, 0)
    budget.allow(KEY, 10, 100)
    assert budget.take(KEY, 4, 30) == (4, 30, 6, 70)
    budget.admit(KEY, 0, 0, fresh=True)  # it is there
    assert budget.take(KEY, 400, 30) == (6, 30, 0, 40)
    assert budget.take(KEY, 1, 1) == (0, 0, 0, 40)  # bytes are of no use without uses
    budget.allow(KEY, 5, 5)  # never less than before
    budget.allow(KEY, 12, 100)
    assert budget.take(KEY, 400, 400) == (2, 40, 0, 0)
    assert budget.counts(KEY) == (12, 100)


def test_a_key_that_is_not_fresh_counts_as_used_up_to_what_the_file_says(budget: SharedBudget) -> None:
    budget.admit(KEY, 10, 100)
    assert budget.take(KEY, 1, 1).uses == 0 and budget.counts(KEY) == (10, 100)
    budget.allow(KEY, 11, 200)
    assert budget.take(KEY, 5, 5) == (1, 5, 0, 95)


def test_rows_are_found_reused_and_run_out() -> None:
    small = SharedBudget.create(8)
    keys = [bytes([0, 0, 0, 7, number] + [1] * 11) for number in range(9)]  # all want the last row
    for number, key in enumerate(keys[:8]):
        small.admit(key, number, number)
    with pytest.raises(Refusal, match="key_unavailable"):
        small.admit(keys[8], 0, 0)
    assert small.counts(keys[8]) is None
    small.forget(keys[1:8])
    small.admit(keys[8], 8, 8)
    assert [small.counts(key) for key in keys] == [None, *((number, number) for number in range(1, 9))]
    small.close()


def test_a_meter_takes_blocks_and_stops_where_the_budget_does(budget: SharedBudget) -> None:
    budget.admit(KEY, 0, 0, fresh=True)
    budget.allow(KEY, 20, 1000)
    told: list[int] = []
    meter = Meter(budget, KEY, (8, 400), lambda: told.append(1))
    spent = 0
    with pytest.raises(Refusal, match="key_unavailable"):
        for _ in range(30):
            meter.spend(10)
            spent += 1
    assert spent == 20 and len(told) >= 3 and meter.uses_taken == 20 and meter.scarce
    assert not meter.ready()
    budget.allow(KEY, 40, 2000)
    assert meter.ready() and not meter.scarce


def test_large_values_take_what_they_need_or_nothing(budget: SharedBudget) -> None:
    budget.admit(KEY, 0, 0, fresh=True)
    budget.allow(KEY, 100, 1000)
    meter = Meter(budget, KEY, (8, 100), lambda: None)
    meter.spend(700)
    for _ in range(2):
        with pytest.raises(Refusal, match="key_unavailable"):
            meter.spend(301)
    meter.spend(100)
    assert budget.counts(KEY)[1] <= 1000  # type: ignore[index]


def test_threads_of_a_process_take_nothing_twice(budget: SharedBudget) -> None:
    budget.admit(KEY, 0, 0, fresh=True)
    budget.allow(KEY, 4000, 10**6)
    taken: list[int] = []
    threads = [Thread(target=lambda: taken.extend(budget.take(KEY, 1, 1).uses for _ in range(2000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 4000


# --- with the keyring


async def seal(bench: Bench, limits: KeyLimits, amount: int) -> dict[bytes, int]:
    keys = bench.open(limits)
    used: dict[bytes, int] = {}
    for _ in range(amount):
        key = await keys.active(*DATA)
        key.seal(bytes(24), b"words", b"")
        used[key.id] = used.get(key.id, 0) + 1
    return used


async def test_a_spent_key_is_replaced_before_its_limit(bench: Bench) -> None:
    used = await seal(bench, KeyLimits(budget_uses=1000), 5000)
    assert max(used.values()) <= 1000 and min(list(used.values())[:-1]) > 900
    entries = {entry.id: entry for entry in bench.file.read() if entry.slot == DATA}
    assert all(amount <= entries[key_id].uses <= 1000 for key_id, amount in used.items())
    assert sum(entry.state is KeyState.ACTIVE for entry in entries.values()) == 1


async def test_bytes_have_a_budget_as_well(bench: Bench) -> None:
    used = await seal(bench, KeyLimits(budget_size=5 * 1000), 3000)
    assert max(used.values()) <= 1000 and len(used) >= 3


async def test_a_successor_is_made_ahead_of_time(bench: Bench) -> None:
    limits = KeyLimits(budget_uses=1000)
    used = await seal(bench, limits, 700)
    assert len(used) == 1 and not [e for e in bench.file.read() if e.state is KeyState.PENDING]
    await seal(bench, limits, 100)
    await bench.open(limits).upkeep.keep()  # as the supervisor does
    (coming,) = [e for e in bench.file.read() if e.state is KeyState.PENDING]
    assert coming.slot == DATA and coming.activated == int(NOW + limits.activate_after)


async def test_without_a_key_service_the_budget_is_used_to_its_end_and_no_further(bench: Bench) -> None:
    keys = bench.open(KeyLimits(budget_uses=1000))
    await keys.active(*DATA)
    bench.kms.error = KeyServiceDownError("down")
    used = 0
    with pytest.raises(Refusal, match="key_unavailable"):
        for _ in range(2000):
            (await keys.active(*DATA)).seal(bytes(24), b"words", b"")
            used += 1
    assert 900 < used <= 1000
    bench.kms.error = None
    bench.clock.move(5)
    assert await keys.active(*DATA)


async def test_a_restart_forgets_nothing(bench: Bench) -> None:
    limits, total = KeyLimits(budget_uses=1000), {}
    for _ in range(12):  # each loses what was given out and not used, none uses more
        for key_id, amount in (await seal(bench, limits, 100)).items():
            total[key_id] = total.get(key_id, 0) + amount
        bench.budget = SharedBudget.create(64)
    assert max(total.values()) <= 1000 and sum(total.values()) == 1200


async def test_an_orderly_end_writes_down_what_was_given_out(bench: Bench) -> None:
    keys = bench.open(KeyLimits(budget_uses=100_000))
    (await keys.active(*DATA)).seal(bytes(24), b"words", b"")
    assert bench.only(DATA).uses == 6250
    keys.upkeep.settle_counts()
    assert bench.only(DATA).uses == 100_000 // 128


async def test_machines_share_the_budget_and_use_no_key_the_others_may_not_know(bench: Bench) -> None:
    limits = KeyLimits(budget_uses=4000, machines=4)
    keys = bench.open(limits)
    used = 0
    with pytest.raises(Refusal, match="key_unavailable"):
        for _ in range(2000):
            (await keys.active(*DATA)).seal(bytes(24), b"words", b"")
            used += 1
    assert 900 < used <= 1000
    bench.clock.move(limits.activate_after)
    assert await keys.active(*DATA)  # its successor was made at three quarters, and is known by now


async def test_who_has_a_spent_key_replaced_can_protect_at_once(bench: Bench) -> None:
    keys = bench.open(KeyLimits(budget_uses=1000, budget_size=1000))
    keys.upkeep.keep_now()
    spent = (await keys.active(*DATA)).id
    bench.budget.allow(spent, 1000, 1000)
    bench.budget.take(spent, 1000, 1000)
    assert await keys.upkeep.relieve(DATA, spent)
    assert (await keys.active(*DATA)).id != spent


# --- counts that somebody else puts into the file


def test_what_was_used_elsewhere_is_not_given_out_again(budget: SharedBudget) -> None:
    budget.count_elsewhere(KEY, 7, 7)  # no row: it begins as what the file says
    assert budget.counts(KEY) is None
    budget.admit(KEY, 0, 0, fresh=True)
    budget.allow(KEY, 10, 1000)
    budget.take(KEY, 4, 40)
    budget.count_elsewhere(KEY, 10, 1000)
    assert budget.counts(KEY) == (4, 40), "so much this machine wrote itself"
    budget.count_elsewhere(KEY, 11, 900)
    assert budget.counts(KEY) == (11, 40) and budget.allowed(KEY) == (11, 1000)
    budget.count_elsewhere(KEY, 5, 2000)
    assert budget.counts(KEY) == (11, 2000) and budget.take(KEY, 1, 1) == (0, 0, 0, 0)


IMPORTED = KeyLimits(budget_uses=1600, rotate_after=1e12)


async def imported_beside(bench: Bench) -> Keyring:
    """A gateway on an older copy of the keyring, beside which a newer one is imported: 1200 uses and more were made."""
    older = (bench.state / "keyring.json").read_bytes()
    await seal(bench, IMPORTED, 1200)
    newer, _ = export_wrapped(bench.file, Selection())
    (bench.state / "keyring.json").write_bytes(older)
    bench.budget = SharedBudget.create(64)
    keys = bench.open(IMPORTED)
    keys.upkeep.keep_now()
    (await keys.active(*DATA)).seal(bytes(24), b"words", b"")
    import_wrapped(bench.file, bench.services, newer, NOW)
    assert bench.only(DATA).uses >= 1200
    return keys


async def test_a_running_gateway_counts_what_an_import_says(bench: Bench) -> None:
    keys = await imported_beside(bench)
    first = bench.only(DATA).id
    await keys.tick()
    await keys.upkeep.keep()  # as the supervisor does
    assert (bench.budget.counts(first) or (0, 0))[0] >= 1200
    used = 0
    while (key := await keys.active(*DATA)).id == first:
        key.seal(bytes(24), b"words", b"")
        used += 1
    assert 1200 + used <= 1600, "its successor came in time"


async def test_nor_is_it_given_out_before_anybody_looked(bench: Bench) -> None:
    keys, used = await imported_beside(bench), 0
    first = bench.only(DATA).id
    while (key := await keys.active(*DATA)).id == first:
        key.seal(bytes(24), b"words", b"")
        used += 1
    assert 1200 + used <= 1600 + 1600 // 16, "a part that was on the disk as used before"


async def test_an_orderly_end_leaves_the_counts_of_an_import(bench: Bench) -> None:
    keys = await imported_beside(bench)
    said = bench.only(DATA).uses
    keys.upkeep.settle_counts()
    assert bench.only(DATA).uses == said


async def test_what_one_process_allows_is_no_other_s_import(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file is locked: nobody sees what is on the disk and not allowed yet."""
    keys, seen = bench.open(KeyLimits(budget_uses=1600)), []
    allow = SharedBudget.allow

    def watched(self: SharedBudget, *arguments: Any) -> None:
        with pytest.raises(KeysError, match="held this lock"), bench.file._file.locked(seconds=0):
            pass
        seen.append(1)
        allow(self, *arguments)

    monkeypatch.setattr(SharedBudget, "allow", watched)
    keys.upkeep.keep_now()
    assert seen


# --- real processes


def test_four_processes_some_killed_exceed_no_budget_and_are_never_refused(state: Path, unlock: bytes) -> None:
    init_keys(state, unlock, [DATA], time.time(), secrets.token_bytes)
    command = [sys.executable, "-m", "tests.kms.spenders", str(state), unlock.hex(), "1000", "10000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["refused"] == 0 and seen["killed"] >= 6 and seen["sealed"] >= 10_000, seen
    assert seen["most"] <= 1000 and seen["keys"] >= 10, seen


def test_a_killed_holder_of_the_lock_stops_nobody(budget: SharedBudget) -> None:
    budget.admit(KEY, 0, 0, fresh=True)
    budget.allow(KEY, 2**40, 2**40)
    pid = os.fork()
    if pid == 0:
        own = budget.reopened()
        while True:
            own.take(KEY, 1, 1)
    deadline = time.monotonic() + 20
    while (budget.counts(KEY) or (0, 0))[0] < 1000 and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert budget.take(KEY, 1, 1).uses == 1


async def test_keys_that_are_long_out_of_use_make_room(bench: Bench) -> None:
    keys = bench.open(KeyLimits(budget_uses=1000))
    first = await keys.active(*DATA)
    bench.clock.move(91 * 86400.0)
    await keys.upkeep.keep()
    bench.clock.move(20.0)
    await keys.upkeep.keep()
    assert (await keys.active(*DATA)).id != first.id and bench.budget.counts(first.id)  # an exchange may still have it
    bench.clock.move(3700.0)
    keys.upkeep.keep_now()
    assert bench.budget.counts(first.id) is None and bench.budget.counts((await keys.active(*DATA)).id)


async def test_one_tenant_s_closed_service_keeps_no_other_from_rotating(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap = LocalKms.wrap

    def closed(self: LocalKms, slot: Slot, *more: object) -> object:
        if slot.owner == FOREIGN.owner:
            raise KeysError("denied")
        return wrap(self, slot, *more)  # type: ignore[arg-type]

    limits = KeyLimits(rotate_after=100.0, activate_after=10.0)
    keys = bench.open(limits)
    bench.clock.move(200)
    monkeypatch.setattr(LocalKms, "wrap", closed)
    await keys.upkeep.keep()
    assert {entry.slot for entry in bench.file.read() if entry.state is KeyState.PENDING} == {DATA}
    assert any("denied" in warning for warning in keys.warnings())
    monkeypatch.undo()
    bench.clock.move(5)
    await keys.upkeep.keep()
    assert {entry.slot for entry in bench.file.read() if entry.state is KeyState.PENDING} == {DATA, FOREIGN}
