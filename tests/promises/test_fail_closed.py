"""Whatever fails, wherever: nothing goes out, nothing goes back, nothing hangs.

Every step of the journey fails in turn - with exceptions of several kinds, by time, by cancellation - in every
direction, on real sockets. Before the request was sent the upstream must get no byte; the caller gets an answer of the
table, byte for byte, or the connection is cut.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import json
import time
import types
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache

import pytest

from proxy import gateway
from proxy.cohorts import Cohorts
from proxy.emulate.server import Result
from proxy.emulate.stage import API, PUSH_PATH
from proxy.refusal import TABLE, Audience, Refusal, answer
from tests.promises.house import Answer, House, http
from tests.promises.steps import Step, all_steps, cancelled_from_outside, never_ends

CLEAR = "LEAKED-CLEAR-TEXT"
STEPS = {step.name: step for step in all_steps()}
WORLD = frozenset(step.field for step in STEPS.values() if step.field)


# --- the exchanges every step of which fails in turn


type Exchange = Callable[[House], Callable[[], Answer]]
"""Prepares what must be there before and returns the exchange itself."""


def _pushed(house: House, **fields: str) -> Callable[[], Answer]:
    delivery = house.files.pusher.deliver(house.text(CLEAR, **fields))
    return lambda: house.deliver(delivery)


def push_with_reply(house: House) -> Callable[[], Answer]:
    house.crm.behaviour = "normal"
    return _pushed(house)


def push_without_reply(house: House) -> Callable[[], Answer]:
    house.crm.behaviour = "silent"
    return _pushed(house)


def push_refused_by_policy(house: House) -> Callable[[], Answer]:
    return _pushed(house, Secret=CLEAR)


def push_with_json_inside(house: House) -> Callable[[], Answer]:
    house.crm.behaviour = "silent"
    session = json.dumps({"page": "orders", "nickname": CLEAR})
    pusher = house.files.pusher
    # An event has no MsgId: the same follower's within a second would be a repeat.
    openid = f"oFollower{CLEAR}{time.monotonic_ns()}"
    document = pusher.message(openid, "event", Event="user_enter_tempsession", SessionFrom=session)
    delivery = pusher.deliver(document)
    return lambda: house.deliver(delivery)


def push_failed_by_crm(house: House) -> Callable[[], Answer]:
    house.crm_answers = lambda call: Result(b"I have trouble with " + call.body + CLEAR.encode(), 503)
    return _pushed(house)


def repeated_push(house: House) -> Callable[[], Answer]:
    house.crm.behaviour = "normal"
    delivery = _settled(house, int(time.monotonic() / 20))
    return lambda: house.deliver(delivery)


@cache
def _settled(house: House, _moment: int) -> object:
    """A delivery that has its stored reply. Not for long: WeChat repeats within a minute."""
    delivery = house.files.pusher.deliver(house.text(CLEAR))
    assert b"Encrypt" in house.deliver(delivery).body
    return delivery


def verification(house: House) -> Callable[[], Answer]:
    gateway = house.assembly.gateway
    routes = tuple(dataclasses.replace(route, sources=("127.0.0.0/8",)) for route in gateway.table.routes)
    gateway.table = dataclasses.replace(gateway.table, routes=routes)
    query = house.files.pusher.verification(CLEAR)
    return lambda: house.ask(house.files.public, http("GET", f"{PUSH_PATH}?{query}"))


def forged_push(house: House) -> Callable[[], Answer]:
    request = http("POST", f"{PUSH_PATH}?signature=0", f"<xml>{CLEAR}</xml>".encode())
    return lambda: house.ask(house.files.public, request)


def agent_writes(house: House) -> Callable[[], Answer]:
    value = {"OpenId__c": f"oFollower{CLEAR}", "Text__c": CLEAR}
    return lambda: house.call("agent", "POST", f"{API}WeChat_Answer__c", value)


def agent_reads(house: House) -> Callable[[], Answer]:
    key, _ = house.record("WeChat_Message__c")
    return lambda: house.call("agent", "GET", f"{API}{key}")


def analyst_reads(house: House) -> Callable[[], Answer]:
    key, _ = house.record("WeChat_Message__c")
    return lambda: house.call("analyst", "GET", f"{API}{key}")


def crm_sends(house: House) -> Callable[[], Answer]:
    target, message = house.outgoing()
    return lambda: house.call("crm", "POST", target, message)


def house_on_fire(house: House) -> Callable[[], Answer]:
    """An internal fault, for the steps that only failures take."""
    gateway = house.assembly.gateway
    gateway.table = dataclasses.replace(gateway.table, policies={})
    return _pushed(house)


EXCHANGES: tuple[Exchange, ...] = (
    *(push_with_reply, push_without_reply, push_with_json_inside, push_refused_by_policy, push_failed_by_crm),
    *(repeated_push, verification, forged_push, agent_writes, agent_reads, analyst_reads, crm_sends, house_on_fire),
)


def prepared(house: House, exchange: Exchange) -> Callable[[], Answer]:
    house.crm_answers, house.crm.behaviour = None, "normal"
    house.assembly.gateway.table = house.assembly.loaded.table
    house.keys_must_be_waited_for()
    return exchange(house)


# --- the faults


class PretendedRefusal(Refusal):
    """What nobody should write: a refusal of a code the table does not have, with a message in it."""

    def __init__(self) -> None:
        Exception.__init__(self, CLEAR)


def _painted(name: str, value: object) -> Refusal:
    refusal = Refusal("internal")
    setattr(refusal, name, value)
    return refusal


class Foreign(BaseException):
    """Nothing `except Exception` would catch."""


FAULTS: dict[str, Callable[[], BaseException]] = {
    "refusal": lambda: Refusal("internal"),
    "refusal that is final": lambda: Refusal("upstream_refused"),
    "KeyError": lambda: KeyError(CLEAR),
    "OSError": lambda: OSError(5, CLEAR),
    "TimeoutError": lambda: TimeoutError(CLEAR),
    "CancelledError": lambda: asyncio.CancelledError(CLEAR),
    "MemoryError": lambda: MemoryError(CLEAR),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", CLEAR.encode(), 0, 1, CLEAR),
    "StopIteration": lambda: StopIteration(CLEAR),
    "group": lambda: ExceptionGroup(CLEAR, [ValueError(CLEAR)]),
    "refusal of a subclass": PretendedRefusal,
    "refusal with another code": lambda: _painted("code", CLEAR),
    "refusal with another status": lambda: _painted("upstream_status", CLEAR),
    "foreign": lambda: Foreign(CLEAR),
}
FEW = ("refusal", "KeyError", "TimeoutError", "CancelledError")


# --- one exchange with one fault


@dataclass(slots=True)
class Fault:
    """Acts the `at`-th time its step is entered. `sent`: the bytes that were out by then."""

    house: House
    at: int
    act: Callable[[], object]
    entered: int = 0
    sent: int | None = None

    def __call__(self) -> object:
        self.entered += 1
        if self.entered != self.at:
            return None
        self.sent = self.house.sent
        return self.act()


def raising(make: Callable[[], BaseException]) -> Callable[[], object]:
    def act() -> object:
        raise make()

    return act


@contextmanager
def watched(house: House) -> Iterator[None]:
    """Nothing that is said inside holds clear text; nothing went out since that should not have."""
    heard, audited = len(house.log), len(house.audited())
    yield
    assert CLEAR not in "".join(house.log[heard:]) + house.audited()[audited:]


@cache
def table_answers() -> frozenset[tuple[int, bytes, bytes]]:
    """Everything the table can say."""
    refusals = [Refusal(code, upstream_status=status) for code in TABLE for status in (None, 503)]
    found = [answer(refusal, audience) for refusal in refusals for audience in Audience]
    return frozenset((one.status, one.content_type, one.body) for one in found)


def check(
    house: House, exchange: Exchange, step: Step, at: int, act: Callable[[], object], after: bool = False
) -> None:
    """One exchange with a fault in it."""
    play, fault, where = prepared(house, exchange), Fault(house, at, act), f"{exchange.__name__}, time {at}"
    before = house.sent
    with step.hooked(house, fault, after=after):
        got = play()
    if fault.sent is None:
        assert at > 1 or after, f"{where}: the step was not reached"
        return  # what was worked out the first time was remembered; a step that refuses never gets behind itself
    if fault.sent == before:
        assert house.sent == before, f"{where}: bytes went out although the fault came first"
    assert got.raw == b"" or (got.status, got.content_type, got.body) in table_answers(), f"{where}: {got.raw!r}"
    assert CLEAR.encode() not in got.raw


@cache
def reaching(house: House) -> dict[str, dict[Exchange, int]]:
    """For each step the exchanges that enter it and how often, when nothing fails."""
    reached: dict[str, dict[Exchange, int]] = {name: {} for name in STEPS}
    for exchange in EXCHANGES:
        play = prepared(house, exchange)
        counts = {name: Fault(house, 0, lambda: None) for name in STEPS}
        with ExitStack() as hooks:
            for name, step in STEPS.items():
                hooks.enter_context(step.hooked(house, counts[name]))
            play()
        for name, count in counts.items():
            if count.entered:
                reached[name][exchange] = count.entered
    return reached


# --- the sweep

ELSEWHERE: dict[str, str] = {
    "keys.previous": "no policy here writes old lookup values: tests/policy/test_previous.py",
}
"""Steps no exchange takes, and why."""


@pytest.mark.parametrize("name", STEPS)
def test_a_fault_anywhere_lets_nothing_out(house: House, name: str) -> None:
    step, reached = STEPS[name], reaching(house)[name]
    assert bool(reached) != (name in ELSEWHERE), "no exchange takes this step: add one that does"
    with watched(house):
        for exchange, times in reached.items():
            for fault in FAULTS if step.full else FEW:
                for at in {1, times}:
                    check(house, exchange, step, at, raising(FAULTS[fault]))


@pytest.mark.parametrize("name", [name for name, step in STEPS.items() if step.full])
def test_a_fault_behind_a_step_lets_nothing_back(house: House, name: str) -> None:
    """The step did its work and fails then: what it made is not used."""
    with watched(house):
        for exchange in reaching(house)[name]:
            for fault in ("KeyError", "CancelledError"):
                check(house, exchange, STEPS[name], 1, raising(FAULTS[fault]), after=True)


WAITING = [name for name, step in STEPS.items() if step.waits and name not in ELSEWHERE]


@pytest.mark.parametrize("name", WAITING)
@pytest.mark.parametrize("act", [never_ends, cancelled_from_outside])
def test_a_step_that_never_ends_lets_nothing_out(house: House, name: str, act: Callable[[], object]) -> None:
    with watched(house):
        for exchange, times in reaching(house)[name].items():
            for at in {1, times}:
                hurried = _with_deadline(exchange, 0.15)
                check(house, hurried, STEPS[name], at, act)


@pytest.mark.parametrize("name", WAITING)
def test_a_caller_that_leaves_takes_the_exchange_along(house: House, name: str) -> None:
    """What was claimed is free again: WeChat's next delivery of the message is worked on.

    That the caller left shows at the deadline only, since nothing is read while an exchange is pending.
    """
    house.deadline(0.15)
    delivery, step = house.files.pusher.deliver(house.text(CLEAR)), STEPS[name]
    house.crm.behaviour = "normal"
    before = house.sent
    entered = asyncio.Event()
    house.keys_must_be_waited_for()

    def leave() -> object:
        entered.set()
        return never_ends()

    fault = Fault(house, 1, leave)
    with watched(house), step.hooked(house, fault):
        assert house.deliver(delivery, leave=entered).raw == b""
    if fault.sent == before:
        assert house.sent == before
    house.deadline(4.8)
    assert b"Encrypt" in house.deliver(delivery).body


def test_an_exchange_that_ends_between_two_steps_takes_its_claim_along(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.crm.behaviour = "normal"
    cohorts = house.assembly.cohorts

    def deliver(at: int) -> int:
        """One delivery that is cancelled at its rest number `at`; how often it rested."""
        rests = 0

        @types.coroutine
        def rest() -> Generator[None]:
            nonlocal rests
            rests += 1
            if rests == at:
                raise asyncio.CancelledError(CLEAR)
            yield from Cohorts.rest(cohorts)

        delivery = house.files.pusher.deliver(house.text(CLEAR))
        with watched(house), monkeypatch.context() as patch:
            patch.setattr(cohorts, "rest", rest)
            answer = house.deliver(delivery)
            assert (b"Encrypt" in answer.body) == (answer.raw != b"") == (rests < at or not at)
        assert b"Encrypt" in house.deliver(delivery).body
        return rests

    for at in range(1, deliver(0) + 1):
        assert deliver(at) == at


def _with_deadline(exchange: Exchange, seconds: float) -> Exchange:
    def hurried(house: House) -> Callable[[], Answer]:
        play = exchange(house)
        house.deadline(seconds)
        return play

    hurried.__name__ = exchange.__name__
    return hurried


# --- the sweep itself


def test_every_step_the_gateway_names_is_swept() -> None:
    """By its source: whatever it calls of the journey and of the doors."""
    tree = ast.parse(inspect.getsource(gateway))
    called = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("journey", "cleared")
    }
    assert len(called) > 15
    assert called - STEPS.keys() == {"journey.differences"}  # on trial: it may fail, see steps.APART
    ports_used = {
        f"{node.value.attr}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr in WORLD
    }
    assert ports_used and ports_used - STEPS.keys() == set()


def test_the_sweep_finds_a_reply_that_should_not_be(house: House) -> None:
    """A gateway that swallows a fault is caught."""
    with pytest.raises(AssertionError, match="push_with_reply"):
        check(house, push_with_reply, STEPS["journey.seal"], 1, lambda: None)


def test_the_sweep_finds_bytes_that_went_out(house: House) -> None:
    with pytest.raises(AssertionError, match="bytes went out"):
        check(house, push_failed_by_crm, STEPS["journey.clear"], 1, lambda: None)
