"""A key service outside this process, whose every call ends in time, whatever its library or its server does.

PKCS#11 knows no time-outs, and those of HTTP libraries are for each read of a socket: a server that sends a byte now
and then is waited for without end. So each call has a thread of its own, which is left behind when the time is over. A
few are left behind at most: then the service counts as down, and is asked again when one of them comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import wait
from threading import Lock
from typing import Protocol, cast

from proxy.kms.own_thread import in_own_thread
from proxy.kms.service import Destroyed, Importing, KeyService, KeyServiceDownError, Slot, Wrapped
from proxy.ports import Owner

PATIENCE = 10.0  # seconds; a call that takes longer counts as failed, whatever its library thinks
# Destroying asks for every version of a KEK in turn, and nobody waits for it but the person who ordered it.
_LONG_PATIENCE = 60.0
_LEFT_BEHIND = 4


def bounded(service: KeyService) -> KeyService:
    """`service`, bounded. It takes KEKs (Importing) if `service` does."""
    return _BoundedImporting(cast(_ImportingService, service)) if isinstance(service, Importing) else Bounded(service)


class _ImportingService(KeyService, Importing, Protocol): ...


class Bounded:
    """A KeyService around another. All verbs also raise KeyServiceDownError when the time is over, or at once while too
    many calls are left behind. One that was left behind may still do what it was to do: every verb can be repeated.
    """

    def __init__(self, service: KeyService) -> None:
        self.name = service.name
        self._service = service
        self._left = 0
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"Bounded({self._service!r})"

    def has_kek(self, owner: Owner) -> bool:
        """See KeyService."""
        return self._within(PATIENCE, self._service.has_kek, owner)

    def create_kek(self, owner: Owner) -> int:
        """See KeyService."""
        return self._within(PATIENCE, self._service.create_kek, owner)

    def rotate_kek(self, owner: Owner) -> int:
        """See KeyService."""
        return self._within(PATIENCE, self._service.rotate_kek, owner)

    def wrap(self, slot: Slot, dek: bytes, key_id: bytes | None = None) -> Wrapped:
        """See KeyService."""
        return self._within(PATIENCE, self._service.wrap, slot, dek, key_id)

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        """See KeyService."""
        return self._within(PATIENCE, self._service.unwrap, slot, wrapped)

    def rewrap(self, slot: Slot, wrapped: Wrapped) -> Wrapped:
        """See KeyService."""
        return self._within(PATIENCE, self._service.rewrap, slot, wrapped)

    def destroy_kek(self, owner: Owner) -> Destroyed:
        """See KeyService."""
        return self._within(_LONG_PATIENCE, self._service.destroy_kek, owner)

    def check(self) -> None:
        """See KeyService."""
        self._within(PATIENCE, self._service.check)

    def _within[*P, R](self, seconds: float, verb: Callable[[*P], R], *arguments: *P) -> R:
        if self._left >= _LEFT_BEHIND:
            raise KeyServiceDownError(
                f"key service {self.name}: {self._left} calls have not come back; it is asked again when one does, or "
                "after a reload"
            )
        call = in_own_thread(f"kms-{self.name}", verb, *arguments)
        if not wait((call,), seconds).done:
            self._count(1)
            call.add_done_callback(lambda _: self._count(-1))  # nothing else refers to it: what it brings is let go of
            raise KeyServiceDownError(f"key service {self.name}: no answer in {seconds:g} s")
        return call.result()

    def _count(self, more: int) -> None:
        with self._lock:
            self._left += more


class _BoundedImporting(Bounded):
    def __init__(self, service: _ImportingService) -> None:
        super().__init__(service)
        self._importing = service

    def import_kek(self, owner: Owner, kek: bytes) -> int:
        """See Importing."""
        return self._within(PATIENCE, self._importing.import_kek, owner, kek)
