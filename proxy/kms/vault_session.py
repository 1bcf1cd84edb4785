"""Talking to Vault or OpenBao: verified TLS, a token that is renewed or made anew, and every failure as KeysError."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from threading import RLock
from typing import Any, NamedTuple, NoReturn

import hvac
import requests
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, Unauthorized, VaultError
from requests.adapters import HTTPAdapter

from proxy.kms.service import KeysError, KeyServiceDownError
from proxy.kms.service_settings import VaultSettings

# The last three: the answer has another form than the question takes apart.
_FAILURES = (VaultError, requests.RequestException, OSError, ValueError, LookupError, TypeError, AttributeError)


class NoSuchPathError(KeysError):
    """The server has nothing there."""


class RefusedError(KeysError):
    """The server understood and said no: the ciphertext does not open, a deletion is not allowed."""


class _VerifiedTls(HTTPAdapter):
    """TLS 1.2 or newer against `ca` and against nothing else; requests would add its own bundle."""

    def __init__(self, ca: str | None) -> None:
        self._context = ssl.create_default_context(cafile=ca)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **options)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED"


class _Lease(NamedTuple):
    """Of the token in use. `renew_at`: by the monotonic clock; infinite if there is nothing to renew. `seconds`: how
    long it was for at first."""

    renew_at: float
    seconds: float
    renewable: bool


class VaultSession:
    """One client for each process: a connection that a fork shares would carry two streams of TLS at once."""

    def __init__(self, settings: VaultSettings) -> None:
        """Reaches nothing yet. KeysError if the CA cannot be read."""
        self._settings = settings
        self._lock = RLock()
        self._process = self._logins = 0
        self._start()

    def __repr__(self) -> str:
        return f"VaultSession({self._settings.url})"

    def ask[T](self, question: Callable[[hvac.Client], T]) -> T:
        """The server's answer to `question`, logged in; it takes the answer apart, since what it is not raises as well.

        Raises NoSuchPathError, RefusedError, KeysError for what is denied, KeyServiceDownError for no answer.
        """
        try:
            login = self._ready()
            try:
                return question(self._client)
            except Forbidden:
                if not self._settings.role_id:
                    raise
                self._replace(login)  # it may have been revoked, or lost in a restart of the server
                return question(self._client)
        except _FAILURES as error:
            self._explain(error)

    def _ready(self) -> int:
        """Sees to a client of this process that is logged in; the number of its login. Threads ask it side by side."""
        with self._lock:
            if self._process != os.getpid():
                self._start()
            self._keep_lease()
            return self._logins

    def _replace(self, login: int) -> None:
        with self._lock:
            if self._logins == login:  # or else another thread has done it
                self._log_in()

    def _start(self) -> None:
        settings = self._settings
        session = requests.Session()
        session.trust_env = False  # neither proxies nor CA bundles nor .netrc from the environment
        try:
            session.mount("https://", _VerifiedTls(str(settings.ca) if settings.ca else None))
        except (OSError, ssl.SSLError):
            raise KeysError(f"{settings.ca}: not a CA certificate in PEM that can be read") from None
        self._client = hvac.Client(
            settings.url,
            token=settings.token.decode("ascii"),
            cert=None,
            verify=True,
            timeout=settings.timeout,  # type: ignore[arg-type]  # requests takes fractions
            allow_redirects=False,  # a redirect would take the token along
            session=session,
            namespace=settings.namespace or None,
        )
        self._lease: _Lease | None = None
        self._process = os.getpid()

    def _keep_lease(self) -> None:
        """Logs in if there was none, renews after two thirds of the lease, logs in anew if that does not help."""
        if self._lease is None:
            if self._settings.role_id:
                self._log_in()
            else:
                self._look_up()
        elif time.monotonic() >= self._lease.renew_at:
            self._renew(self._lease)

    def _log_in(self) -> None:
        settings = self._settings
        answer = self._client.auth.approle.login(
            settings.role_id, settings.secret_id.decode("ascii"), mount_point=settings.auth
        )["auth"]  # the client has the new token by itself
        self._logins += 1
        self._lease = _lease(answer["lease_duration"], answer["renewable"])

    def _look_up(self) -> None:
        try:
            answer = self._client.auth.token.lookup_self()["data"]
        except Forbidden:  # not in this token's policy, or no token at all: the question will tell
            self._lease = _lease(0, False)
        else:
            self._lease = _lease(answer["ttl"], answer.get("renewable", False))

    def _renew(self, lease: _Lease) -> None:
        try:
            if not lease.renewable:
                raise Forbidden
            answer = self._client.auth.token.renew_self()["auth"]
        except (Forbidden, InvalidRequest):
            answer = {"lease_duration": 0, "renewable": False}
        if answer["lease_duration"] >= lease.seconds / 2:
            self._lease = _lease(answer["lease_duration"], answer["renewable"], lease.seconds)
        elif self._settings.role_id:  # near the end of its longest life
            self._log_in()
        else:
            self._lease = _lease(answer["lease_duration"], answer["renewable"])

    def _explain(self, error: Exception) -> NoReturn:
        url = self._settings.url
        match error:
            case InvalidPath(errors=[_, *_]):  # a key that is not there comes without a word
                raise KeysError(f"{url}: no such mount or namespace; check `mount` and `namespace`") from None
            case InvalidPath():
                raise NoSuchPathError(f"{url}: there is nothing of that name") from None
            case Forbidden() | Unauthorized():
                raise KeysError(
                    f"{url}: denied (403); check that the token or the AppRole is valid and that its policy allows "
                    "what docs/keys.md lists"
                ) from None
            case InvalidRequest():
                raise RefusedError(f"{url}: refused (400); check mount, namespace and credentials") from None
            case VaultError():
                raise KeyServiceDownError(f"{url}: answers, but cannot serve ({type(error).__name__})") from None
            case requests.exceptions.SSLError():
                raise KeyServiceDownError(f"{url}: TLS failed; check `ca` and the server's certificate") from None
            case requests.exceptions.Timeout():
                raise KeyServiceDownError(f"{url}: no answer within {self._settings.timeout:g} s") from None
            case requests.RequestException() | OSError():
                raise KeyServiceDownError(f"{url}: cannot be reached") from None
            case _:
                raise KeyServiceDownError(f"{url}: answered what was not asked for") from None


def _lease(seconds: float, renewable: bool, first: float = 0.0) -> _Lease:
    """0 seconds: no end."""
    at = time.monotonic() + seconds * 2 / 3 if seconds else float("inf")
    return _Lease(at, first or seconds, renewable)
