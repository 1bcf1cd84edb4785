"""The supervisor's part in the life of keys: at hand for new workers, replaced in time, exchanged with others."""

from __future__ import annotations

import time
from collections.abc import Callable

from proxy.kms.distribution import Outcome
from proxy.kms.keyring import Keyring
from proxy.observe.log import StructuredLog
from proxy.serve.settings import Settings
from proxy.serve.shred_following import ShredFollowing


class KeyTending:
    """`turn` is called every `refresh` seconds."""

    def __init__(self, log: StructuredLog, count: Callable[[str, str], None]) -> None:
        """`count`: adds one to a counter with one label."""
        self._log, self._count = log, count
        self._following = ShredFollowing(log)
        self._exchange_at = 0.0

    async def turn(self, keys: Keyring, settings: Settings) -> None:
        """Returns when no thread works on keys any more, so that a worker can be forked."""
        try:
            await keys.tick(keep=True)
            redis = settings.keys.redis
            if redis is not None and time.monotonic() >= self._exchange_at:
                self._exchange_at = time.monotonic() + redis.refresh
                self._note(await keys.upkeep.exchange())
            await self._following.turn(keys, settings)
            await keys.upkeep.keep()
        finally:
            await keys.quiet()

    def warnings(self) -> list[str]:
        """What somebody must look at while the gateway goes on."""
        return self._following.warnings()

    def _note(self, outcome: Outcome | None) -> None:
        """A keyring of Redis that is refused, or older than it was, is an alarm."""
        if outcome is None:
            return
        self._count("keyring_exchanges", outcome.value)
        if outcome in (Outcome.REFUSED, Outcome.OLDER):
            self._log.write(40, "keyring_refused", reason=outcome.value)
