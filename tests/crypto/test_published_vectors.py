"""Vectors of what wxgate takes from its library as it is: AES-256-GCM under XAES, and AES key wrap (RFC 3394, 5649).

XAES-256-GCM, AES-SIV, HKDF and FF1 have theirs in the tests of the modules that use them.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap,
    aes_key_wrap_with_padding,
)

_FOLDER = Path(__file__).parents[1] / "vectors" / "crypto"
_WRAP = {"aes_kw": aes_key_wrap, "aes_kwp": aes_key_wrap_with_padding}
_UNWRAP = {"aes_kw": aes_key_unwrap, "aes_kwp": aes_key_unwrap_with_padding}


def _load(name: str) -> list[Any]:
    vectors = json.loads((_FOLDER / name).read_text())["vectors"]
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def _bytes(members: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(members[f"{name}_hex"]) for name in names]


@pytest.mark.parametrize("vector", _load("aes-key-wrap.json"))
def test_aes_key_wrap(vector: dict[str, Any]) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    family = vector["kind"].split("_wrap")[0].split("_unwrap")[0]
    (kek,) = _bytes(inputs, "kek")
    if expected["result"] == "valid":
        (key,), (wrapped,) = _bytes(inputs, "key"), _bytes(expected, "wrapped")
        assert _WRAP[family](kek, key) == wrapped
        assert _UNWRAP[family](kek, wrapped) == key
        return
    with pytest.raises((InvalidUnwrap, ValueError)):
        _UNWRAP[family](kek, *_bytes(inputs, "wrapped"))


def test_the_files_hold_what_the_standards_print() -> None:
    names = {param.values[0]["name"] for param in _load("aes-key-wrap.json")}  # type: ignore[index]
    assert {"rfc3394-4.3", "rfc3394-4.5", "rfc3394-4.6"} <= names
    hkdf = {param.values[0]["name"] for param in _load("hkdf-sha256.json")}  # type: ignore[index]
    assert {f"rfc5869-case-{number}" for number in (1, 2, 3)} <= hkdf


@pytest.mark.parametrize("vector", _load("aes-256-gcm.json"))
def test_aes_256_gcm(vector: dict[str, Any]) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    key, nonce, aad = _bytes(inputs, "key", "nonce", "aad")
    if expected["result"] == "valid":
        (plaintext,), sealed = _bytes(inputs, "plaintext"), b"".join(_bytes(expected, "ciphertext", "tag"))
        if 8 <= len(nonce) <= 128:  # what the library takes; wxgate gives it 12 bytes
            assert AESGCM(key).encrypt(nonce, plaintext, aad) == sealed
            assert AESGCM(key).decrypt(nonce, sealed, aad) == plaintext
        return
    with pytest.raises((InvalidTag, ValueError)):
        AESGCM(key).decrypt(nonce, b"".join(_bytes(inputs, "ciphertext", "tag")), aad)
