"""Key services that hang, as libraries and servers really do: every call ends in time, and it goes on when they do."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path

import pytest

from proxy.kms import bounded as bounds
from proxy.kms.aws import AwsKms
from proxy.kms.bounded import bounded
from proxy.kms.gate import Gate
from proxy.kms.local import LocalKms
from proxy.kms.own_thread import in_own_thread
from proxy.kms.service import Importing, KeysError, KeyService, KeyServiceDownError, Wrapped
from proxy.kms.service_settings import AwsSettings, KeySettings, Pkcs11Settings, ServiceSettings, VaultSettings
from proxy.kms.services import open_services
from proxy.kms.vault import VaultKms
from proxy.ports import Owner
from tests.kms.conftest import ACME, DATA, Counting, Passing
from tests.support.processes import until
from tests.support.servers import Authority, Server

WRAPPED = Wrapped(bytes(16), "x", 1, b"vault:v1:" + b"A" * 64)
SHORT = 0.3


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PATIENCE", SHORT)
    monkeypatch.setattr(bounds, "_LONG_PATIENCE", SHORT)


class Hanging(Passing):
    """Its library comes back from no call before `over` is set."""

    def __init__(self, kms: KeyService) -> None:
        super().__init__(kms)
        self.over = threading.Event()
        self.begun = 0

    def __getattr__(self, name: str) -> object:
        verb = super().__getattr__(name)
        if not callable(verb):
            return verb

        def hang(*arguments: object) -> object:
            self.begun += 1
            assert self.over.wait(20)
            return verb(*arguments)

        return hang


@pytest.fixture
def hanging(kms: LocalKms) -> Iterator[Hanging]:
    service = Hanging(kms)
    yield service
    service.over.set()


VERBS: dict[str, Callable[[KeyService], object]] = {
    "create_kek": lambda service: service.create_kek(ACME),
    "rotate_kek": lambda service: service.rotate_kek(ACME),
    "wrap": lambda service: service.wrap(DATA, bytes(32)),
    "unwrap": lambda service: service.unwrap(DATA, WRAPPED),
    "rewrap": lambda service: service.rewrap(DATA, WRAPPED),
    "destroy_kek": lambda service: service.destroy_kek(ACME),
    "check": lambda service: service.check(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_ends_in_time(hanging: Hanging, verb: str) -> None:
    with pytest.raises(KeyServiceDownError, match="no answer in"):
        VERBS[verb](bounded(hanging))  # type: ignore[arg-type]


class HangingImport(Counting):
    def import_kek(self, owner: Owner, kek: bytes) -> int:
        assert self.answers.wait(20)
        return 1


def test_importing_ends_in_time_and_is_offered_by_those_that_can(kms: LocalKms) -> None:
    hanging = HangingImport(kms)
    hanging.answers.clear()
    service = bounded(hanging)  # type: ignore[arg-type]
    assert isinstance(service, Importing)
    with pytest.raises(KeyServiceDownError, match="no answer in"):
        service.import_kek(ACME, bytes(32))
    hanging.answers.set()
    assert not isinstance(bounded(VaultKms(VaultSettings("http://127.0.0.1:1", token=b"x"))), Importing)


def test_answers_and_errors_come_through(kms: LocalKms) -> None:
    service = bounded(kms)
    wrapped = service.wrap(DATA, bytes(range(32)))
    assert bytes(service.unwrap(DATA, wrapped)) == bytes(range(32)) and service.name == kms.name
    counting = Counting(kms)
    counting.error = KeysError("denied")
    with pytest.raises(KeysError, match="denied"):
        bounded(counting).unwrap(DATA, wrapped)  # type: ignore[arg-type]


def test_few_calls_are_left_behind_and_then_it_is_refused_at_once_until_they_come_back(hanging: Hanging) -> None:
    service = bounded(hanging)  # type: ignore[arg-type]
    for _ in range(4):
        with pytest.raises(KeyServiceDownError, match="no answer in"):
            service.check()
    for _ in range(100):
        with pytest.raises(KeyServiceDownError, match="4 calls have not come back"):
            service.check()
    assert hanging.begun == 4
    hanging.over.set()
    until(lambda: service.create_kek(ACME) if not service._left else 0, "it is asked again")  # type: ignore[attr-defined]


async def test_a_call_that_hangs_counts_as_failed(hanging: Hanging) -> None:
    service = bounded(hanging)  # type: ignore[arg-type]
    gate = Gate(service, time.monotonic, lambda: 0.0)
    for _ in range(3):
        with pytest.raises(KeyServiceDownError, match="no answer"):
            await gate.call(service.unwrap, DATA, WRAPPED)
        await asyncio.sleep(0)
    assert gate.down


_LEFT = """
import threading
from proxy.kms.own_thread import in_own_thread
future = in_own_thread("hangs", threading.Event().wait)
print(in_own_thread("counts", sum, [1, 2]).result(10), future.cancel())
"""


def test_the_end_of_a_process_waits_for_no_call_that_was_left_behind() -> None:
    done = subprocess.run([sys.executable, "-c", _LEFT], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "3 False\n" and not done.stderr


# --- servers that drip


def dripping(context: ssl.SSLContext | None = None) -> Server:
    """A server that answers every request with a byte now and then, for as long as the caller bears it."""

    def drip(line: socket.socket, server: Server) -> None:
        line.recv(4096)
        line.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while not server.gate.wait(SHORT / 6):
            line.sendall(b" ")

    return Server(context, drip)


def vault(url: str, ca: Path | None) -> KeySettings:
    return KeySettings(ServiceSettings("vault", VaultSettings(url, ca, token=b"x", timeout=SHORT)))


def aws(url: str, ca: Path | None) -> KeySettings:
    return KeySettings(ServiceSettings("aws", AwsSettings("eu-west-1", url, ca, b"x", b"x", timeout=SHORT)))


@pytest.mark.parametrize("settings", [vault, aws], ids=["vault", "aws"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_server_that_drips_holds_nobody_up(
    state: Path, tmp_path: Path, settings: Callable[[str, Path | None], KeySettings], *, tls: bool
) -> None:
    context, ca = None, None
    if tls:
        authority = Authority(tmp_path)
        context, ca = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Path(authority.ca_file)
        context.load_cert_chain(*authority.client_files("127.0.0.1"))
    with dripping(context) as server:
        url = f"http{'s' if tls else ''}://127.0.0.1:{server.port}"
        services = open_services(settings(url, ca), state, secrets.token_bytes)
        with pytest.raises(KeyServiceDownError, match="no answer in"):
            services.check()


def test_without_a_bound_a_server_that_drips_is_waited_for() -> None:
    """What makes the bound needed: the library's own time-out begins anew with every byte."""
    with dripping() as server:
        url = f"http://127.0.0.1:{server.port}"
        service = AwsKms(AwsSettings("eu-west-1", url, None, b"x", b"x", timeout=SHORT))
        assert not wait((in_own_thread("drips", service.check),), 4 * SHORT).done


def test_every_service_outside_the_process_is_bounded(state: Path) -> None:
    token = Pkcs11Settings(Path("/none.so"), "wxgate", b"1234")
    for settings in (vault("http://127.0.0.1:1", None), aws("http://127.0.0.1:1", None)):
        assert isinstance(open_services(settings, state, secrets.token_bytes).default, bounds.Bounded)
    hsm = KeySettings(ServiceSettings("pkcs11", token))
    assert isinstance(open_services(hsm, state, secrets.token_bytes).default, bounds.Bounded)
