"""Data keys: the derivations against published vectors, the commitment, and that a key gives out nothing of itself."""

import copy
import hashlib
import hmac
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.data_key import DataKey, KeyMismatchError, Purpose, hkdf, key_id_of

_VECTORS = Path(__file__).parents[1] / "vectors" / "crypto"
DEK_A, DEK_B = bytes(range(32)), bytes(range(32, 64))


def _load(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((_VECTORS / name).read_text())["vectors"]
    return vectors


def _params(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def _slow_hkdf(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 from `hmac` alone."""
    prk, block, out = hmac.digest(salt or bytes(32), key, "sha256"), b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([counter]), "sha256")
        out += block
    return out[:length]


@pytest.mark.parametrize(
    "vector", _params([v for v in _load("hkdf-sha256.json") if v["expected"]["result"] == "valid"])
)
def test_hkdf_vectors(vector: dict[str, Any]) -> None:
    inputs = vector["inputs"]
    key, salt, info = (bytes.fromhex(inputs[f"{name}_hex"]) for name in ("ikm", "salt", "info"))
    expected = bytes.fromhex(vector["expected"]["okm_hex"])
    assert _slow_hkdf(key, salt, info, inputs["length"]) == expected
    if not salt:  # the only kind wxgate uses
        assert hkdf(key, info, inputs["length"]) == expected


def test_some_hkdf_vectors_have_no_salt() -> None:
    assert sum(not vector["inputs"]["salt_hex"] for vector in _load("hkdf-sha256.json")) >= 3


@settings(deadline=None)
@given(key=st.binary(min_size=1, max_size=80), info=st.binary(max_size=80), length=st.integers(1, 8160))
def test_hkdf_is_rfc_5869_without_salt(key: bytes, info: bytes, length: int) -> None:
    assert hkdf(key, info, length) == _slow_hkdf(key, b"", info, length)


def test_hkdf_refuses_more_than_it_can_give() -> None:
    with pytest.raises(ValueError, match="8160"):
        hkdf(DEK_A, b"", 8161)


@pytest.mark.parametrize("vector", _params(_load("aes-256-siv.json")))
def test_siv_vectors_seal_and_open(vector: dict[str, Any]) -> None:
    """The library under `seal_equal`, with every list of components that is published."""
    inputs, output = vector["inputs"], bytes.fromhex(vector["expected"]["output_hex"])
    components = [bytes.fromhex(text) for text in inputs["associated_data_hex"]]
    cipher, plaintext = AESSIV(bytes.fromhex(inputs["key_hex"])), bytes.fromhex(inputs["plaintext_hex"])
    assert cipher.encrypt(plaintext, components) == output
    assert cipher.decrypt(output, components) == plaintext


def _with_siv(key: bytes) -> DataKey:
    """A data key whose SIV key is `key`, to put a published vector through `seal_equal`."""
    data_key = DataKey(DEK_A, Purpose.LOOKUP)
    data_key.__dict__["_siv"] = AESSIV(key)
    return data_key


def _one_component(name: str) -> list[Any]:
    return _params([vector for vector in _load(name) if len(vector["inputs"]["associated_data_hex"]) == 1])


@pytest.mark.parametrize("vector", _one_component("aes-256-siv.json"))
def test_seal_equal_passes_the_aad_as_one_component(vector: dict[str, Any]) -> None:
    inputs, output = vector["inputs"], bytes.fromhex(vector["expected"]["output_hex"])
    key = _with_siv(bytes.fromhex(inputs["key_hex"]))
    plaintext, aad = bytes.fromhex(inputs["plaintext_hex"]), bytes.fromhex(inputs["associated_data_hex"][0])
    assert key.seal_equal(plaintext, aad) == output
    assert key.open_equal(output, aad) == plaintext


@pytest.mark.parametrize("vector", _one_component("aes-256-siv-refusals.json"))
def test_open_equal_refuses_what_must_not_open(vector: dict[str, Any]) -> None:
    inputs = vector["inputs"]
    key = _with_siv(bytes.fromhex(inputs["key_hex"]))
    with pytest.raises(InvalidTag):
        key.open_equal(bytes.fromhex(inputs["input_hex"]), bytes.fromhex(inputs["associated_data_hex"][0]))


@pytest.mark.parametrize("vector", _params(_load("aes-256-siv-refusals.json")))
def test_siv_refusals_of_the_library(vector: dict[str, Any]) -> None:
    inputs = vector["inputs"]
    components = [bytes.fromhex(text) for text in inputs["associated_data_hex"]]
    with pytest.raises((InvalidTag, ValueError)):
        AESSIV(bytes.fromhex(inputs["key_hex"])).decrypt(bytes.fromhex(inputs["input_hex"]), components)


@pytest.mark.parametrize("size", range(16))
def test_open_equal_refuses_less_than_a_siv(size: int) -> None:
    with pytest.raises(InvalidTag):
        DataKey(DEK_A, Purpose.LOOKUP).open_equal(bytes(size), b"")


def test_sub_keys_are_the_derivations_of_the_specification() -> None:
    key = DataKey(DEK_A, Purpose.LOOKUP)
    assert key.id == _slow_hkdf(DEK_A, b"", b"wxgate/1 key id", 16)
    assert key.seal_equal(b"text", b"aad") == AESSIV(_slow_hkdf(DEK_A, b"", b"wxgate/1 aes-siv", 64)).encrypt(
        b"text", [b"aad"]
    )
    delivery = hmac.digest(_slow_hkdf(DEK_A, b"", b"wxgate/1 delivery id", 32), b"message", hashlib.sha256).hex()
    assert key.delivery_id(b"message") == delivery[:32]


def test_delivery_ids_differ_by_message_and_key() -> None:
    one, other = DataKey(DEK_A, Purpose.LOOKUP), DataKey(DEK_B, Purpose.LOOKUP)
    assert one.delivery_id(b"a") == one.delivery_id(b"a")
    assert len({one.delivery_id(b"a"), one.delivery_id(b"b"), other.delivery_id(b"a")}) == 3


@pytest.mark.parametrize(
    "vector", _params([v for v in _load("key-commitment.json") if v["kind"] == "xaes256gcm_two_deks"])
)
def test_what_opens_under_two_deks_is_told_apart_by_the_commitment(vector: dict[str, Any]) -> None:
    """GCM accepts both DEKs (shown first), so the key id has to refuse: a swapped keyring entry never becomes a key."""
    nonce, aad, ciphertext, tag = (
        bytes.fromhex(vector["inputs"][f"{name}_hex"]) for name in ("nonce", "aad", "ciphertext", "tag")
    )
    entries = vector["expected"]["opens_under"]
    for entry in entries:
        key = DataKey(bytes.fromhex(entry["dek_hex"]), Purpose.DATA, bytes.fromhex(entry["key_id_hex"]))
        assert key.open(nonce, ciphertext + tag, aad).hex() == entry["plaintext_hex"]
    for entry, other in (entries, entries[::-1]):
        with pytest.raises(KeyMismatchError):
            DataKey(bytes.fromhex(entry["dek_hex"]), Purpose.DATA, bytes.fromhex(other["key_id_hex"]))


@pytest.mark.parametrize("place", range(16))
def test_every_byte_of_the_key_id_counts(place: int) -> None:
    wrong = bytearray(key_id_of(DEK_A))
    wrong[place] ^= 0x80
    with pytest.raises(KeyMismatchError, match=wrong.hex()):
        DataKey(DEK_A, Purpose.DATA, bytes(wrong))


@pytest.mark.parametrize("expected", [b"", key_id_of(DEK_A)[:15], key_id_of(DEK_A) + b"\0"])
def test_a_key_id_of_another_length_is_a_mismatch(expected: bytes) -> None:
    with pytest.raises(KeyMismatchError):
        DataKey(DEK_A, Purpose.DATA, expected)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_dek_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(bytes(size), Purpose.DATA)


def test_a_key_shows_only_its_id_and_purpose() -> None:
    key = DataKey(DEK_A, Purpose.DATA)
    key.seal(bytes(24), b"", b"")
    assert repr(key) == str(key) == f"DataKey({key.id.hex()}, data)"


def test_a_mismatch_shows_only_the_expected_id() -> None:
    with pytest.raises(KeyMismatchError) as raised:
        DataKey(DEK_A, Purpose.DATA, bytes(16))
    assert DEK_A.hex() not in str(raised.value)
    assert key_id_of(DEK_A).hex() not in str(raised.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_key_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(DataKey(DEK_A, Purpose.DATA), protocol)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_a_key_cannot_be_copied(copier: Any) -> None:
    with pytest.raises(TypeError, match="pickled"):
        copier(DataKey(DEK_A, Purpose.DATA))


@settings(deadline=None)
@given(
    dek=st.binary(min_size=32, max_size=32),
    nonce=st.binary(min_size=24, max_size=24),
    plaintext=st.binary(max_size=200),
    aad=st.binary(max_size=60),
)
def test_both_ways_open_what_they_sealed(dek: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> None:
    key = DataKey(dek, Purpose.DATA)
    assert key.open(nonce, key.seal(nonce, plaintext, aad), aad) == plaintext
    assert key.open_equal(key.seal_equal(plaintext, aad), aad) == plaintext
    with pytest.raises(InvalidTag):
        key.open(nonce, key.seal(nonce, plaintext, aad), aad + b"\0")
    with pytest.raises(InvalidTag):
        key.open_equal(key.seal_equal(plaintext, aad), aad + b"\0")
