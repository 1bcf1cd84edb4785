"""What every key service must do, on the real thing: one test for all, and no mock."""

import base64
import itertools
import secrets
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from proxy.crypto.data_key import Purpose, key_id_of
from proxy.crypto.secret_bytes import SecretBytes
from proxy.kms.service import KeysError, KeyService, KeyServiceDownError, Slot, Wrapped, gateway_owner
from proxy.ports import Owner
from tests.kms.providers import IMPATIENT, PROVIDERS, Provider
from tests.support.processes import until

_numbers = itertools.count(1)
OUTAGES = [(name, outage) for name, made in PROVIDERS.items() for outage in made.outages]


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Provider]]:
    """By name; each is started once, when it is asked for."""
    started: dict[str, Provider] = {}

    def provider(name: str) -> Provider:
        if name not in started:
            started[name] = PROVIDERS[name](tmp_path_factory.mktemp(name))
        return started[name]

    yield provider
    for each in started.values():
        each.close()


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest, providers: Callable[[str], Provider]) -> Provider:
    return providers(request.param)


@pytest.fixture
def kms(provider: Provider) -> KeyService:
    return provider.open()


@pytest.fixture
def slot(kms: KeyService) -> Slot:
    """Of an owner that no other test has, with a KEK."""
    slot = Slot(new_owner(), "follower", Purpose.DATA)
    kms.create_kek(slot.owner)
    return slot


def new_owner() -> Owner:
    return Owner(f"tenant-{next(_numbers)}", "in")


def new_dek() -> SecretBytes:
    return SecretBytes(secrets.token_bytes(32))


def test_a_dek_comes_back_here_and_in_another_process(provider: Provider, kms: KeyService, slot: Slot) -> None:
    dek = new_dek()
    wrapped = kms.wrap(slot, dek)
    assert (wrapped.key_id, wrapped.service, wrapped.kek_version) == (key_id_of(dek), kms.name, 1)
    assert dek not in wrapped.sealed and len(wrapped.sealed) <= 4096
    assert kms.unwrap(slot, wrapped) == provider.open().unwrap(slot, wrapped) == dek
    assert kms.wrap(slot, dek).sealed != wrapped.sealed
    kms.check()


def test_a_key_id_of_32_bytes_is_bound_as_one_of_16_is(kms: KeyService, slot: Slot) -> None:
    dek = new_dek()
    long = key_id_of(dek, 32)
    wrapped = kms.wrap(slot, dek, long)
    assert wrapped.key_id == long and kms.unwrap(slot, wrapped) == dek
    with pytest.raises(KeysError, match="does not open"):
        kms.unwrap(slot, replace(wrapped, key_id=long[:16]))
    kms.rotate_kek(slot.owner)
    assert kms.rewrap(slot, wrapped).key_id == long


def test_creating_again_changes_nothing(provider: Provider, kms: KeyService, slot: Slot) -> None:
    wrapped = kms.wrap(slot, dek := new_dek())
    assert kms.create_kek(slot.owner) == provider.open().create_kek(slot.owner) == 1
    assert kms.unwrap(slot, wrapped) == dek


def test_whether_there_is_a_kek(provider: Provider, kms: KeyService) -> None:
    owner = new_owner()
    assert not kms.has_kek(owner) and not provider.open().has_kek(owner)
    kms.create_kek(owner)
    assert kms.has_kek(owner) and provider.open().has_kek(owner)
    kms.destroy_kek(owner)
    assert not kms.has_kek(owner) and not provider.open().has_kek(owner)


def test_versions_of_a_kek(provider: Provider, kms: KeyService, slot: Slot) -> None:
    running = provider.open()
    deks = [new_dek() for _ in range(3)]
    wrapped = [running.wrap(slot, deks[0])]
    for version, dek in enumerate(deks[1:], 2):
        assert kms.rotate_kek(slot.owner) == version
        wrapped.append(running.wrap(slot, dek))
    assert [each.kek_version for each in wrapped] == [1, 2, 3]
    assert [running.unwrap(slot, each) for each in wrapped] == deks
    assert kms.create_kek(slot.owner) == 3
    again = [running.rewrap(slot, each) for each in wrapped]
    assert [(each.kek_version, each.key_id, each.service) for each in again] == [
        (3, key_id_of(dek), kms.name) for dek in deks
    ]
    assert [provider.open().unwrap(slot, each) for each in again] == deks
    assert again[2] == wrapped[2]  # it was under the newest already


def test_a_wrapped_dek_opens_in_its_own_slot_only(kms: KeyService, slot: Slot) -> None:
    wrapped = kms.wrap(slot, new_dek())
    elsewhere = replace_region(slot)
    kms.create_kek(elsewhere.owner)
    other = Slot(new_owner(), slot.group, slot.purpose)
    kms.create_kek(other.owner)
    for wrong in (slot._replace(purpose=Purpose.LOOKUP), slot._replace(group="agent"), elsewhere, other):
        with pytest.raises(KeysError, match=f"{wrapped.key_id.hex()} .*does not open"):
            kms.unwrap(wrong, wrapped)


def replace_region(slot: Slot) -> Slot:
    return slot._replace(owner=slot.owner._replace(region="au"))


def test_names_that_look_alike_are_owners_of_their_own(kms: KeyService) -> None:
    number = next(_numbers)
    alike = [
        Owner(f"x{number}", "in"),
        Owner(f"x{number}.in", "in"),
        Owner(f"x{number}-in", "in"),
        Owner(f"x{number}_in", "in"),
        Owner(f"x{number}", "in-in"),
        Owner(f"X{number}", "in"),
        gateway_owner("in"),
    ]
    slots = [Slot(owner, "g", Purpose.DATA) for owner in alike]
    wrapped = {}
    for slot in slots:
        kms.create_kek(slot.owner)
        wrapped[slot] = kms.wrap(slot, new_dek())
    for slot, other in itertools.permutations(slots, 2):
        with pytest.raises(KeysError):
            kms.unwrap(slot, wrapped[other])
    kms.destroy_kek(alike[0])
    assert all(kms.unwrap(slot, wrapped[slot]) for slot in slots[1:])


def changed(wrapped: Wrapped, other: Wrapped) -> Iterator[Wrapped]:
    yield replace(wrapped, key_id=other.key_id)
    yield replace(wrapped, sealed=other.sealed)
    yield replace(wrapped, kek_version=wrapped.kek_version + 1)
    sealed = wrapped.sealed
    for at in (0, len(sealed) // 2, len(sealed) - 6):
        yield replace(wrapped, sealed=sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
    for cut in (b"", sealed[:7], sealed[:-1], sealed[1:], sealed + b"A", b"\xff" * len(sealed), bytes(72)):
        yield replace(wrapped, sealed=cut)


def test_what_was_changed_or_swapped_does_not_open(kms: KeyService, slot: Slot) -> None:
    wrapped, other = kms.wrap(slot, dek := new_dek()), kms.wrap(slot, new_dek())
    for wrong in changed(wrapped, other):
        with pytest.raises(KeysError) as caught:
            kms.unwrap(slot, wrong)
        assert not isinstance(caught.value, KeyServiceDownError)
    assert kms.unwrap(slot, wrapped) == dek


def test_threads_ask_side_by_side(kms: KeyService, slot: Slot) -> None:
    wrapped = kms.wrap(slot, dek := new_dek())
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: bytes(kms.unwrap(slot, wrapped)), range(40))) == {bytes(dek)}


def test_what_was_changed_is_not_rewrapped(kms: KeyService, slot: Slot) -> None:
    wrapped, other = kms.wrap(slot, new_dek()), kms.wrap(slot, new_dek())
    kms.rotate_kek(slot.owner)
    for wrong in (replace(wrapped, key_id=other.key_id), replace(wrapped, sealed=other.sealed)):
        with pytest.raises(KeysError):
            kms.rewrap(slot, wrong)


def test_without_a_kek_nothing_is_wrapped_and_none_is_made(kms: KeyService) -> None:
    slot = Slot(new_owner(), "follower", Purpose.DATA)
    for _ in range(2):
        with pytest.raises(KeysError, match=f"no KEK of {slot.owner.tenant}/in"):
            kms.wrap(slot, new_dek())
        with pytest.raises(KeysError, match=f"no KEK of {slot.owner.tenant}/in"):
            kms.rotate_kek(slot.owner)


def test_a_destroyed_kek_opens_nothing_again(provider: Provider, kms: KeyService, slot: Slot) -> None:
    running = provider.open()
    kms.rotate_kek(slot.owner)
    wrapped = [running.wrap(slot, new_dek())]
    kms.rotate_kek(slot.owner)
    wrapped.append(running.wrap(slot, new_dek()))
    receipt = kms.destroy_kek(slot.owner)
    assert receipt.operation and (receipt.effective is None or receipt.effective > time.time())
    for service in (running, kms, provider.open()):
        for each in wrapped:
            with pytest.raises(KeysError):
                service.unwrap(slot, each)
            with pytest.raises(KeysError):
                service.rewrap(slot, each)
        with pytest.raises(KeysError):
            service.wrap(slot, new_dek())
    assert kms.destroy_kek(slot.owner).operation
    # The owner comes back as a customer: with another KEK, and without the past.
    kms.create_kek(slot.owner)
    dek = new_dek()
    assert running.unwrap(slot, running.wrap(slot, dek)) == dek
    for each in wrapped:
        with pytest.raises(KeysError):
            running.unwrap(slot, each)


@pytest.mark.parametrize(("name", "outage"), OUTAGES)
def test_a_service_that_is_away_is_said_to_be_and_comes_back(
    providers: Callable[[str], Provider], name: str, outage: str
) -> None:
    provider = providers(name)
    slot = Slot(new_owner(), "follower", Purpose.DATA)
    patient = provider.open()
    patient.create_kek(slot.owner)
    wrapped = patient.wrap(slot, dek := new_dek())
    kms = provider.open(IMPATIENT)
    opens_again(kms, slot, wrapped)
    questions: list[Callable[[KeyService], object]] = [
        lambda service: service.unwrap(slot, wrapped),
        lambda service: service.wrap(slot, new_dek()),
        lambda service: service.rewrap(slot, wrapped),
        lambda service: service.create_kek(slot.owner),
        lambda service: service.destroy_kek(slot.owner),
        lambda service: service.check(),
    ]
    with provider.away(outage):
        fresh = provider.open(IMPATIENT)
        for question in questions:
            for service in (kms, fresh):
                began = time.monotonic()
                with pytest.raises(KeyServiceDownError):
                    question(service)
                assert time.monotonic() - began < 30
    assert opens_again(kms, slot, wrapped) == opens_again(fresh, slot, wrapped) == dek


def opens_again(kms: KeyService, slot: Slot, wrapped: Wrapped) -> bytes:
    """Asked again and again: a server that was frozen finds itself again first, and the wait for it is impatient."""

    def ask() -> bytes:
        with suppress(KeysError):
            return kms.unwrap(slot, wrapped)
        return b""

    return until(ask, "the service opens again", 60)


def test_no_key_bytes_are_shown(kms: KeyService, slot: Slot) -> None:
    dek = new_dek()
    wrapped = kms.wrap(slot, dek)
    said = [repr(kms), str(kms), repr(wrapped)]
    kms.unwrap(slot, wrapped)
    for wrong in changed(wrapped, kms.wrap(slot, new_dek())):
        with pytest.raises(KeysError) as caught:
            kms.unwrap(slot, wrong)
        said.append(str(caught.value))
        kept = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        said.append("".join(kept.format()))
    kms.destroy_kek(slot.owner)
    try:
        kms.wrap(slot, dek)
    except KeysError as error:
        said.append("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
    text = "".join(said)
    for form in (bytes(dek).hex(), base64.b64encode(dek).decode(), repr(bytes(dek))[2:-1]):
        assert form not in text
