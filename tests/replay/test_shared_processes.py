"""Real processes: racing for the same messages, and killed at every line and at any moment."""

import mmap
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256

import pytest

from proxy.cleared import StoredReply
from proxy.ports import Claim, Delivery
from proxy.replay import shared as module
from proxy.replay.shared import SharedDeliveries

from .forked import die, die_at_line, ended, fork

NOW, HOLD = 1_700_000_000.0, 5.0
SUCCESS = StoredReply("", b"success")
PACKAGE = os.path.dirname(module.__file__)


def delivery(triple: int, message: int) -> Delivery:
    return Delivery(triple.to_bytes(16), message.to_bytes(16, "little"), message.to_bytes(16))


def reply_to(one: Delivery, size: int = 3) -> StoredReply:
    return StoredReply("xml", one.message * size)


@pytest.fixture
def shared() -> Iterator[SharedDeliveries]:
    made = SharedDeliveries.create(20_000, 1 << 16, processes=8)
    yield made
    made.close()


def test_each_message_is_first_for_exactly_one_of_the_workers(shared: SharedDeliveries) -> None:
    workers, messages = 4, 1000
    outcomes = mmap.mmap(-1, workers * messages)
    gate, opener = os.pipe()

    def work(worker: int) -> None:
        os.close(opener)
        os.read(gate, 1)
        for number in range(messages):  # odd: the same triple everywhere; even: one of its own
            one = delivery(number if number % 2 else (worker + 1) * messages + number, number)
            outcomes[worker * messages + number] = {Claim.FIRST: 1, Claim.PENDING: 2}[shared.claim(one, NOW, HOLD)[0]]

    pids = [fork(partial(work, worker)) for worker in range(workers)]
    os.close(gate)
    os.close(opener)
    assert [ended(pid) for pid in pids] == [0] * workers
    for number in range(messages):
        assert sorted(outcomes[number::messages]) == [1, 2, 2, 2]


def test_the_message_of_a_killed_worker_is_first_again_after_its_hold(shared: SharedDeliveries) -> None:
    one = delivery(1, 1)
    assert ended(fork(lambda: (shared.claim(one, NOW, HOLD), die()))) == -signal.SIGKILL
    assert shared.claim(one, NOW + 4.5, HOLD) == (Claim.PENDING, None)
    assert shared.claim(one, NOW + 5, HOLD) == (Claim.FIRST, None)


def test_a_worker_killed_with_the_lock_in_its_hand_locks_nobody_out(shared: SharedDeliveries) -> None:
    assert ended(fork(lambda: (shared._lock.__enter__(), die()))) == -signal.SIGKILL
    assert shared.claim(delivery(1, 1), NOW, HOLD) == (Claim.FIRST, None)


def kill_in(call: Callable[[], object], line: int) -> bool:
    """Runs `call` in a process that is killed at its `line`-th line; False if the call has fewer lines."""

    def work() -> None:
        sys.settrace(die_at_line(line, PACKAGE))
        call()
        sys.settrace(None)

    code = ended(fork(work))
    assert code in (0, -signal.SIGKILL)
    return code != 0


def claimed(shared: SharedDeliveries, one: Delivery) -> None:
    assert shared.claim(one, NOW, HOLD) == (Claim.FIRST, None)


def released(shared: SharedDeliveries, one: Delivery) -> None:
    claimed(shared, one)
    shared.release(one)


def settled(shared: SharedDeliveries, one: Delivery) -> None:
    claimed(shared, one)
    shared.settle(one, reply_to(one), NOW)


# What stands before, what is killed, what may be found after it: nothing of the update, or all of it; a claim may be
# lost, a settled message never.
type Step = Callable[[SharedDeliveries, Delivery], object]
SCENARIOS: dict[str, tuple[Step | None, Step, set[Claim]]] = {
    "claim": (None, claimed, {Claim.FIRST, Claim.PENDING}),
    "claim again": (released, claimed, {Claim.FIRST, Claim.PENDING}),
    "claim settled": (settled, lambda shared, one: shared.claim(one, NOW, HOLD), {Claim.REPEAT}),
    "settle": (
        claimed,
        lambda shared, one: shared.settle(one, reply_to(one), NOW),
        {Claim.FIRST, Claim.PENDING, Claim.REPEAT},
    ),
    "release": (claimed, lambda shared, one: shared.release(one), {Claim.FIRST, Claim.PENDING}),
}


@pytest.mark.parametrize("other_triple", [False, True])
@pytest.mark.parametrize("doing", SCENARIOS)
def test_a_worker_killed_at_any_line_spoils_nothing(shared: SharedDeliveries, doing: str, other_triple: bool) -> None:
    before, call, allowed = SCENARIOS[doing]
    bystander = delivery(1, 1)
    settled(shared, bystander)
    line, killed = 0, True
    while killed:
        line += 1
        first = delivery(10 + line, 10 + line)
        one = delivery(9000 + line, 10 + line) if other_triple else first
        if before:
            before(shared, first)
        killed = kill_in(partial(call, shared, one), line)
        found, reply = shared.claim(one, NOW + 1, HOLD)
        assert found in allowed
        assert reply == (reply_to(one) if found is Claim.REPEAT else None)
        if found is not Claim.REPEAT:
            assert shared.claim(one, NOW + 20, HOLD) == (Claim.FIRST, None), "nothing stays claimed"
        assert shared.claim(bystander, NOW + 1, HOLD) == (Claim.REPEAT, reply_to(bystander))
    assert line > 10


def test_a_worker_killed_while_it_overwrites_old_replies_leaves_each_whole_or_gone() -> None:
    shared = SharedDeliveries.create(1000, 1000, processes=8)
    everyone = [delivery(number, number) for number in range(1, 30)]
    for one in everyone:
        settled(shared, one)
    line, killed = 0, True
    while killed:
        line += 1
        one = delivery(100 + line, 100 + line)
        claimed(shared, one)
        killed = kill_in(partial(shared.settle, one, reply_to(one, 5), NOW), line)
        for old in everyone:
            assert shared.claim(old, NOW + 1, HOLD)[1] in (SUCCESS, reply_to(old))
        last = everyone.pop(0)  # its place in the ring is made anew, so that there is always one to overwrite
        everyone.append(delivery(last.triple[-1] + 1000 * line, 200 + line))
        settled(shared, everyone[-1])
    assert line > 10
    shared.close()


def storm(shared: SharedDeliveries, seed: int, calm: mmap.mmap) -> None:
    """Claims, settles and releases at random, until `calm`, which the processes share; raises at anything that was not
    written by somebody doing the same."""
    chance = random.Random(seed)
    while not calm[0]:
        message = chance.randrange(3000)
        # As real keys are: of numbers that differ in two bytes only a few secrets of the table make full buckets.
        plain = delivery(message * 4 + chance.randrange(4), message)
        one = Delivery(*(sha256(key).digest()[:16] for key in (plain.triple, plain.payload, plain.message)))
        found, reply = shared.claim(one, time.time(), 0.01)
        if found is Claim.FIRST and chance.random() < 0.8:
            shared.settle(one, reply_to(one, chance.randrange(200)), time.time())
        elif found is Claim.FIRST:
            shared.release(one)
        if reply not in (None, SUCCESS):
            assert reply.form == "xml"
            assert reply.body == one.message * (len(reply.body) // 16)


def test_workers_killed_at_random_spoil_nothing_for_those_who_go_on(shared: SharedDeliveries) -> None:
    calm = mmap.mmap(-1, 1)
    chance = random.Random(7)
    witness = fork(partial(storm, shared, 0, calm))
    workers = [fork(partial(storm, shared, seed, calm)) for seed in (1, 2)]
    for kill in range(100):
        time.sleep(chance.uniform(0.001, 0.01))
        place = chance.randrange(len(workers))
        os.kill(workers[place], signal.SIGKILL)
        assert ended(workers[place]) == -signal.SIGKILL, "it had found something spoiled"
        workers[place] = fork(partial(storm, shared, kill + 3, calm))
    calm[0] = 1
    assert [ended(pid) for pid in (witness, *workers)] == [0, 0, 0]
    assert shared.counts().refused_full == 0
