"""Work that may never come back, in a thread that nobody has to wait for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread


def in_own_thread[*P, R](name: str, work: Callable[[*P], R], *arguments: *P) -> Future[R]:
    """What `work(*arguments)` comes to, from a thread of its own. Whoever waits may stop waiting: neither a pool nor
    the end of the process waits for the thread, as both would for one of a ThreadPoolExecutor."""
    future: Future[R] = Future()
    future.set_running_or_notify_cancel()  # who gives up waiting does not cancel what runs

    Thread(target=_run, name=name, args=(future, work, arguments), daemon=True).start()
    return future


def _run[*P, R](future: Future[R], work: Callable[[*P], R], arguments: tuple[*P]) -> None:
    try:
        future.set_result(work(*arguments))
    except BaseException as error:  # noqa: BLE001 - whatever it was, it belongs to who waits
        future.set_exception(error)
    finally:
        # The exception holds this frame, which would hold the exception, and key bytes with it until a collection.
        del future, work, arguments
