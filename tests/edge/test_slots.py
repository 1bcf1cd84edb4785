"""Slots go around in the order of coming, none is lost and none is made, whoever leaves when."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.edge.slots import Slots


def soon() -> float:
    return asyncio.get_running_loop().time() + 5


async def test_no_more_than_there_are_and_the_next_in_the_order_of_coming() -> None:
    slots, order = Slots(2), list[int]()

    async def use(number: int) -> None:
        await slots.take(soon())
        order.append(number)

    assert slots.take_free() and slots.take_free() and not slots.take_free()
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(use(number))
        await asyncio.sleep(0)
        assert order == []
        for given_back in range(3):
            slots.give_back()
            assert not slots.take_free(), "it belongs to who waited, before that one runs"
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert order == list(range(given_back + 1))
    slots.give_back()
    slots.give_back()
    assert slots.taken == 0


async def test_who_waits_too_long_leaves_the_line() -> None:
    slots = Slots(1)
    await slots.take(soon())
    with pytest.raises(TimeoutError):
        await slots.take(asyncio.get_running_loop().time())
    slots.give_back()
    assert slots.taken == 0
    assert slots.take_free()


async def test_a_slot_handed_to_one_who_leaves_goes_to_the_next() -> None:
    slots = Slots(1)
    assert slots.take_free()
    leaves, stays = (asyncio.ensure_future(slots.take(soon())) for _ in range(2))
    await asyncio.sleep(0)
    slots.give_back()
    leaves.cancel()  # after it was handed over, before it ran
    async with asyncio.timeout(5):
        await stays
    assert leaves.cancelled()
    assert slots.taken == 1
    slots.give_back()
    assert slots.taken == 0


@settings(max_examples=200)
@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from(["take", "give", "leave", "run"]), st.integers(0, 9))))
def test_whoever_comes_and_leaves_the_count_is_right(most: int, acts: list[tuple[str, int]]) -> None:
    async def play() -> None:
        slots, takers, owned = Slots(most), list[asyncio.Task[None]](), 0
        for act, number in acts:
            if act == "take":
                takers.append(asyncio.ensure_future(slots.take(soon())))
            elif act == "leave" and takers:
                takers[number % len(takers)].cancel()
            elif act == "give" and owned:
                owned -= 1
                slots.give_back()
            else:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            owned += sum(task.done() and not task.cancelled() for task in takers)
            takers = [task for task in takers if not task.done()]
            assert owned <= slots.taken <= most
        while takers or owned:
            for _ in range(owned):
                slots.give_back()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            owned = sum(task.done() and not task.cancelled() for task in takers)
            takers = [task for task in takers if not task.done()]
        assert slots.taken == 0

    asyncio.run(play())
