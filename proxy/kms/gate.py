"""The way to one key service: few calls at a time and off the event loop, and none while it is known to be down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from proxy.kms.service import KeyService, KeyServiceDownError

THREADS = 4
PATIENCE = 10.0  # seconds; a call that takes longer counts as failed, whatever its library thinks
_FAILURES = 3  # in a row open the circuit
_LEAST, _MOST = 0.5, 30.0  # seconds of a pause


def pause(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row: doubling, with jitter, so that processes do not come back
    together. `chance`: from 0 to 1."""
    return min(_LEAST * 2.0 ** min(failures - 1, 16), _MOST) * (0.5 + 0.5 * chance)


class Gate:
    """A circuit breaker before one key service. Used from one event loop."""

    def __init__(self, service: KeyService, monotonic: Callable[[], float], chance: Callable[[], float]) -> None:
        self.service, self._monotonic, self._chance = service, monotonic, chance
        self._pool: ThreadPoolExecutor | None = None
        self._failures = 0
        self._closed_from = 0.0  # no calls before
        self._trying = False

    @property
    def down(self) -> bool:
        """Whether calls failed so often that there are none but one now and then."""
        return self._failures >= _FAILURES

    async def call[*P, R](self, verb: Callable[[*P], R], *arguments: *P) -> R:
        """`verb(*arguments)` in a thread. Raises what it raises, KeyServiceDownError after PATIENCE seconds or, without
        a call, while the service is down."""
        if self.down and (self._trying or self._monotonic() < self._closed_from):
            raise KeyServiceDownError(f"key service {self.service.name}: is down, not asked again yet")
        self._trying = self.down
        self._pool = self._pool or ThreadPoolExecutor(THREADS, f"kms-{self.service.name}")
        try:
            async with asyncio.timeout(PATIENCE):
                result = await asyncio.get_running_loop().run_in_executor(self._pool, verb, *arguments)
        except TimeoutError:
            self._failed()
            raise KeyServiceDownError(f"key service {self.service.name}: no answer in {PATIENCE:.0f} s") from None
        except KeyServiceDownError:
            self._failed()
            raise
        except Exception:
            self._failures = 0  # it answers, if only with a no
            raise
        finally:
            self._trying = False
        self._failures = 0
        return result

    def _failed(self) -> None:
        self._failures += 1
        self._closed_from = self._monotonic() + pause(self._failures, self._chance())

    def close(self) -> None:
        """Waits for nothing: a call under way ends by itself."""
        if self._pool:
            self._pool.shutdown(wait=False, cancel_futures=True)
