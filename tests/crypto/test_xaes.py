"""XAES-256-GCM: every published vector, the accumulated test, and what must not open."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.xaes import NONCE_SIZE, TAG_SIZE, Xaes256Gcm

_FILE = Path(__file__).parents[1] / "vectors" / "crypto" / "xaes-256-gcm.json"
_VECTORS: list[dict[str, Any]] = json.loads(_FILE.read_text())["vectors"]


def _of(kind: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in _VECTORS if vector["kind"] == kind]


def _bytes(vector: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(vector["inputs"][f"{name}_hex"]) for name in names]


def test_no_vector_is_of_an_unknown_kind() -> None:
    known = {"xaes256gcm_seal_and_open", "xaes256gcm_accumulated", "xaes256gcm_open"}
    assert {vector["kind"] for vector in _VECTORS} == known


@pytest.mark.parametrize("vector", _of("xaes256gcm_seal_and_open"))
def test_published_vectors_seal_and_open(vector: dict[str, Any]) -> None:
    key, nonce, plaintext, aad = _bytes(vector, "key", "nonce", "plaintext", "aad")
    expected = vector["expected"]
    sealed = bytes.fromhex(expected["ciphertext_hex"] + expected["tag_hex"])
    cipher = Xaes256Gcm(key)
    assert cipher.derived_key(nonce).hex() == expected["Kx_hex"]
    assert cipher.encrypt(nonce, plaintext, aad) == sealed
    assert cipher.decrypt(nonce, sealed, aad) == plaintext


@pytest.mark.parametrize("vector", _of("xaes256gcm_open"))
def test_refused_vectors_do_not_open(vector: dict[str, Any]) -> None:
    key, nonce, ciphertext, tag, aad = _bytes(vector, "key", "nonce", "ciphertext", "tag", "aad")
    with pytest.raises(ValueError if len(nonce) != NONCE_SIZE else InvalidTag):
        Xaes256Gcm(key).decrypt(nonce, ciphertext + tag, aad)


@pytest.mark.parametrize("vector", _of("xaes256gcm_accumulated"))
def test_the_accumulated_test_of_the_specification(vector: dict[str, Any]) -> None:
    expected = vector["expected"]
    stream = memoryview(hashlib.shake_128(b"").digest(expected["generator_bytes_read"]))
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        position += count
        return bytes(stream[position - count : position])

    accumulator = hashlib.shake_128()
    for _ in range(vector["inputs"]["iterations"]):
        cipher, nonce = Xaes256Gcm(take(32)), take(24)
        plaintext = take(take(1)[0])
        aad = take(take(1)[0])
        sealed = cipher.encrypt(nonce, plaintext, aad)
        assert cipher.decrypt(nonce, sealed, aad) == plaintext
        accumulator.update(sealed)
    assert position == len(stream)
    assert accumulator.hexdigest(32) == expected["accumulator_output_32_bytes_hex"]


@settings(deadline=None)
@given(key=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=24, max_size=24))
def test_the_derived_key_is_sp_800_108_with_cmac(key: bytes, nonce: bytes) -> None:
    """A second way to Kx, in another library: covers both values of the bit the doubling folds in."""
    kdf = KBKDFCMAC(AES, Mode.CounterMode, 32, 2, None, CounterLocation.BeforeFixed, None, None, b"X\0" + nonce[:12])
    assert Xaes256Gcm(key).derived_key(nonce) == kdf.derive(key)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Xaes256Gcm(bytes(size))


@pytest.mark.parametrize("size", [0, 12, 23, 25, 36])
def test_a_nonce_of_another_length_is_refused_both_ways(size: int) -> None:
    cipher = Xaes256Gcm(bytes(32))
    with pytest.raises(ValueError, match="24 bytes"):
        cipher.encrypt(bytes(size), b"", b"")
    with pytest.raises(ValueError, match="24 bytes"):
        cipher.decrypt(bytes(size), bytes(TAG_SIZE), b"")


def test_both_halves_of_the_nonce_matter() -> None:
    cipher, nonce = Xaes256Gcm(bytes(range(32))), bytes(range(24))
    sealed = cipher.encrypt(nonce, b"text", b"aad")
    for place in range(NONCE_SIZE):
        other = nonce[:place] + bytes([nonce[place] ^ 1]) + nonce[place + 1 :]
        with pytest.raises(InvalidTag):
            cipher.decrypt(other, sealed, b"aad")
