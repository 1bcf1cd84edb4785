"""Alarms ring once, or not at all when cancelled; a time limit ends what it holds and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from proxy.alarms import Alarms, TimeLimit


async def test_an_alarm_rings_once_and_not_before_its_time() -> None:
    loop, alarms, rung = asyncio.get_running_loop(), Alarms(), asyncio.Event()
    times: list[float] = []
    when = loop.time() + 0.05
    alarms.set(when, lambda: (times.append(loop.time()), rung.set()))
    alarms.set(when + 0.1, rung.set)
    async with asyncio.timeout(5):
        await rung.wait()
        rung.clear()
        await rung.wait()
    assert len(times) == 1
    assert times[0] >= when


async def test_a_cancelled_alarm_does_not_ring() -> None:
    loop, alarms, rung = asyncio.get_running_loop(), Alarms(), asyncio.Event()
    heard: list[str] = []
    number = alarms.set(loop.time() + 0.01, lambda: heard.append("cancelled"))
    alarms.cancel(number)
    alarms.cancel(number)
    alarms.set(loop.time() + 0.05, rung.set)
    await rung.wait()
    assert heard == []


async def test_an_alarm_that_raises_does_not_stop_the_clock() -> None:
    loop, alarms, rung = asyncio.get_running_loop(), Alarms(), asyncio.Event()
    faults: list[object] = []
    loop.set_exception_handler(lambda _loop, context: faults.append(context["exception"]))

    def fail() -> None:
        raise LookupError

    alarms.set(loop.time(), fail)
    alarms.set(loop.time() + 0.05, rung.set)
    await rung.wait()
    assert [type(fault) for fault in faults] == [LookupError]


async def test_an_alarm_may_cancel_another_of_the_same_moment() -> None:
    loop, alarms, rung = asyncio.get_running_loop(), Alarms(), asyncio.Event()
    numbers: list[int] = []
    heard: list[int] = []

    def ring() -> None:
        heard.append(1)
        for number in numbers:
            alarms.cancel(number)

    numbers += [alarms.set(loop.time(), ring), alarms.set(loop.time(), ring)]
    alarms.set(loop.time() + 0.05, rung.set)
    await rung.wait()
    assert heard == [1]


async def test_without_alarms_there_is_no_timer() -> None:
    alarms = Alarms()
    alarms.cancel(alarms.set(asyncio.get_running_loop().time() + 5, lambda: None))
    assert alarms._timer is not None
    while alarms._timer is not None:
        await asyncio.sleep(0.01)


async def test_a_time_limit_ends_what_waits() -> None:
    with pytest.raises(TimeoutError), TimeLimit(Alarms(), 0.01):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_time_limit_that_is_not_reached_changes_nothing() -> None:
    alarms = Alarms()
    with TimeLimit(alarms, 0.03):
        await asyncio.sleep(0)
    await asyncio.sleep(0.08)


async def test_an_error_within_the_limit_is_passed_on() -> None:
    with pytest.raises(LookupError), TimeLimit(Alarms(), 5):
        raise LookupError


async def test_an_error_of_a_block_that_was_cut_off_is_passed_on_and_the_task_lives() -> None:
    with pytest.raises(LookupError), TimeLimit(Alarms(), 0.01):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LookupError from None
    await asyncio.sleep(0)


async def test_a_cancellation_from_outside_stays_one() -> None:
    begun = asyncio.Event()

    async def hold() -> None:
        with TimeLimit(Alarms(), 5):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_the_inner_of_two_limits_is_no_business_of_the_outer() -> None:
    alarms = Alarms()
    with TimeLimit(alarms, 5):
        with pytest.raises(TimeoutError), TimeLimit(alarms, 0.01):
            await asyncio.Event().wait()
        await asyncio.sleep(0)


async def test_the_outer_limit_is_not_taken_for_the_inner() -> None:
    alarms = Alarms()
    with pytest.raises(TimeoutError), TimeLimit(alarms, 0.01), TimeLimit(alarms, 5):
        await asyncio.Event().wait()
