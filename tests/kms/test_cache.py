"""Unwrapped keys: one call at a time, none too soon, no waiting while a key is at hand; limits, grace, recovery."""

import asyncio
import secrets
import threading
from dataclasses import replace

import pytest

from proxy.crypto.data_key import DataKey
from proxy.kms.gate import THREADS, Gate, pause
from proxy.kms.keyring import Keyring
from proxy.kms.limits import KeyLimits
from proxy.kms.service import KeysError, KeyServiceDownError
from proxy.refusal import Refusal
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, Bench

AGE = 100.0
LIMITS = KeyLimits(cache_age=AGE)


async def refused(keys: Keyring) -> bool:
    try:
        await keys.active(*DATA)
    except Refusal as refusal:
        assert refusal.code == "key_unavailable"
        return True
    return False


async def test_a_thousand_that_wait_for_a_key_cost_one_call(bench: Bench) -> None:
    keys = bench.open(LIMITS)
    bench.kms.answers.clear()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(keys.active(*DATA)) for _ in range(1000)]
        await asyncio.sleep(0.05)
        assert bench.kms.unwrapped == 1 and not any(task.done() for task in asked)
        asked[0].cancel()  # who stops waiting does not stop the others
        await asyncio.sleep(0)
        bench.kms.answers.set()
    assert len({task.result() for task in asked[1:]}) == 1 and bench.kms.unwrapped == 1


async def test_a_thousand_that_meet_a_failure_cost_one_call_an_interval(bench: Bench) -> None:
    keys = bench.open(LIMITS)
    bench.kms.error = KeyServiceDownError("down")
    for _ in range(3):
        assert all(await asyncio.gather(*(refused(keys) for _ in range(1000))))
    assert bench.kms.unwrapped == 1
    bench.clock.move(1.0)
    assert all(await asyncio.gather(*(refused(keys) for _ in range(1000))))
    assert bench.kms.unwrapped == 2
    bench.kms.error = None
    bench.clock.move(2.0)
    assert not await refused(keys) and bench.kms.unwrapped == 3


async def test_a_key_is_asked_for_again_ahead_of_time_and_nobody_waits(bench: Bench) -> None:
    keys = bench.open(LIMITS)
    first = await keys.active(*DATA)
    await keys.active(*DATA)
    bench.clock.move(0.4 * AGE)
    await keys.tick()
    assert bench.kms.unwrapped == 1  # too early
    bench.clock.move(0.2 * AGE)
    bench.kms.answers.clear()
    await keys.tick()
    assert await keys.active(*DATA) is first  # the call is under way and stalls nobody
    bench.kms.answers.set()
    await keys.quiet()
    second = await keys.active(*DATA)
    assert bench.kms.unwrapped == 2 and second is not first and second.id == first.id
    bench.clock.move(0.8 * AGE)
    assert await keys.active(*DATA) is second


async def test_a_key_nobody_uses_is_dropped_and_not_asked_for(bench: Bench) -> None:
    keys = bench.open(LIMITS)
    await keys.active(*DATA)
    for _ in range(3):
        bench.clock.move(0.6 * AGE)
        await keys.tick()
    assert bench.kms.unwrapped == 1
    held = keys._holdings.by_id[ACME, bench.only(DATA).id]
    assert held.key is None
    await keys.tick(keep=True)
    await keys.quiet()
    assert bench.kms.unwrapped == 4 and held.key is not None  # three active ones for new workers


async def test_while_the_service_is_down_keys_serve_to_their_limit_and_readiness_turns_before(bench: Bench) -> None:
    keys = bench.open(LIMITS)
    key = await keys.active(*DATA)
    await keys.active(*DATA)
    bench.kms.error = KeyServiceDownError("down")
    served, red = 0.0, None
    while not await refused(keys):
        served += 1.0
        bench.clock.move(1.0)
        await keys.tick()
        await keys.quiet()
        if red is None and keys.not_ready():
            red = served
    assert red is not None and 0.7 * AGE < red < 0.8 * AGE and served == AGE
    assert "missing" in keys.not_ready()[0] and "does not answer" in keys.warnings()[0]
    assert bench.kms.unwrapped < 12  # not one a second
    assert key.seal(bytes(24), b"words", b"")  # an exchange that has it goes on
    bench.kms.error = None
    bench.clock.move(40.0)
    await keys.tick()
    await keys.quiet()
    assert not await refused(keys) and keys.not_ready() == [] and keys.warnings() == []


async def test_a_tenant_s_own_service_is_asked_as_often_as_it_says(bench: Bench) -> None:
    bench.services._brought["acme"] = 20.0
    keys = bench.open(LIMITS)
    await keys.active(*DATA)
    await keys.active(*FOREIGN)
    bench.kms.error = KeyServiceDownError("down")
    bench.clock.move(20.0)
    assert await refused(keys)
    assert (await keys.active(*FOREIGN)).id == bench.only(FOREIGN).id


@pytest.mark.parametrize("limits", [replace(LIMITS, cache_uses=1000), replace(LIMITS, cache_size=100_000)])
async def test_a_key_that_served_often_enough_is_asked_for_again(bench: Bench, limits: KeyLimits) -> None:
    keys = bench.open(replace(limits, budget_uses=6400, budget_size=640_000))
    for _ in range(700):
        (await keys.active(*DATA)).seal(bytes(24), bytes(100), b"")
    await keys.tick()
    await keys.quiet()
    assert bench.kms.unwrapped == 2  # ahead of time, from half of the limit on
    bench.kms.error = KeyServiceDownError("down")
    with pytest.raises(Refusal, match="key_unavailable"):
        for _ in range(1600):
            (await keys.active(*DATA)).seal(bytes(24), bytes(100), b"")


async def test_an_answer_that_will_not_change_is_asked_for_rarely(bench: Bench) -> None:
    keys = bench.open(LIMITS)
    bench.kms.error = KeysError("denied")
    assert await refused(keys)
    bench.clock.move(6.0)
    assert await refused(keys) and bench.kms.unwrapped == 1
    bench.clock.move(12.0)
    assert await refused(keys) and bench.kms.unwrapped == 2
    assert await keys.active(*LOOKUP) if bench.kms.error is None else True


async def test_a_failed_key_is_tried_again_without_being_asked_for(bench: Bench) -> None:
    keys = bench.open(LIMITS)
    bench.kms.error = KeyServiceDownError("down")
    assert await refused(keys)
    assert keys.not_ready() == ["key service local does not answer and keys are missing"]
    bench.kms.error = None
    bench.clock.move(2.0)
    await keys.tick()
    await keys.quiet()
    assert keys.not_ready() == [] and bench.kms.unwrapped == 2


async def test_dropping_a_key_takes_it_from_nobody(bench: Bench) -> None:
    keys = bench.open(LIMITS)

    async def use() -> int:
        sealed = 0
        for _ in range(300):
            key = await keys.active(*DATA)
            await asyncio.sleep(0)
            assert key.open(bytes(24), key.seal(bytes(24), b"words", b""), b"") == b"words"
            sealed += 1
        return sealed

    async def age() -> None:
        for _ in range(200):
            bench.clock.move(0.7 * AGE)
            await keys.tick()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        users = [group.create_task(use()) for _ in range(8)]
        group.create_task(age())
    assert sum(user.result() for user in users) == 2400


# --- the circuit breaker


async def test_the_circuit_opens_after_three_failures_and_lets_one_try_at_a_time(bench: Bench) -> None:
    gate = Gate(bench.services.default, bench.clock.monotonic, lambda: 1.0)
    entry = bench.only(DATA)
    bench.kms.unwrapped = 0
    bench.kms.error = KeyServiceDownError("down")

    async def ask() -> bytes:
        return await gate.call(gate.service.unwrap, entry.slot, entry.wrapped)

    for _ in range(5):
        with pytest.raises(KeyServiceDownError):
            await ask()
    assert gate.down and bench.kms.unwrapped == 3
    bench.clock.move(2.0)
    bench.kms.answers.clear()
    trial = asyncio.get_running_loop().create_task(ask())
    await asyncio.sleep(0.02)
    with pytest.raises(KeyServiceDownError, match="not asked again yet"):
        await ask()
    bench.kms.error = None
    bench.kms.answers.set()
    assert DataKey(await trial, entry.slot.purpose, entry.id) and not gate.down
    assert await ask() and bench.kms.unwrapped == 5


async def test_who_waits_for_a_place_asks_nothing_when_the_service_turns_out_down(bench: Bench) -> None:
    gate = Gate(bench.services.default, bench.clock.monotonic, lambda: 1.0)
    asked, over = [], threading.Event()

    def verb() -> None:
        asked.append(1)
        assert over.wait(20)
        raise KeyServiceDownError("down")

    calls = [asyncio.get_running_loop().create_task(gate.call(verb)) for _ in range(20)]
    await asyncio.sleep(0)  # all have begun: some have a place, the others wait for one
    over.set()
    assert all(isinstance(each, KeyServiceDownError) for each in await asyncio.gather(*calls, return_exceptions=True))
    assert THREADS <= len(asked) < THREADS + 3, "three failures open the circuit"


async def test_a_shorter_age_counts_for_what_is_taken_over(bench: Bench) -> None:
    first = bench.open(LIMITS)
    await first.active(*DATA)
    bench.services._brought["acme"] = 20.0
    second = bench.open(LIMITS, before=first)
    for _ in range(2):
        await second.active(*DATA)
    bench.kms.error = KeyServiceDownError("down")
    bench.clock.move(15.0)
    await second.tick()
    await second.quiet()
    assert bench.kms.unwrapped == 1 and not await refused(second)  # asked again ahead of time
    bench.clock.move(6.0)
    assert await refused(second)


async def test_a_longer_age_does_not_count_for_what_is_taken_over(bench: Bench) -> None:
    bench.services._brought["acme"] = 20.0
    first = bench.open(LIMITS)
    await first.active(*DATA)
    del bench.services._brought["acme"]
    second = bench.open(LIMITS, before=first)
    bench.kms.error = KeyServiceDownError("down")
    bench.clock.move(19.0)
    assert not await refused(second)
    bench.clock.move(2.0)
    assert await refused(second)


async def test_a_tenant_s_key_is_as_old_after_a_reload_as_before(bench: Bench) -> None:
    bench.services._brought["acme"] = 20.0
    first = bench.open(LIMITS)
    await first.active(*DATA)
    bench.kms.error = KeyServiceDownError("down")
    bench.clock.move(15.0)
    second = bench.open(LIMITS, before=first)
    bench.clock.move(4.0)
    assert not await refused(second)
    third = bench.open(LIMITS, before=second)
    bench.clock.move(2.0)
    assert await refused(second) and await refused(third)


async def test_an_answer_that_is_no_closes_the_circuit(bench: Bench) -> None:
    gate = Gate(bench.services.default, bench.clock.monotonic, lambda: 1.0)
    entry = bench.only(DATA)
    for error in (KeyServiceDownError("down"), KeyServiceDownError("down"), KeysError("denied")) * 3:
        bench.kms.error = error
        with pytest.raises(KeysError):
            await gate.call(gate.service.unwrap, entry.slot, entry.wrapped)
        assert not gate.down


def test_pauses_double_are_bounded_and_differ() -> None:
    assert [pause(number, 1.0) for number in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert pause(1000, 1.0) == 30.0 and pause(1000, 0.0) == 15.0
    chances = [secrets.randbelow(1000) / 1000 for _ in range(50)]
    assert len({pause(3, chance) for chance in chances}) > 10 and all(1.0 <= pause(3, c) <= 2.0 for c in chances)
