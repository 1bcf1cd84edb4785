"""The embedded key service: KEKs at rest, DEKs wrapped for one place only, and everything it refuses."""

import base64
import json
import secrets
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.crypto.data_key import Purpose, key_id_of
from proxy.kms.local import LocalKms
from proxy.kms.service import KeysError, Slot, Wrapped
from proxy.ports import Owner
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, OTHER


def document(state: Path) -> dict[str, Any]:
    return dict(json.loads((state / "kek.json").read_bytes()))


def new(kms: LocalKms, slot: Slot = DATA) -> tuple[bytes, Wrapped]:
    dek = secrets.token_bytes(32)
    return dek, kms.wrap(slot, dek)


def rewrite(state: Path, found: object) -> None:
    (state / "kek.json").write_bytes(found if isinstance(found, bytes) else json.dumps(found).encode())


def test_a_wrapped_dek_opens_again_in_this_and_another_process(kms: LocalKms, state: Path, unlock: bytes) -> None:
    dek, wrapped = new(kms)
    assert (wrapped.key_id, wrapped.service, wrapped.kek_version) == (key_id_of(dek), "local", 1)
    assert kms.unwrap(DATA, wrapped) == dek
    assert LocalKms(state, unlock, secrets.token_bytes).unwrap(DATA, wrapped) == dek
    assert LocalKms(state, unlock, secrets.token_bytes).wrap(DATA, dek).kek_version == 1
    assert kms.wrap(DATA, dek).sealed != wrapped.sealed


def test_create_kek_changes_nothing_when_called_again(kms: LocalKms, state: Path) -> None:
    before = (state / "kek.json").read_bytes()
    assert (kms.create_kek(ACME), (state / "kek.json").read_bytes()) == (1, before)
    assert {(kek["tenant"], kek["region"], kek["version"]) for kek in document(state)["keks"]} == {
        ("acme", "in", 1),
        ("other", "au", 1),
    }
    assert stat.S_IMODE((state / "kek.json").stat().st_mode) == 0o600


def test_new_deks_are_wrapped_under_the_newest_kek(kms: LocalKms, state: Path, unlock: bytes) -> None:
    dek, old = new(kms)
    found = document(state)
    kek = secrets.token_bytes(32)
    found["keks"].append({"tenant": "acme", "region": "in", "version": 12, "sealed": sealed_kek(kms, ACME, 12, kek)})
    rewrite(state, found)
    fresh = LocalKms(state, unlock, secrets.token_bytes)
    assert (new(fresh)[1].kek_version, fresh.create_kek(ACME)) == (12, 12)
    assert fresh.unwrap(DATA, old) == dek


def test_a_rotated_kek_opens_what_was_wrapped_before_and_wraps_what_is_new(
    kms: LocalKms, state: Path, unlock: bytes
) -> None:
    running = LocalKms(state, unlock, secrets.token_bytes)
    dek, old = new(running)
    assert (kms.rotate_kek(ACME), kms.create_kek(ACME), kms.create_kek(OTHER)) == (2, 2, 1)
    again = running.rewrap(DATA, old)  # another process sees the new version at once
    assert (again.kek_version, again.key_id, running.rewrap(DATA, again)) == (2, old.key_id, again)
    assert running.unwrap(DATA, again) == running.unwrap(DATA, old) == dek
    with pytest.raises(KeysError, match="no KEK of third/jp"):
        kms.rotate_kek(Owner("third", "jp"))


def test_a_destroyed_kek_is_gone_for_every_process_and_its_number_is_not_used_again(
    kms: LocalKms, state: Path, unlock: bytes
) -> None:
    running = LocalKms(state, unlock, secrets.token_bytes)
    kms.rotate_kek(ACME)
    _, wrapped = new(running)
    _, foreign = new(running, FOREIGN)
    receipt = kms.destroy_kek(ACME)
    assert (receipt.operation, receipt.effective) == ("removed version 1, 2 of acme/in from kek.json", None)
    assert {kek["sealed"] for kek in document(state)["keks"] if kek["tenant"] == "acme"} == {""}
    for refused in (
        lambda: running.unwrap(DATA, wrapped),
        lambda: running.rewrap(DATA, wrapped),
        lambda: new(running),
        lambda: running.rotate_kek(ACME),
    ):
        with pytest.raises(KeysError, match="of acme/in; restore the file unless it was destroyed on purpose"):
            refused()
    assert running.unwrap(FOREIGN, foreign)
    assert kms.destroy_kek(ACME) == receipt
    assert kms.create_kek(ACME) == 3
    with pytest.raises(KeysError, match="no KEK version 2 of acme/in"):
        running.unwrap(DATA, wrapped)
    never = kms.destroy_kek(Owner("third", "jp"))
    assert (never.operation, never.found, receipt.found) == ("found no KEK of third/jp in kek.json", False, True)


def sealed_kek(kms: LocalKms, owner: Owner, version: int, kek: bytes) -> str:
    aad = b"".join(
        len(item).to_bytes(2, "big") + item.encode()
        for item in ("wxgate/1 kek", owner.tenant, owner.region, str(version))
    )
    nonce = secrets.token_bytes(24)
    return base64.b64encode(nonce + kms._seal(None).encrypt(nonce, kek, aad)).decode()


@pytest.mark.parametrize(
    "slot",
    [
        LOOKUP,
        Slot(ACME, "agent", Purpose.DATA),
        Slot(OTHER, "follower", Purpose.DATA),
        Slot(Owner("acme", "au"), "follower", Purpose.DATA),
    ],
)
def test_a_wrapped_dek_opens_in_its_own_slot_only(kms: LocalKms, slot: Slot) -> None:
    kms.create_kek(slot.owner)
    _, wrapped = new(kms)
    with pytest.raises(KeysError, match=wrapped.key_id.hex()):
        kms.unwrap(slot, wrapped)


def test_a_moved_id_or_changed_bytes_do_not_open(kms: LocalKms) -> None:
    _, wrapped = new(kms)
    _, other = new(kms)
    flipped = wrapped.sealed[:-1] + bytes([wrapped.sealed[-1] ^ 1])
    for wrong in (
        replace(wrapped, key_id=other.key_id),
        replace(wrapped, sealed=other.sealed),
        *(replace(wrapped, sealed=sealed) for sealed in (flipped, b"", wrapped.sealed[:20], wrapped.sealed[:-1])),
    ):
        with pytest.raises(KeysError, match="does not open"):
            kms.unwrap(DATA, wrong)


def test_without_its_kek_nothing_is_wrapped_or_opened(state: Path, unlock: bytes, kms: LocalKms) -> None:
    _, wrapped = new(kms)
    (state / "kek.json").unlink()
    fresh = LocalKms(state, unlock, secrets.token_bytes)
    with pytest.raises(KeysError, match="no KEK of acme/in"):
        new(fresh)
    with pytest.raises(KeysError, match="no KEK version 1 of acme/in"):
        fresh.unwrap(DATA, wrapped)
    with pytest.raises(KeysError, match="no KEK version 7"):
        kms.unwrap(DATA, replace(wrapped, kek_version=7))


def test_a_kek_made_by_another_process_is_found(state: Path, unlock: bytes) -> None:
    running = LocalKms(state, unlock, secrets.token_bytes)
    running.create_kek(ACME)
    other = LocalKms(state, unlock, secrets.token_bytes)
    other.create_kek(OTHER)
    dek, wrapped = new(other, FOREIGN)
    assert running.unwrap(FOREIGN, wrapped) == dek


def test_another_unlock_key_opens_nothing_and_adds_nothing(kms: LocalKms, state: Path) -> None:
    before = (state / "kek.json").read_bytes()
    wrong = LocalKms(state, secrets.token_bytes(32), secrets.token_bytes)
    for use in (wrong.check, lambda: wrong.create_kek(Owner("third", "jp")), lambda: new(wrong)):
        with pytest.raises(KeysError, match=r"kek\.json.*unlock key is another one"):
            use()
    assert (state / "kek.json").read_bytes() == before


def test_a_file_of_format_1_opens_and_becomes_format_2_with_the_next_kek(
    kms: LocalKms, state: Path, unlock: bytes
) -> None:
    dek, wrapped = new(kms)
    rewrite(state, {"version": 1, "keks": document(state)["keks"]})
    old = LocalKms(state, unlock, secrets.token_bytes)
    assert old.unwrap(DATA, wrapped) == dek and document(state)["version"] == 1
    assert old.rotate_kek(ACME) == 2
    assert (document(state)["version"], document(state)["unlock"]) == (2, {"kind": "key"})
    assert old.unwrap(DATA, wrapped) == dek


def test_a_kek_moved_to_another_owner_or_version_is_refused(kms: LocalKms, state: Path) -> None:
    for member, value in (("tenant", "mallory"), ("region", "jp"), ("version", 2)):
        found = document(state)
        found["keks"][0][member] = value
        rewrite(state, found)
        with pytest.raises(KeysError, match="does not open"):
            kms.check()
        found["keks"][0] = dict(found["keks"][0])
        rewrite(state, {**found, "keks": found["keks"][1:]})
        kms.check()
        kms.create_kek(ACME)


def damaged(found: dict[str, Any]) -> list[object]:
    kek = found["keks"][0]
    wrong = [
        *({**kek, **change} for change in ({"tenant": ""}, {"region": "IN"}, {"version": 0}, {"version": True})),
        *({**kek, "sealed": sealed} for sealed in ("AAAA", "!", kek["sealed"][:-4], kek["sealed"] + "AAAA", None)),
        {**kek, "more": 1},
        {name: kek[name] for name in kek if name != "version"},
    ]
    return [
        *({**found, "keks": [row]} for row in wrong),
        *(
            {**found, "keks": [kek, kek]},
            {**found, "version": 3},
            {**found, "more": 1},
            {"version": True, "keks": []},
            {"version": 1},
            [],
            None,
        ),
        *({**found, "unlock": how} for how in ({}, {"kind": "none"}, None, "key", {"kind": "key", "salt": ""})),
        *(b"", b"{", b'{"version":1,"version":1,"keks":[]}'),
    ]


def test_a_damaged_file_is_refused_without_its_content(kms: LocalKms, state: Path) -> None:
    found = document(state)
    for wrong in damaged(found):
        rewrite(state, wrong)
        with pytest.raises(KeysError, match=r"kek\.json: damaged") as caught:
            kms.check()
        assert found["keks"][0]["sealed"][:20] not in str(caught.value)


def test_an_open_file_is_refused(kms: LocalKms, state: Path) -> None:
    (state / "kek.json").chmod(0o644)
    with pytest.raises(KeysError, match="mode 0644"):
        kms.check()


@pytest.mark.parametrize("owner", [Owner("", "in"), Owner("a/b", "in"), Owner("acme", "IN"), Owner("acme", "india")])
def test_an_owner_that_cannot_be_kept_is_refused(kms: LocalKms, state: Path, owner: Owner) -> None:
    before = (state / "kek.json").read_bytes()
    with pytest.raises(KeysError, match="check tenant and region"):
        kms.create_kek(owner)
    assert (state / "kek.json").read_bytes() == before


def test_nothing_secret_is_written_or_shown(kms: LocalKms, state: Path, unlock: bytes) -> None:
    dek, wrapped = new(kms)
    shown = (repr(kms) + str(kms) + repr(wrapped)).encode()
    at_rest = (state / "kek.json").read_bytes()
    for secret in (dek, unlock, kms.tag_key):
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert form not in shown and form not in at_rest
    assert wrapped.sealed.hex() not in repr(wrapped)


def test_the_document_suffices_to_open_a_wrapped_dek(kms: LocalKms, state: Path, unlock: bytes) -> None:
    """Written from docs/spec/keyring.md with nothing but `cryptography` and the C2SP text of XAES-256-GCM."""
    dek, wrapped = new(kms)

    def xaes_open(key: bytes, sealed: bytes, *items: str) -> bytes:
        def aes(block: bytes) -> bytes:
            return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)

        high = int.from_bytes(aes(bytes(16)), "big")
        k1 = (((high << 1) ^ (0x87 if high >> 127 else 0)) & (2**128 - 1)).to_bytes(16, "big")
        halves = [
            aes(bytes(a ^ b for a, b in zip(k1, b"\0" + bytes([i]) + b"X\0" + sealed[:12], strict=True)))
            for i in (1, 2)
        ]
        aad = b"".join(len(item.encode()).to_bytes(2, "big") + item.encode() for item in items)
        return AESGCM(halves[0] + halves[1]).decrypt(sealed[12:24], sealed[24:], aad)

    row = document(state)["keks"][0]
    seal = HKDF(SHA256(), 32, None, b"wxgate/1 kek seal").derive(unlock)
    kek = xaes_open(seal, base64.b64decode(row["sealed"]), "wxgate/1 kek", "acme", "in", "1")
    names = ("wxgate/1 wrapped dek", "acme", "in", wrapped.key_id.hex(), "data", "follower")
    assert xaes_open(kek, wrapped.sealed, *names) == dek


def test_keks_that_another_process_destroyed_are_let_go(kms: LocalKms, state: Path, unlock: bytes) -> None:
    other = LocalKms(state, unlock, secrets.token_bytes)
    assert not other.stale()  # it holds none
    other.check()
    assert not other.stale() and {owner for owner, _ in other._keks} == {ACME, OTHER}
    kms.destroy_kek(ACME)
    assert other.stale()
    other.refresh()
    assert not other.stale() and {owner for owner, _ in other._keks} == {OTHER}


def test_of_a_file_that_cannot_be_read_no_kek_is_kept(kms: LocalKms, state: Path) -> None:
    _, wrapped = new(kms)
    rewrite(state, b"{}")
    kms.refresh()
    assert not kms._keks and not kms.stale()
    with pytest.raises(KeysError, match="damaged"):
        kms.unwrap(DATA, wrapped)


def test_a_brought_kek_is_of_one_owner(kms: LocalKms) -> None:
    """Under two, shredding the one would leave what opens its backups with the other."""
    brought, abroad = secrets.token_bytes(32), Owner("acme", "jp")
    kms.import_kek(ACME, brought)
    for other in (OTHER, abroad):
        before = kms.kek_ids(other)
        with pytest.raises(KeysError, match="that of acme/in already"):
            kms.import_kek(other, brought)
        assert kms.kek_ids(other) == before
    kms.import_kek(abroad, secrets.token_bytes(32))
    assert kms.import_kek(ACME, brought) == 3, "the same tenant's again is a version of its own"
