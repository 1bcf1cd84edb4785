"""Whatever fails, wherever: nothing goes out, nothing goes back, nothing hangs.

Every step of the journey fails in turn - with exceptions of several kinds, by time, by cancellation - in every direction,
on real sockets. Before the request was sent the upstream must get no byte; the caller gets an answer of the table, byte
for byte, or the connection is cut.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache

import pytest

from proxy.emulate.server import Result
from proxy.emulate.stage import API, PUSH_PATH
from proxy.refusal import TABLE, Audience, Refusal, answer
from tests.promises.house import Answer, House, http
from tests.promises.steps import DEEP, SPINE, Step, all_steps, cancelled_from_outside, never_ends

CLEAR = "LEAKED-CLEAR-TEXT"
STEPS = {step.name: step for step in all_steps()}


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
    *(push_with_reply, push_without_reply, push_refused_by_policy, push_failed_by_crm, repeated_push, verification),
    *(forged_push, agent_writes, agent_reads, analyst_reads, crm_sends, house_on_fire),
)


def prepared(house: House, exchange: Exchange) -> Callable[[], Answer]:
    house.crm_answers, house.crm.behaviour = None, "normal"
    house.assembly.gateway.table = house.assembly.loaded.table
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
    """Fails the `at`-th time its step is entered, and every time after if it `lasts`."""

    house: House
    at: int
    act: Callable[[], object]
    lasts: bool = False
    entered: int = 0
    sent: int | None = field(default=None)

    def __call__(self) -> object:
        self.entered += 1
        if self.entered == self.at or (self.lasts and self.entered > self.at):
            self.sent = self.house.sent if self.sent is None else self.sent
            return self.act()
        return None


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


def check(house: House, exchange: Exchange, step: Step, at: int, act: Callable[[], object]) -> None:
    """One exchange with a fault in it."""
    play, fault = prepared(house, exchange), Fault(house, at, act)
    before = house.sent
    where = f"{exchange.__name__}, time {at}"
    with step.hooked(house, fault):
        got = play()
    assert fault.sent is not None or at > 1, f"{where}: the step was not reached"  # later ones may be cached
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

ELSEWHERE: dict[str, str] = {}
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
