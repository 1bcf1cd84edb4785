"""A cohort does each step together, keeps later ones out until it is through, and waits for nobody who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from proxy.cohorts import _MOST, _PIECE, Cohorts, Inlet


class Road:
    """Messages that take steps and write down who took which."""

    def __init__(self) -> None:
        self.cohorts = Cohorts()
        self.taken: list[tuple[str, int]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def send(self, name: str, steps: int = 3, after: Callable[[int], None] = lambda step: None) -> None:
        """Has a message join; `after` is called with the number of each step it took."""

        async def go() -> None:
            for step in range(steps):
                self.taken.append((name, step))
                after(step)
                await self.cohorts.rest()

        self.cohorts.join(lambda: self.tasks.append(_started(go())))

    async def arrive(self, amount: int) -> None:
        async with asyncio.timeout(5):
            while len(self.tasks) < amount or not all(task.done() for task in self.tasks):
                await asyncio.sleep(0)

    @property
    def names(self) -> Iterator[str]:
        return (name for name, _ in self.taken)


async def test_each_step_is_taken_by_all_before_the_next_is_by_any() -> None:
    road = Road()
    for name in "abc":
        road.send(name)
    await road.arrive(3)
    assert road.taken == [(name, step) for step in range(3) for name in "abc"]


async def test_what_arrives_on_the_way_goes_with_the_next_cohort() -> None:
    road = Road()
    road.send("a", after=lambda step: road.send(f"later {step}", steps=2) if step < 2 else None)
    road.send("b")
    await road.arrive(4)
    assert list(road.names) == ["a", "b"] * 3 + ["later 0", "later 1"] * 2


async def test_who_waits_for_the_world_keeps_nobody_waiting() -> None:
    cohorts, world, order = Cohorts(), asyncio.Event(), list[str]()

    async def slow() -> None:
        await cohorts.rest()
        await world.wait()
        order.append("slow")

    async def quick() -> None:
        await cohorts.rest()
        order.append("quick")
        world.set()

    tasks = [asyncio.create_task(slow())]
    await asyncio.sleep(0)
    cohorts.join(lambda: tasks.append(asyncio.create_task(quick())))
    async with asyncio.timeout(5):
        await world.wait()
        await asyncio.gather(*tasks)
    assert order == ["quick", "slow"]


async def test_who_is_cancelled_at_rest_keeps_nobody_waiting() -> None:
    cohorts, begun = Cohorts(), asyncio.Event()

    async def go() -> None:
        await cohorts.rest()

    task = _started(go())
    task.cancel()
    cohorts.join(begun.set)
    await _turns()
    assert begun.is_set()
    assert task.cancelled()


async def test_one_that_raises_stops_no_other() -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context["exception"]))
    cohorts, begun = Cohorts(), asyncio.Event()

    def fail() -> None:
        raise LookupError

    cohorts.join(fail)
    cohorts.join(begun.set)
    async with asyncio.timeout(5):
        await begun.wait()
    assert [type(fault) for fault in faults] == [LookupError]


async def test_a_cohort_has_a_bounded_number_of_members_and_nobody_is_left_behind() -> None:
    road = Road()
    amount = 2 * _MOST + 1
    for number in range(amount):
        road.send(str(number), steps=2)
    await road.arrive(amount)
    groups = (range(_MOST), range(_MOST, 2 * _MOST), range(2 * _MOST, amount))
    assert road.taken == [(str(number), step) for group in groups for step in range(2) for number in group]


async def test_one_that_is_alone_rests_nowhere() -> None:
    road = Road()
    road.send("a", after=lambda step: road.send("b") if step == 2 else None)
    begun = asyncio.get_running_loop().call_soon
    begun(lambda: begun(lambda: road.taken.append(("turn of the loop", 0))))
    await road.arrive(2)
    assert list(road.names) == ["a", "a", "a", "turn of the loop", "b", "b", "b"]


async def test_a_cohort_starts_again_after_a_pause() -> None:
    road = Road()
    road.send("a")
    await road.arrive(1)
    road.send("b")
    await road.arrive(2)
    assert list(road.names) == ["a"] * 3 + ["b"] * 3


async def test_somebody_who_rests_for_ever_keeps_nobody_waiting() -> None:
    cohorts, begun = Cohorts(), asyncio.Event()
    resting = cohorts.rest()
    next(resting)
    cohorts.join(begun.set)
    async with asyncio.timeout(5):
        await begun.wait()
    resting.close()


async def test_the_gate_opens_again_after_a_fault_in_opening_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cohorts, begun = Cohorts(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    soon, faults = loop.call_soon, [MemoryError, None, MemoryError]

    def call_soon(*arguments: Any, **named: Any) -> Any:
        if arguments[0] in (cohorts._open_gate, begun.set) and faults and (fault := faults.pop()):
            raise fault
        return soon(*arguments, **named)

    monkeypatch.setattr(loop, "call_soon", call_soon)
    with pytest.raises(MemoryError):
        cohorts.join(begun.set)
    cohorts.join(lambda: None)
    async with asyncio.timeout(5):
        await begun.wait()
    assert faults == []


@pytest.fixture
def pieces() -> list[bytes]:
    return []


async def test_a_piece_waits_for_its_cohort(pieces: list[bytes]) -> None:
    inlet = Inlet(Cohorts(), pieces.append)
    inlet.put(b"one")
    assert (bool(inlet), pieces) == (True, [])
    await _turns()
    assert (bool(inlet), pieces) == (False, [b"one"])


async def test_pieces_of_one_connection_wait_together_and_join_once(pieces: list[bytes]) -> None:
    cohorts = Cohorts()
    inlet = Inlet(cohorts, pieces.append)
    for piece in (b"one", b" two", b" three"):
        inlet.put(piece)
    assert (bool(inlet), pieces, len(cohorts._arrived)) == (True, [], 1)
    await _turns()
    assert pieces == [b"one two three"]
    inlet.put(b"four")
    await _turns()
    assert pieces == [b"one two three", b"four"]


async def test_only_so_much_may_wait(pieces: list[bytes]) -> None:
    inlet = Inlet(Cohorts(), pieces.append)
    inlet.put(bytes(_PIECE))
    assert pieces == []
    inlet.put(b"x")
    assert (bool(inlet), len(pieces[0])) == (False, _PIECE + 1)
    await _turns()
    assert len(pieces) == 1


async def test_what_waits_can_be_had_at_once(pieces: list[bytes]) -> None:
    inlet = Inlet(Cohorts(), pieces.append)
    inlet.put(b"one")
    inlet.flush()
    assert pieces == [b"one"]
    await _turns()
    assert pieces == [b"one"]


def _started(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """A task that has run up to its first rest already, as exchanges do."""
    return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
