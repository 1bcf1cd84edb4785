"""Several key services side by side: who wraps, who opens, and that no tenant's key is shown to another's service."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.crypto.data_key import DataKey, Purpose, key_id_of
from proxy.crypto.xaes import Xaes256Gcm
from proxy.kms.aws import AwsKms
from proxy.kms.local import LocalKms
from proxy.kms.service import KeysError, Slot, context, gateway_owner
from proxy.kms.service_set import ServiceSet
from proxy.kms.service_settings import AwsSettings, KeySettings, LocalSettings, ServiceSettings, TenantKeys
from proxy.kms.services import open_services
from proxy.kms.unlock import Passphrase
from proxy.ports import Owner
from tests.kms.conftest import ACME, DATA, FOREIGN, OTHER

RANDOM = secrets.token_bytes


class Place:
    """Three embedded services in directories of their own, as `main`, `old` and that of tenant acme."""

    def __init__(self, directory: Path) -> None:
        self.each: dict[str, LocalKms] = {}
        for name in ("main", "old", "acme.own"):
            state = directory / name
            state.mkdir(mode=0o700)
            self.each[name] = LocalKms(state, RANDOM(32), RANDOM, name)

    def services(self, main: str = "main", former: tuple[str, ...] = (), own: str = "") -> ServiceSet:
        tenants = {"acme": self.each[own]} if own else {}
        return ServiceSet(
            self.each[main], tenants, [self.each[name] for name in former], brought=dict.fromkeys(tenants, 60.0)
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_factory_makes_what_the_settings_say(state: Path) -> None:
    words = b"cleft cam synod lacy yr wok"
    settings = KeySettings(ServiceSettings("kek", LocalSettings(passphrase=words)))
    services = open_services(replace(settings, tenants={"other": TenantKeys(None, 9.0)}), state, RANDOM)
    assert (services.create_kek(ACME), services.import_kek(OTHER, RANDOM(32))) == (1, 1)
    brought = services.wrap(FOREIGN, RANDOM(32))
    assert (brought.service, len(brought.key_id), services.cache_age(OTHER)) == ("kek", 32, 9.0)
    dek = RANDOM(32)
    wrapped = services.wrap(DATA, dek)
    assert (wrapped.service, wrapped.key_id) == ("kek", key_id_of(dek))
    assert LocalKms(state, Passphrase(words), RANDOM).unwrap(DATA, wrapped) == dek


def test_a_tenants_own_service_wraps_for_it_and_for_nobody_else(place: Place) -> None:
    services = place.services(own="acme.own")
    for owner in (ACME, OTHER, gateway_owner("cn")):
        services.create_kek(owner)
    mine, other = services.wrap(DATA, RANDOM(32)), services.wrap(FOREIGN, RANDOM(32))
    assert (mine.service, other.service, services.name) == ("acme.own", "main", "main")
    assert (len(mine.key_id), len(other.key_id)) == (32, 16)
    assert (services.cache_age(ACME), services.cache_age(OTHER)) == (60.0, None)
    with pytest.raises(KeysError, match="no KEK of other/au"):
        place.each["acme.own"].wrap(FOREIGN, RANDOM(32))


def test_a_key_of_a_brought_tenant_commits_with_32_bytes(place: Place) -> None:
    services = place.services(own="acme.own")
    services.create_kek(ACME)
    dek = RANDOM(32)
    wrapped = services.wrap(DATA, dek)
    assert wrapped.key_id == key_id_of(dek, 32) and wrapped.key_id[:16] == key_id_of(dek)
    assert DataKey(services.unwrap(DATA, wrapped), Purpose.DATA, wrapped.key_id).id == wrapped.key_id


def test_a_kek_that_a_tenant_brings_is_never_made_for_it(place: Place) -> None:
    services = ServiceSet(place.each["main"], brought={"acme": None})
    with pytest.raises(KeysError, match=r"brings its own KEK.*import-kek --tenant acme --region in"):
        services.create_kek(ACME)
    assert not services.has_kek(ACME) and services.awaited(OTHER) == "" and services.create_kek(OTHER) == 1
    services.import_kek(ACME, RANDOM(32))
    assert services.has_kek(ACME) and services.awaited(ACME) == "" and services.create_kek(ACME) == 1


def test_where_a_kek_is_imported_by_other_means_that_is_said(place: Place) -> None:
    class Vault:
        name = "vault"

        def has_kek(self, owner: Owner) -> bool:
            return False

    services = ServiceSet(Vault(), brought={"acme": None})  # type: ignore[arg-type]
    assert "by the service's own means" in services.awaited(ACME)


def test_a_dek_is_shown_only_to_services_of_its_owner(place: Place) -> None:
    both = place.services(own="acme.own")
    both.create_kek(ACME)
    place.each["acme.own"].create_kek(OTHER)
    stolen = place.each["acme.own"].wrap(FOREIGN, RANDOM(32))
    with pytest.raises(KeysError, match=f'{stolen.key_id.hex()}.*"acme.own" is not configured for'):
        both.unwrap(FOREIGN, stolen)
    with pytest.raises(KeysError, match="is not configured for"):
        both.rewrap(FOREIGN, stolen)
    mine = both.wrap(DATA, RANDOM(32))
    with pytest.raises(KeysError, match="name it under `former`"):
        place.services().unwrap(DATA, mine)


@pytest.mark.parametrize("to", [{"former": ("old",)}, {"former": ("old",), "own": "acme.own"}])
def test_a_keyring_moves_from_one_service_to_another_and_keeps_its_ids(place: Place, to: dict[str, str]) -> None:
    before = place.services(main="old")
    before.create_kek(ACME)
    dek = RANDOM(32)
    old = before.wrap(DATA, dek)
    after = place.services(**to)  # type: ignore[arg-type]
    assert after.unwrap(DATA, old) == dek
    after.create_kek(ACME)
    moved = after.rewrap(DATA, old)
    assert (moved.service, moved.key_id) == (to.get("own", "main"), old.key_id)
    place.each["old"].destroy_kek(ACME)
    assert after.unwrap(DATA, moved) == dek
    with pytest.raises(KeysError):
        after.unwrap(DATA, old)


def test_within_one_service_rewrap_is_its_own(place: Place) -> None:
    services = place.services()
    services.create_kek(ACME)
    dek = RANDOM(32)
    old = services.wrap(DATA, dek)
    assert services.rotate_kek(ACME) == 2
    new = services.rewrap(DATA, old)
    assert (new.kek_version, new.key_id, services.unwrap(DATA, new)) == (2, old.key_id, dek)
    assert services.destroy_kek(ACME).operation == "removed version 1, 2 of acme/in from kek.json"
    with pytest.raises(KeysError):
        services.unwrap(DATA, new)


def test_check_asks_every_service(place: Place) -> None:
    services = place.services(former=("old",), own="acme.own")
    services.check()
    for name, kms in place.each.items():
        path = kms._file.path
        path.write_bytes(b"{")
        path.chmod(0o600)
        with pytest.raises(KeysError, match=f"{name}.*damaged"):
            services.check()
        path.unlink()


def test_a_slot_keeps_apart_what_a_service_holds_together(place: Place) -> None:
    services = place.services()
    services.create_kek(ACME)
    wrapped = services.wrap(DATA, RANDOM(32))
    with pytest.raises(KeysError, match="does not open"):
        services.unwrap(Slot(ACME, "agent", Purpose.DATA), wrapped)


@pytest.mark.parametrize("form", [bytes, bytes.hex])
def test_a_tenants_own_kek_is_imported_and_wraps_from_then_on(
    place: Place, form: Callable[[bytes], bytes | str]
) -> None:
    """Opened with nothing but the tenant's copy of the KEK: XAES-256-GCM as docs/spec/keyring.md says."""
    services = place.services(own="acme.own")
    services.create_kek(ACME)
    old = services.wrap(DATA, dek := RANDOM(32))
    kek = RANDOM(32)
    shown = form(kek)
    assert services.import_kek(ACME, shown.encode() if isinstance(shown, str) else shown) == 2
    new = services.rewrap(DATA, old)
    assert (new.kek_version, len(new.key_id), services.unwrap(DATA, new), services.unwrap(DATA, old)) == (
        2,
        32,
        dek,
        dek,
    )
    assert Xaes256Gcm(kek).decrypt(new.sealed[:24], new.sealed[24:], context(DATA, new.key_id)) == dek


@pytest.mark.parametrize(
    "kek", [b"", bytes(32), b"0123456789abcdef0123456789abcdef", bytes(range(31)), bytes(range(33))]
)
def test_what_is_no_kek_is_not_imported(place: Place, kek: bytes) -> None:
    with pytest.raises(KeysError, match="the tenant's KEK: not 32 random bytes"):
        place.services(own="acme.own").import_kek(ACME, kek)


def test_only_a_tenant_who_brings_keys_has_one_imported_and_only_where_that_is_possible(place: Place) -> None:
    with pytest.raises(KeysError, match="does not bring its own keys"):
        place.services().import_kek(ACME, RANDOM(32))
    remote = AwsKms(AwsSettings("eu-west-1"))
    with pytest.raises(KeysError, match="takes no KEK from wxgate"):
        ServiceSet(place.each["main"], {"acme": remote}).import_kek(ACME, RANDOM(32))
