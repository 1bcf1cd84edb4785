"""Both clocks against the kernel's, whose values bracket each reading; one goes on where the other stands still."""

import time

import pytest

from proxy.observe.clock import SleeplessClock, SystemClock
from proxy.ports import Clock


@pytest.mark.parametrize(
    ("clock", "number"), [(SystemClock(), time.CLOCK_MONOTONIC), (SleeplessClock(), time.CLOCK_BOOTTIME)]
)
def test_readings_are_the_kernel_s(clock: Clock, number: int) -> None:
    before, then, after = (time.clock_gettime(number), clock.monotonic(), time.clock_gettime(number))
    assert before <= then <= after
    before, then, after = (time.time(), clock.now(), time.time())
    assert before <= then <= after


def test_one_goes_on_while_the_machine_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    gettime = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda number: gettime(number) + 1e9 * (number == time.CLOCK_BOOTTIME))
    assert SleeplessClock().monotonic() > SystemClock().monotonic() + 1e8
