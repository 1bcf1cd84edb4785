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

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:  # noqa: BLE001 - whatever it was, it belongs to who waits
            future.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return future
