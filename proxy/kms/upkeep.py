"""What a running gateway does to its keyring by itself: budgets, successors, the exchange with other machines.

What blocks does so in threads. Only making keys asks a key service, and holds up nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.crypto.data_key import KeyMismatchError
from proxy.kms.custody import Custodian, still_active
from proxy.kms.distribution import Distribution, Outcome
from proxy.kms.gate import pause
from proxy.kms.keyring_format import Document
from proxy.kms.reading import Reading
from proxy.kms.service import KeysError, Slot
from proxy.kms.successors import Successors
from proxy.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Writers:
    """What changes the file of a keyring in use. `distribution`: of the one process that exchanges with other
    machines."""

    custodian: Custodian
    successors: Successors
    distribution: Distribution | None = None


class Upkeep:
    """Used from one event loop: `relieve` by every process, the rest by one of each machine."""

    def __init__(
        self,
        writers: Writers,
        reading: Reading,
        monotonic: Callable[[], float],
        write: Callable[..., None],
    ) -> None:
        """`write`: takes lines for the log (see Log)."""
        self._custodian, self._successors = writers.custodian, writers.successors
        self._distribution, self._reading = writers.distribution, reading
        self._keeping, self._making = _Tried(monotonic, write), _Tried(monotonic, write)

    async def relieve(self, slot: Slot, key_id: bytes) -> bool:
        """Sees to it that `slot` can protect on, if `key_id` is still its active key. Whether it can now: but what was
        allowed others may have taken. Raises KeysError, KeyMismatchError, Refusal."""
        protects = False

        def relieved() -> Document:
            nonlocal protects
            document, protects = self._custodian.relieve(slot, key_id)
            return document

        await self._reading.change(relieved)
        if not protects:
            await self._reading.beside(self._successors.replace, slot, key_id)
            await self._reading.read_anew()
            protects = still_active(self._reading.document.entries, slot, key_id) is None
        return protects

    def keep_now(self) -> None:
        """Settles states and allows budgets, in this thread: before there is an event loop. Raises KeysError,
        KeyMismatchError."""
        self._reading.take_up(self._custodian.keep())

    async def keep(self) -> None:
        """The same, and makes successors, if anything is due; a failure is told as a warning and tried again later."""
        await self._keeping.run(self._keep)
        await self._making.run(self._make)

    async def _keep(self) -> str:
        if self._custodian.due(self._reading.document.entries):
            await self._reading.change(self._custodian.keep)
        return ""

    async def _make(self) -> str:
        if not self._successors.wanting(self._reading.document.entries):
            return ""
        problem = await self._reading.beside(self._successors.make)
        await self._reading.read_anew()
        return problem

    async def exchange(self) -> Outcome | None:
        """With the other machines; None if there are none. Raises KeysError, KeyMismatchError for the file."""
        if self._distribution is None:
            return None
        outcome, document = await self._reading.beside(self._distribution.exchange)
        if outcome is Outcome.TAKEN:
            self._custodian.note_change()
        if document != self._reading.document:
            await self._reading.read_anew()
        return outcome

    def settle_counts(self) -> None:
        """Writes down what was protected; when all workers have ended. Raises KeysError."""
        self._custodian.close()

    def warnings(self) -> list[str]:
        """What somebody must look at while the gateway goes on."""
        told = (
            ("the keyring does not reach other machines", self._distribution.problem if self._distribution else ""),
            ("the keyring cannot be kept", self._keeping.problem),
            ("no successor for a data key", self._making.problem),
        )
        return [f"{what}: {problem}" for what, problem in told if problem]


class _Tried:
    """Work that is done when it is due, and after a failure not again at once."""

    def __init__(self, monotonic: Callable[[], float], write: Callable[..., None]) -> None:
        self._monotonic, self._write = monotonic, write
        self._failures, self._at = 0, -math.inf
        self.problem = ""

    async def run(self, work: Callable[[], Awaitable[str]]) -> None:
        """`work` gives its problem, or raises it."""
        if self._monotonic() < self._at:
            return
        try:
            self.problem = await work()
        except (KeysError, KeyMismatchError, Refusal) as error:
            self.problem = str(error)
        if self.problem:
            self._failures += 1
            self._at = self._monotonic() + pause(self._failures, 1.0)
            self._write(40, "keyring_not_kept")
        else:
            self._failures = 0
