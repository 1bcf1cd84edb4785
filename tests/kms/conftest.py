"""A state directory, an unlock key and owners for the tests of keys."""

import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.crypto.data_key import Purpose
from proxy.kms.budget import SharedBudget
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_format import Entry
from proxy.kms.keystore import keyring_file_of, open_keyring_in_use
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.making import new_entry
from proxy.kms.service import KeyService, Slot, Wrapped
from proxy.kms.service_set import ServiceSet
from proxy.ports import Owner
from tests.kms.machine import NOW, Machine, Two
from tests.support.embedded import init_keys
from tests.support.redis_server import RedisServer

ACME = Owner("acme", "in")
OTHER = Owner("other", "au")
DATA = Slot(ACME, "follower", Purpose.DATA)
LOOKUP = Slot(ACME, "follower", Purpose.LOOKUP)
FOREIGN = Slot(OTHER, "follower", Purpose.DATA)


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = NOW) -> None:
        self.at = now

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - NOW + 1000.0

    def move(self, seconds: float) -> None:
        self.at += seconds


class Passing:
    """A key service in front of another, for those that do something else than it."""

    def __init__(self, kms: KeyService) -> None:
        self._kms = kms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kms, name)


class Swapping(Passing):
    """Opens every wrapped DEK and hands out another."""

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        return bytes(reversed(self._kms.unwrap(slot, wrapped)))


class Counting(Passing):
    """Counts what it is asked to unwrap, and can be made to fail, to hold its answers back, or to give another's."""

    def __init__(self, kms: KeyService) -> None:
        super().__init__(kms)
        self.unwrapped = 0
        self.error: Exception | None = None
        self.swapping = False
        self.answers = threading.Event()
        self.answers.set()

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        self.unwrapped += 1
        assert self.answers.wait(20)
        if self.error is not None:
            raise self.error
        dek = self._kms.unwrap(slot, wrapped)
        return bytes(reversed(dek)) if self.swapping else dek

    def wrap(self, slot: Slot, dek: bytes, key_id: bytes | None = None) -> Wrapped:
        if self.error is not None:
            raise self.error
        return self._kms.wrap(slot, dek, key_id)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def unlock() -> bytes:
    return secrets.token_bytes(32)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def kms(state: Path, unlock: bytes) -> LocalKms:
    """With a KEK for each owner."""
    kms = LocalKms(state, unlock, secrets.token_bytes)
    kms.create_kek(ACME)
    kms.create_kek(OTHER)
    return kms


@pytest.fixture
def filled(state: Path, unlock: bytes) -> Path:
    """The state directory with DATA, LOOKUP and FOREIGN active."""
    init_keys(state, unlock, [DATA, LOOKUP, FOREIGN], NOW, secrets.token_bytes)
    return state


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget() -> Iterator[SharedBudget]:
    budget = SharedBudget.create(64)
    yield budget
    budget.close()


@pytest.fixture
def two(filled: Path, unlock: bytes, tmp_path: Path) -> Two:
    one = Machine(filled, unlock)
    return one, one.copy(tmp_path / "other")


class Bench:
    """Keyrings on one state directory, each as a process would have it, on one key service that counts."""

    def __init__(self, state: Path, unlock: bytes, clock: Clock, budget: SharedBudget) -> None:
        self.state, self.unlock, self.clock, self.budget = state, unlock, clock, budget
        self.kms = Counting(LocalKms(state, unlock, secrets.token_bytes))
        self.services = ServiceSet(cast(KeyService, self.kms))
        self.file = keyring_file_of(self.services, state, secrets.token_bytes)
        self.file.read()  # it knows the tag key from here on
        self.opened: list[Keyring] = []

    def open(self, limits: KeyLimits | None = None, before: Keyring | None = None) -> Keyring:
        keyring = open_keyring_in_use(
            self.services,
            self.state,
            limits or KeyLimits(),
            self.budget,
            self.clock,
            secrets.token_bytes,
            before=before,
        )
        self.opened.append(keyring)
        self.kms.unwrapped = 0
        return keyring

    def change(self, edit: Callable[[tuple[Entry, ...]], tuple[Entry, ...]]) -> None:
        self.file.change(edit)

    def only(self, slot: Slot) -> Entry:
        (entry,) = (entry for entry in self.file.read() if entry.slot == slot)
        return entry

    def put(self, entry: Entry) -> None:
        self.change(lambda entries: tuple(entry if old.id == entry.id else old for old in entries))

    def made(self, slot: Slot, at: float) -> Entry:
        """A pending key that is to become active `at`."""
        return new_entry(self.services, slot, self.clock.now(), at, secrets.token_bytes)


@pytest.fixture
def bench(filled: Path, unlock: bytes, clock: Clock, budget: SharedBudget) -> Iterator[Bench]:
    bench = Bench(filled, unlock, clock, budget)
    yield bench
    for keyring in bench.opened:
        keyring.close()
