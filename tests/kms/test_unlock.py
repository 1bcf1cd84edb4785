"""What opens the embedded key service: which unlock keys are taken, and passphrases stretched as the file says."""

import base64
import json
import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from proxy.kms.local import LocalKms
from proxy.kms.service import KeysError
from proxy.kms.unlock import Passphrase, Stretching, UnlockKey, unlock_key
from tests.kms.conftest import ACME, DATA, OTHER

WORDS = b"cleft cam synod lacy yr wok"
RANDOM = secrets.token_bytes


def test_the_unlock_key_is_taken_raw_in_hex_or_in_base64() -> None:
    key = bytes(range(1, 33))
    for form in (key, key.hex().encode(), key.hex().upper().encode() + b"\n", b" " + base64.b64encode(key) + b"\r\n"):
        assert unlock_key(form) == key
    assert unlock_key(bytes(range(9, 41))) == bytes(range(9, 41))  # white space inside a raw key stays


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"",
            bytes(range(31)),
            bytes(range(33)),
            bytes(range(16)).hex().encode(),
            b"correct horse battery staple 123",
        ),
        *(bytes(32), b"00" * 32, base64.b64encode(bytes(range(31))), bytes(range(33)).hex().encode(), b"secret"),
        *(base64.b64encode(bytes(32)), base64.b64encode(b"correct horse battery staple 123")),
    ],
)
def test_other_unlock_keys_are_refused_without_being_repeated(value: bytes) -> None:
    with pytest.raises(KeysError, match="openssl rand") as caught:
        unlock_key(value)
    assert not value or value.decode("latin-1") not in str(caught.value)


def test_argon2id_gives_the_published_answer() -> None:
    """RFC 9106 section 5.3: the function that stretches is the one the document names."""
    stretch = Argon2id(
        salt=bytes([2] * 16),
        length=32,
        iterations=3,
        lanes=4,
        memory_cost=32,
        ad=bytes([4] * 12),
        secret=bytes([3] * 8),
    )
    assert stretch.derive(bytes([1] * 32)).hex() == "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"


def test_a_passphrase_opens_what_it_sealed_and_no_other_does(state: Path) -> None:
    kms = LocalKms(state, Passphrase(WORDS), RANDOM)
    kms.create_kek(ACME)
    dek = RANDOM(32)
    wrapped = kms.wrap(DATA, dek)
    kept = json.loads((state / "kek.json").read_bytes())
    assert {name: kept["unlock"][name] for name in ("kind", "iterations", "memory_kib", "lanes")} == {
        "kind": "argon2id",
        "iterations": 3,
        "memory_kib": 65536,
        "lanes": 4,
    }
    assert len(base64.b64decode(kept["unlock"]["salt"])) == 16
    again = LocalKms(state, Passphrase(b" " + WORDS + b"\n"), RANDOM)
    assert again.unwrap(DATA, wrapped) == dek
    again.create_kek(OTHER)
    assert json.loads((state / "kek.json").read_bytes())["unlock"] == kept["unlock"]
    with pytest.raises(KeysError, match="unlock key is another one"):
        LocalKms(state, Passphrase(WORDS + b"s"), RANDOM).unwrap(DATA, wrapped)


def test_the_document_suffices_to_stretch(state: Path) -> None:
    salt = RANDOM(16)
    stretch = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65536)
    assert Passphrase(WORDS).secret(Stretching(salt)) == stretch.derive(WORDS)


def test_a_changed_salt_or_parameter_opens_nothing(state: Path) -> None:
    LocalKms(state, Passphrase(WORDS), RANDOM).create_kek(ACME)
    path = state / "kek.json"
    kept = json.loads(path.read_bytes())
    for change in ({"salt": base64.b64encode(bytes(16)).decode()}, {"iterations": 4}, {"lanes": 5}):
        path.write_text(json.dumps({**kept, "unlock": {**kept["unlock"], **change}}))
        with pytest.raises(KeysError, match="does not open"):
            LocalKms(state, Passphrase(WORDS), RANDOM).check()


@pytest.mark.parametrize(
    "change",
    [
        *({"salt": ""}, {"salt": "AAAA"}, {"iterations": 2}, {"iterations": 65}, {"memory_kib": 65535}),
        *({"memory_kib": 1 << 30}, {"lanes": 3}, {"lanes": 65}, {"kind": "argon2i"}, {"kind": "key"}, {"more": 1}),
    ],
)
def test_parameters_that_are_weak_or_without_end_are_refused_unused(state: Path, change: dict[str, object]) -> None:
    LocalKms(state, Passphrase(WORDS), RANDOM).create_kek(ACME)
    path = state / "kek.json"
    kept = json.loads(path.read_bytes())
    path.write_text(json.dumps({**kept, "unlock": {**kept["unlock"], **change}}))
    with pytest.raises(KeysError, match="damaged"):
        LocalKms(state, Passphrase(WORDS), RANDOM).check()


def test_a_passphrase_and_an_unlock_key_do_not_stand_for_each_other(state: Path, tmp_path: Path) -> None:
    LocalKms(state, Passphrase(WORDS), RANDOM).create_kek(ACME)
    with pytest.raises(KeysError, match="sealed under a passphrase"):
        LocalKms(state, RANDOM(32), RANDOM).create_kek(OTHER)
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    LocalKms(other, RANDOM(32), RANDOM).create_kek(ACME)
    with pytest.raises(KeysError, match="sealed under an unlock key"):
        LocalKms(other, Passphrase(WORDS), RANDOM).create_kek(OTHER)


@pytest.mark.parametrize("value", [b"", b"correct horse", b" " * 40, b"nineteen characters"])
def test_a_short_passphrase_is_refused_without_being_repeated(value: bytes) -> None:
    with pytest.raises(KeysError, match="by dice") as caught:
        Passphrase(value)
    assert not value.strip() or value.decode() not in str(caught.value)


def test_no_repr_shows_what_unlocks() -> None:
    passphrase, key = Passphrase(WORDS), UnlockKey(RANDOM(32))
    passphrase.secret(Stretching(RANDOM(16)))
    assert (repr(passphrase), str(passphrase), repr(key), str(key)) == ("Passphrase",) * 2 + ("UnlockKey",) * 2
