"""The way to one token of an HSM: one login for each process, made anew when it was lost, failures as KeysError."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock

import pkcs11
from pkcs11 import PKCS11Error, Session
from pkcs11 import exceptions as said

from proxy.kms.service import KeysError, KeyServiceDownError
from proxy.kms.service_settings import Pkcs11Settings

_PIN = (
    *(said.PinIncorrect, said.PinInvalid, said.PinLenRange, said.PinLocked, said.PinExpired),
    said.UserPinNotInitialized,
)
_AWAY = (
    *(said.DeviceError, said.DeviceMemory, said.DeviceRemoved, said.HostMemory, said.TokenNotPresent),
    *(said.SessionClosed, said.SessionCount, said.SessionHandleInvalid, said.UserNotLoggedIn),
)
# A library of PKCS#11 has one state for the whole process, and initialised as here it bears one caller at a time. One
# that hangs holds up nobody who uses another.
_LOCKS: dict[str, RLock] = {}
_SESSIONS: dict[tuple[str, str], tuple[int, Session]] = {}


# In a forked child: the thread that held a lock, in a call that hangs, is its parent's.
os.register_at_fork(after_in_child=_LOCKS.clear)


class AbsentError(Exception):
    """For `use`: what was looked for is not in the token. It is looked for twice, the second time by a new login."""


class RefusedError(KeysError):
    """The token is at hand and did not do it: it found the bytes wrong, or the key forbids it."""


class TokenSession:
    """For everyone in this process who uses the same token: a logout of one would log out all."""

    def __init__(self, settings: Pkcs11Settings) -> None:
        """Reaches nothing yet."""
        self._settings = settings
        self._at = str(settings.module), settings.token_label
        self._pin_refused = False

    def __repr__(self) -> str:
        return f"token {self._settings.token_label}"

    def use[T](self, work: Callable[[Session], T]) -> T:
        """What `work` does with a session that is logged in.

        If it raises PKCS11Error or AbsentError it is done once more, after the library was set up anew and with a new
        login: a session may have been lost, and what a token remembers of its objects may be old. Raises AbsentError,
        RefusedError, KeysError for a wrong PIN, KeyServiceDownError if the token is not at hand.
        """
        with _LOCKS.setdefault(self._at[0], RLock()):
            try:
                return work(self._session())
            except (PKCS11Error, AbsentError, KeyServiceDownError):
                self._forget()
            session = self._session()
            try:
                return work(session)
            except _AWAY as error:
                raise self._down(error) from None
            except PKCS11Error as error:
                raise RefusedError(f"{self}: refused ({type(error).__name__})") from None

    def _session(self) -> Session:
        process, session = _SESSIONS.get(self._at, (0, None))
        if session is None or process != os.getpid():
            if session is not None:  # a child has to set up the library for itself
                self._forget()
            with self._explained():
                session = self._open()
            _SESSIONS[self._at] = os.getpid(), session
        return session

    def _open(self) -> Session:
        if self._pin_refused:  # a token locks itself after a few wrong ones
            raise said.PinIncorrect
        library = pkcs11.lib(str(self._settings.module))
        token = library.get_token(token_label=self._settings.token_label)
        try:
            return token.open(rw=True, user_pin=self._settings.pin.decode())
        except said.UserAlreadyLoggedIn:
            return token.open(rw=True)

    def _forget(self) -> None:
        for at in [at for at in _SESSIONS if at[0] == self._at[0]]:  # all that stand on the library
            del _SESSIONS[at]
        with self._explained():
            pkcs11.lib(str(self._settings.module)).reinitialize()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _PIN as error:
            self._pin_refused = True
            raise KeysError(
                f"{self}: the PIN is refused ({type(error).__name__}) and is not tried again; correct what `pin` leads "
                "to, see whether the token has locked itself, then reload"
            ) from None
        except said.MultipleTokensReturned:
            raise KeysError(f"{self}: there are several of that label; give them labels of their own") from None
        except (PKCS11Error, UnicodeDecodeError) as error:
            raise self._down(error) from None

    def _down(self, error: Exception) -> KeyServiceDownError:
        return KeyServiceDownError(
            f"{self}: not at hand ({type(error).__name__}); check `module`, `token_label` and the HSM"
        )
