"""Work in a thread of its own: what it comes to, and that nothing of it stays."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from proxy.kms.own_thread import in_own_thread


class Key:
    """Stands for key bytes, which themselves cannot be watched."""


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_what_work_comes_to() -> None:
    assert in_own_thread("sum", lambda *numbers: sum(numbers), 1, 2).result(10) == 3
    with pytest.raises(LookupError):
        in_own_thread("fault", {}.__getitem__, "key").result(10)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.usefixtures("without_collector")
def test_key_bytes_are_let_go_of_without_the_collector(fails: bool) -> None:
    def work(_: Key) -> None:
        if fails:
            raise LookupError

    key = Key()
    gone = threading.Event()
    weakref.finalize(key, gone.set)
    future = in_own_thread("wrap", work, key)
    if fails:
        with pytest.raises(LookupError):
            future.result(10)
    else:
        future.result(10)
    del key, future
    assert gone.wait(10)
