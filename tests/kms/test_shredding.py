"""After shredding nothing of the tenant opens, not from a backup of the keyring either; the receipt is true."""

import base64
import json
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.crypto.data_key import Purpose
from proxy.kms import transitions
from proxy.kms.keyring_file import FILE, KeyringFile
from proxy.kms.keyring_format import KeyState
from proxy.kms.keystore import keyring_file_of, open_keyring_in_use
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing, rotate
from proxy.kms.receipt import Receipt, ReceiptError, verified
from proxy.kms.rewrapping import rewrap
from proxy.kms.selection import Selection
from proxy.kms.service import Destroyed, KeysError, KeyServiceDownError, Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.shredding import shred, signing_key, to_shred
from proxy.kms.transitions import Entries
from proxy.ports import Owner
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, NOW, OTHER, Bench

RANDOM = secrets.token_bytes
ABROAD = Owner("acme", "jp")


@pytest.fixture
def services(state: Path) -> ServiceSet:
    return ServiceSet(LocalKms(state, RANDOM(32), RANDOM))


@pytest.fixture
def file(state: Path, services: ServiceSet) -> KeyringFile:
    file = keyring_file_of(services, state, RANDOM)
    make_missing(file, services, [DATA, LOOKUP, FOREIGN, Slot(ABROAD, "follower", Purpose.DATA)], NOW, RANDOM)
    rotate(file, services, Selection(tenant="acme", region="in"), NOW + 1, RANDOM)
    return file


def test_the_kek_is_gone_and_the_rows_are_empty(file: KeyringFile, services: ServiceSet) -> None:
    before = [entry for entry in file.read() if entry.slot.owner == ACME]
    receipt = shred(file, services, ACME, NOW + 5)
    for entry in before:
        with pytest.raises(KeysError):
            services.unwrap(entry.slot, entry.wrapped)
    for entry in file.read():
        gone = entry.slot.owner == ACME
        assert (entry.state is KeyState.DESTROYED) == gone and (entry.wrapped.sealed == b"") == gone
        if not gone:
            services.unwrap(entry.slot, entry.wrapped)
    assert set(receipt.key_ids) == {entry.id for entry in before} and len(before) == 3
    assert (receipt.owner, receipt.at, receipt.service) == (ACME, int(NOW) + 5, "local")
    assert "kek.json" in receipt.destroyed.operation


def test_a_backup_of_the_keyring_does_not_revive_it(file: KeyringFile, services: ServiceSet, state: Path) -> None:
    backup = (state / FILE).read_bytes()
    shred(file, services, ACME, NOW)
    (state / FILE).write_bytes(backup)
    again = keyring_file_of(services, state, RANDOM)
    entries = [entry for entry in again.read() if entry.slot.owner == ACME]
    assert entries[0].state is not KeyState.DESTROYED, "the rows are back"
    for entry in entries:
        with pytest.raises(KeysError, match="KEK"):
            services.unwrap(entry.slot, entry.wrapped)


def test_it_can_be_repeated_and_finishes_what_was_left(file: KeyringFile, services: ServiceSet) -> None:
    services.destroy_kek(ACME)  # and killed here
    with pytest.raises(KeysError, match="--kek-is-gone"):
        shred(file, services, ACME, NOW)
    receipt = shred(file, services, ACME, NOW, kek_is_gone=True)
    assert receipt.destroyed.operation == "removed version 1 of acme/in from kek.json"
    assert len(receipt.key_ids) == 3
    assert shred(file, services, ACME, NOW) == receipt


def test_nothing_changes_if_the_kek_cannot_be_destroyed(
    file: KeyringFile, services: ServiceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(_self: LocalKms, _owner: Owner) -> Destroyed:
        raise KeyServiceDownError("does not answer")

    before = file.read()
    monkeypatch.setattr(LocalKms, "destroy_kek", down)
    with pytest.raises(KeyServiceDownError):
        shred(file, services, ACME, NOW)
    assert file.read() == before


def test_keys_that_another_service_still_opens_stop_it(
    file: KeyringFile, services: ServiceSet, state: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir(mode=0o700)
    moved = ServiceSet(LocalKms(tmp_path / "new", RANDOM(32), RANDOM, "new"), others=[services.default])
    file = keyring_file_of(moved, state, RANDOM)
    with pytest.raises(KeysError, match="rewrap --to-service new"):
        shred(file, moved, ACME, NOW)
    assert all(entry.state is not KeyState.DESTROYED for entry in file.read())


@pytest.fixture
def own(tmp_path: Path) -> LocalKms:
    """The service that tenant acme moves to."""
    (tmp_path / "own").mkdir(mode=0o700)
    return LocalKms(tmp_path / "own", RANDOM(32), RANDOM, "own")


@pytest.fixture
def moved(file: KeyringFile, services: ServiceSet, state: Path, own: LocalKms) -> ServiceSet:
    """The keys of acme are with `own` now; their KEK of before is still with the default service."""
    moved = ServiceSet(services.default, {"acme": own})
    rewrap(keyring_file_of(moved, state, RANDOM), moved, Selection(tenant="acme"), to_service="own")
    return moved


def test_a_backup_from_before_a_move_does_not_open_in_the_service_of_before(
    file: KeyringFile, services: ServiceSet, state: Path, own: LocalKms
) -> None:
    backup = [entry for entry in file.read() if entry.slot.owner == ACME]
    moved = ServiceSet(services.default, {"acme": own})
    file = keyring_file_of(moved, state, RANDOM)
    rewrap(file, moved, Selection(tenant="acme"), to_service="own")
    assert [moved.unwrap(entry.slot, entry.wrapped) for entry in backup], "until it is shredded"
    receipt = shred(file, moved, ACME, NOW)
    for entry in backup:
        with pytest.raises(KeysError, match="no KEK version 1"):
            moved.unwrap(entry.slot, entry.wrapped)
    assert (receipt.service, receipt.destroyed.operation) == (
        "own",
        "removed version 1 of acme/in from kek.json (local); removed version 1 of acme/in from kek.json (own)",
    )


def test_a_service_without_such_a_kek_is_named_and_the_latest_date_counts(
    state: Path, services: ServiceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(kms: LocalKms, _owner: Owner) -> Destroyed:
        return {
            "local": Destroyed("found no KEK"),
            "a": Destroyed("scheduled", int(NOW) + 9),
            "b": Destroyed("scheduled", int(NOW) + 7),
        }[kms.name]

    monkeypatch.setattr(LocalKms, "destroy_kek", later)
    others = [LocalKms(tmp_path, RANDOM(32), RANDOM, name) for name in ("a", "b")]
    found = ServiceSet(services.default, others=others).destroy_kek(ACME)
    assert found == Destroyed("scheduled (a); scheduled (b); found no KEK (local)", int(NOW) + 9) and found.found


@pytest.mark.parametrize("away", ["local", "own"])
def test_while_one_service_is_away_nothing_is_signed_and_the_rows_stay(
    moved: ServiceSet, state: Path, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    real = LocalKms.destroy_kek

    def down(kms: LocalKms, owner: Owner) -> Destroyed:
        if kms.name == away:
            raise KeyServiceDownError("does not answer")
        return real(kms, owner)

    file = keyring_file_of(moved, state, RANDOM)
    with monkeypatch.context() as patch:
        patch.setattr(LocalKms, "destroy_kek", down)
        with pytest.raises(KeyServiceDownError):
            shred(file, moved, ACME, NOW)
    living = [entry for entry in file.read() if entry.slot.owner == ACME]
    assert all(entry.state is not KeyState.DESTROYED and moved.unwrap(entry.slot, entry.wrapped) for entry in living)
    assert "(own)" in shred(file, moved, ACME, NOW).destroyed.operation, "and needs no other word the second time"


def test_no_receipt_for_a_kek_that_is_elsewhere(file: KeyringFile, services: ServiceSet, tmp_path: Path) -> None:
    """As after a changed region, mount or token in gateway.yaml: the service answers, and has no such KEK."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    wrong = ServiceSet(LocalKms(tmp_path / "elsewhere", RANDOM(32), RANDOM))
    signer, before = signing_key(file), file.read()
    with pytest.raises(KeysError, match=r"no key of acme/in opens.*nothing was destroyed.*--kek-is-gone"):
        shred(file, wrong, ACME, NOW)
    assert file.read() == before
    receipt = shred(file, wrong, ACME, NOW, kek_is_gone=True)
    assert receipt.destroyed == Destroyed("found no KEK of acme/in in kek.json")
    public = base64.b64encode(signer.public_key().public_bytes_raw()).decode()
    assert not verified(receipt.signed(signer), public).destroyed.found


def test_a_service_that_is_away_is_not_taken_for_a_kek_that_is_gone(
    file: KeyringFile, services: ServiceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(_self: LocalKms, _slot: Slot, _wrapped: object) -> bytes:
        raise KeyServiceDownError("does not answer")

    monkeypatch.setattr(LocalKms, "unwrap", down)
    with pytest.raises(KeyServiceDownError):
        shred(file, services, ACME, NOW)


def test_a_key_that_opens_is_enough_beside_one_that_was_changed(file: KeyringFile, services: ServiceSet) -> None:
    def broken(entries: Entries) -> Entries:
        (first, *_) = (entry for entry in entries if entry.slot.owner == ACME)
        bad = replace(first, wrapped=replace(first.wrapped, sealed=first.wrapped.sealed[::-1]))
        return tuple(bad if entry is first else entry for entry in entries)

    file.change(broken)
    assert shred(file, services, ACME, NOW).destroyed.found


def test_a_new_kek_is_not_made_for_who_was_shredded(file: KeyringFile, services: ServiceSet) -> None:
    shred(file, services, ACME, NOW)
    assert ACME not in rewrap(file, services, Selection()).versions
    with pytest.raises(KeysError, match="no key of that tenant"):
        rewrap(file, services, Selection(tenant="acme", region="in"))
    with pytest.raises(KeysError, match="no KEK of acme/in"):
        services.wrap(DATA, RANDOM(32))


def test_whom_it_concerns(file: KeyringFile) -> None:
    document = file.document()
    assert to_shred(document, "acme", None) == [ACME, ABROAD]
    assert to_shred(document, "acme", "jp") == [ABROAD]
    assert to_shred(document, "other", None) == [OTHER]
    for tenant, region in (("nobody", None), ("acme", "au"), ("wxgate.keyring", None)):
        with pytest.raises(KeysError, match="there is no key of tenant"):
            to_shred(document, tenant, region)


# --- receipts


@pytest.fixture
def receipt(file: KeyringFile, services: ServiceSet) -> Receipt:
    return shred(file, services, ACME, NOW)


@pytest.fixture
def public(file: KeyringFile) -> str:
    return base64.b64encode(signing_key(file).public_key().public_bytes_raw()).decode()


def test_a_receipt_is_verified_with_the_public_key_alone(file: KeyringFile, receipt: Receipt, public: str) -> None:
    found = verified(receipt.signed(signing_key(file)), public)
    assert (found.owner, found.at, found.destroyed) == (receipt.owner, receipt.at, receipt.destroyed)
    assert set(found.key_ids) == set(receipt.key_ids)
    assert verified(receipt.signed(signing_key(file)), public + "\n") == found


def test_the_key_outlives_a_change_of_kek(file: KeyringFile, services: ServiceSet, public: str) -> None:
    rewrap(file, services, Selection())
    assert base64.b64encode(signing_key(file).public_key().public_bytes_raw()).decode() == public


@pytest.mark.parametrize("name", ["tenant", "region", "at", "service", "operation", "effective", "key_ids"])
def test_a_changed_receipt_is_refused(file: KeyringFile, receipt: Receipt, public: str, name: str) -> None:
    members = json.loads(receipt.signed(signing_key(file)))
    members[name] = {
        "tenant": "other",
        "region": "jp",
        "at": 1,
        "service": "aws",
        "operation": "nothing",
        "effective": 5,
        "key_ids": [],
    }[name]
    with pytest.raises(ReceiptError, match="signature is wrong"):
        verified(json.dumps(members).encode(), public)


def test_a_receipt_that_brings_its_own_key_is_refused(receipt: Receipt, public: str) -> None:
    forged = receipt.signed(Ed25519PrivateKey.generate())
    with pytest.raises(ReceiptError, match="another key"):
        verified(forged, public)
    members = json.loads(forged) | {"public_key": public}
    with pytest.raises(ReceiptError, match="signature is wrong"):
        verified(json.dumps(members).encode(), public)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"version": 1}'])
def test_what_is_no_receipt_is_refused(data: bytes, public: str) -> None:
    with pytest.raises(ReceiptError, match="not a receipt"):
        verified(data, public)


@pytest.mark.parametrize("key", ["", "abc", "A" * 44, "=" * 44])
def test_what_is_no_key_is_refused(file: KeyringFile, receipt: Receipt, key: str) -> None:
    with pytest.raises(ReceiptError):
        verified(receipt.signed(signing_key(file)), key)


def test_the_effective_time_is_told() -> None:
    key = Ed25519PrivateKey.generate()
    later = Receipt(ACME, int(NOW), "aws", Destroyed("ScheduleKeyDeletion", int(NOW) + 7 * 86400), (bytes(16),))
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    assert verified(later.signed(key), public) == later


def test_states_that_are_disabled_are_shredded_too(file: KeyringFile, services: ServiceSet) -> None:
    ids = {entry.id for entry in file.read() if entry.slot.owner == ACME}
    file.change(lambda entries: transitions.disabled(entries, ids, NOW))
    assert set(shred(file, services, ACME, NOW).key_ids) == ids


async def test_a_running_process_lets_go_of_the_kek(bench: Bench) -> None:
    running = LocalKms(bench.state, bench.unlock, RANDOM)
    keys = open_keyring_in_use(ServiceSet(running), bench.state, KeyLimits(), bench.budget, bench.clock, RANDOM)
    await keys.active(*DATA)
    shred(bench.file, bench.services, ACME, NOW)
    await keys.tick()
    assert {owner for owner, _ in running._keks} & {ACME, OTHER} == {OTHER}
    keys.close()
    assert not running._keks
