"""What deployers do with keys, on every key service as it really is: rewrap, move there and back, shred."""

import base64
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.crypto.data_key import Purpose
from proxy.kms.keyring_file import FILE, KeyringFile
from proxy.kms.keyring_format import KeyState
from proxy.kms.keystore import keyring_file_of
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing, rotate
from proxy.kms.receipt import verified
from proxy.kms.rewrapping import rewrap
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, KeyService, Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.shredding import shred, signing_key
from proxy.ports import Owner
from tests.kms.conftest import NOW
from tests.kms.providers import PROVIDERS, Provider

RANDOM = secrets.token_bytes
SLOTS = [Slot(Owner(tenant, "in"), "follower", use) for tenant in ("acme", "other") for use in Purpose]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Provider]]:
    """By name; each is started once, when it is asked for."""
    running: dict[str, Provider] = {}

    def provider(name: str) -> Provider:
        if name not in running:
            running[name] = PROVIDERS[name](tmp_path_factory.mktemp(name))
        return running[name]

    yield provider
    for each in running.values():
        each.close()


@pytest.fixture(params=PROVIDERS)
def service(request: pytest.FixtureRequest, started: Callable[[str], Provider]) -> KeyService:
    return started(request.param).open()


def filled(state: Path, services: ServiceSet) -> KeyringFile:
    file = keyring_file_of(services, state, RANDOM)
    make_missing(file, services, SLOTS, NOW, RANDOM)
    rotate(file, services, Selection(), NOW + 1, RANDOM)
    return file


def deks(file: KeyringFile, services: ServiceSet) -> dict[bytes, bytes]:
    return {entry.id: bytes(services.unwrap(entry.slot, entry.wrapped)) for entry in file.read()}


def test_a_new_version_of_every_kek(service: KeyService, state: Path) -> None:
    services = ServiceSet(service)
    file = filled(state, services)
    before = deks(file, services)
    versions = {entry.id: entry.wrapped.kek_version for entry in file.read()}
    told = rewrap(file, services, Selection())
    assert told.keys == len(before) + 1 == 7
    assert {entry.id: entry.wrapped.kek_version for entry in file.read()} == {
        key_id: version + 1 for key_id, version in versions.items()
    }
    assert deks(file, services) == before


def test_moving_there_and_back(service: KeyService, state: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    embedded = LocalKms(tmp_path / "other", RANDOM(32), RANDOM, "embedded")
    before = deks(filled(state, ServiceSet(embedded)), ServiceSet(embedded))
    for now, then in ((service, embedded), (embedded, service)):
        services = ServiceSet(now, others=[then])
        rewrap(keyring_file_of(services, state, RANDOM), services, Selection(), to_service=now.name)
        alone = ServiceSet(now)
        file = keyring_file_of(alone, state, RANDOM)
        assert {entry.wrapped.service for entry in file.read()} == {now.name}
        assert deks(file, alone) == before


def test_shredding(service: KeyService, state: Path) -> None:
    services = ServiceSet(service)
    file = filled(state, services)
    signer = signing_key(file)
    backup = (state / FILE).read_bytes()
    mine = [entry for entry in file.read() if entry.slot.owner.tenant == "acme"]
    receipt = shred(file, services, Owner("acme", "in"), NOW)
    assert set(receipt.key_ids) == {entry.id for entry in mine}
    assert receipt.destroyed.operation and receipt.service == service.name
    if service.name == "aws":
        assert receipt.destroyed.effective is not None
    public = signer.public_key().public_bytes_raw()
    assert verified(receipt.signed(signer), base64.b64encode(public).decode()).destroyed == receipt.destroyed
    (state / FILE).write_bytes(backup)
    again = keyring_file_of(services, state, RANDOM)
    states = {entry.slot.owner.tenant: entry.state for entry in again.read() if entry.slot.purpose is Purpose.LOOKUP}
    assert states == {"acme": KeyState.ACTIVE, "other": KeyState.ACTIVE}, "the rows are back"
    for entry in again.read():
        if entry.slot.owner.tenant == "other":
            services.unwrap(entry.slot, entry.wrapped)
            continue
        with pytest.raises(KeysError):
            services.unwrap(entry.slot, entry.wrapped)


def test_a_shredded_tenant_can_begin_anew_and_the_old_keys_stay_closed(service: KeyService, state: Path) -> None:
    """Whoever runs `wxgate keys init` afterwards makes new keys under a new KEK."""
    services = ServiceSet(service)
    file = filled(state, services)
    old = [entry for entry in file.read() if entry.slot.owner.tenant == "acme"]
    shred(file, services, Owner("acme", "in"), NOW)
    made = make_missing(file, services, SLOTS[:1], NOW, RANDOM)
    services.unwrap(made[0].slot, made[0].wrapped)
    for entry in old:
        with pytest.raises(KeysError):
            services.unwrap(entry.slot, entry.wrapped)
