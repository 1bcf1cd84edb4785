"""Every key service there is, on the real thing, for the contract test."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from proxy.kms.aws import AwsKms
from proxy.kms.local import LocalKms
from proxy.kms.pkcs11 import Pkcs11Kms
from proxy.kms.service import KeyService
from proxy.kms.service_settings import AwsSettings, Pkcs11Settings, VaultSettings
from proxy.kms.vault import VaultKms
from tests.support.moto import Moto
from tests.support.openbao import OpenBao
from tests.support.softhsm import MODULE, SoftHsm

PATIENT, IMPATIENT = 30.0, 0.5


class Provider(Protocol):
    """One key service under test. `outages`: ways in which it is away for a while and comes back."""

    outages: tuple[str, ...]

    def open(self, timeout: float = PATIENT) -> KeyService:
        """As another process would. `timeout`: seconds for one answer, where there is a choice."""
        ...

    def away(self, outage: str) -> AbstractContextManager[None]: ...

    def close(self) -> None: ...


class Local:
    """The embedded one is away only with its disk."""

    outages: tuple[str, ...] = ()

    def __init__(self, directory: Path) -> None:
        self._state = directory / "state"
        self._state.mkdir(mode=0o700)
        self._unlock = secrets.token_bytes(32)

    def open(self, timeout: float = PATIENT) -> KeyService:
        return LocalKms(self._state, self._unlock, secrets.token_bytes)

    def away(self, outage: str) -> AbstractContextManager[None]:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Vault:
    """OpenBao over TLS, with AppRole and the policy of the documentation."""

    outages = ("stopped", "frozen")

    def __init__(self, directory: Path) -> None:
        self.server = OpenBao(directory)
        self._role, self._secret = self.server.approle()

    def open(self, timeout: float = PATIENT) -> KeyService:
        return VaultKms(
            VaultSettings(self.server.url, self.server.ca, role_id=self._role, secret_id=self._secret, timeout=timeout)
        )

    @contextmanager
    def away(self, outage: str) -> Iterator[None]:
        begin, end = {
            "stopped": (self.server.stop, self.server.start),
            "frozen": (self.server.freeze, self.server.thaw),
        }[outage]
        begin()
        try:
            yield
        finally:
            end()

    def close(self) -> None:
        self.server.stop()


class Pkcs11:
    """A SoftHSM token."""

    outages = ("unplugged",)

    def __init__(self, directory: Path) -> None:
        self.token = SoftHsm()

    def open(self, timeout: float = PATIENT) -> KeyService:
        return Pkcs11Kms(Pkcs11Settings(MODULE, self.token.label, self.token.pin), secrets.token_bytes)

    def away(self, outage: str) -> AbstractContextManager[None]:
        return self.token.unplugged()

    def close(self) -> None:
        pass


class Aws:
    """moto's KMS."""

    outages = ("frozen",)

    def __init__(self, directory: Path) -> None:
        self.server = Moto(directory)

    def open(self, timeout: float = PATIENT) -> KeyService:
        return AwsKms(AwsSettings("eu-west-1", self.server.url, None, b"testing", b"testing", timeout=timeout))

    def away(self, outage: str) -> AbstractContextManager[None]:
        return self.server.frozen()

    def close(self) -> None:
        self.server.stop()


PROVIDERS: dict[str, Callable[[Path], Provider]] = {"local": Local, "vault": Vault, "pkcs11": Pkcs11, "aws": Aws}
