"""Real worker processes for tests: forked, killed and waited for."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any


def fork(work: Callable[[], object]) -> int:
    """Runs `work` in a forked process, which exits with 0, or with 1 if it raised. Returns its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a parallel test runner has threads; the child uses none
        pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def ended(pid: int) -> int:
    """Waits; the exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_line(number: int, inside: str) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that kills its process when it reaches the `number`-th line of files under `inside`."""
    left = number

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal left
        if inside not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                die()
        return trace

    return trace
