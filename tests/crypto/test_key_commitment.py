"""A ciphertext made to pass under two keys: the cipher takes it, the key id does not; and swapped DEKs."""

import base64
import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.data_key import DataKey, KeyMismatchError, Purpose, hkdf
from proxy.crypto.field_token import Scope, TokenError, open_token, parse
from proxy.crypto.xaes import Xaes256Gcm
from proxy.kms.local import LocalKms
from proxy.kms.service import Slot
from proxy.ports import Owner
from tests.crypto.ghash import collide, tag

DEKS = (bytes(range(32)), bytes(range(32, 64)))
SCOPE = Scope("acme", "cn", "follower.message", ("oFollower",))
NONCE = bytes(range(24))
AAD = SCOPE.aad("wg1.")


def derived(dek: bytes) -> bytes:
    """The AES-256-GCM key under which a token with NONCE stands."""
    return Xaes256Gcm(hkdf(dek, b"wxgate/1 xaes-256-gcm", 32)).derived_key(NONCE)


@settings(deadline=None, max_examples=20)
@given(key=st.binary(min_size=32, max_size=32), aad=st.binary(max_size=40), text=st.binary(max_size=40))
def test_the_test_s_own_ghash_is_gcm_s(key: bytes, aad: bytes, text: bytes) -> None:
    sealed = AESGCM(key).encrypt(NONCE[12:], text, aad)
    assert tag(key, NONCE[12:], aad, sealed[:-16]) == sealed[-16:]


def collision(free: int = 2) -> bytes:
    """Ciphertext and tag that open under both DEKs: blocks 0 and 1 are a text of the first."""
    words = b"What the first key's owner sees!" + bytes(32)
    start = DataKey(DEKS[0], Purpose.DATA).seal(NONCE, words, AAD)[:-16]
    keys = derived(DEKS[0]), derived(DEKS[1])
    ciphertext = collide(keys, NONCE[12:], AAD, start, free)
    return ciphertext + tag(keys[0], NONCE[12:], AAD, ciphertext)


@pytest.mark.parametrize("free", [2, 3])
def test_a_ciphertext_that_opens_under_two_keys_is_refused(free: int) -> None:
    sealed = collision(free)
    keys = [DataKey(dek, Purpose.DATA) for dek in DEKS]
    opened = [key.open(NONCE, sealed, AAD) for key in keys]
    assert opened[0] != opened[1], "the cipher takes it under both, as different texts"
    assert opened[0].startswith(b"What the first key's owner sees!")
    for mine, other in (keys, keys[::-1]):
        token = "wg1." + base64.urlsafe_b64encode(mine.id + NONCE + sealed).rstrip(b"=").decode()
        with pytest.raises(TokenError):
            open_token(other, parse(token), SCOPE)


def test_the_other_key_never_gets_the_id_that_would_open_it() -> None:
    ids = [DataKey(dek, Purpose.DATA).id for dek in DEKS]
    for dek, other in ((DEKS[0], ids[1]), (DEKS[1], ids[0])):
        with pytest.raises(KeyMismatchError, match=other.hex()):
            DataKey(dek, Purpose.DATA, other)


def test_a_swapped_dek_stops_before_it_is_a_key(tmp_path: Path) -> None:
    """A key service that answers with another DEK than asked for, as a broken or bribed one could."""
    tmp_path.chmod(0o700)
    kms = LocalKms(tmp_path, secrets.token_bytes(32), secrets.token_bytes)
    slot = Slot(Owner("acme", "cn"), "default", Purpose.DATA)
    kms.create_kek(slot.owner)
    one, other = (kms.wrap(slot, dek) for dek in DEKS)
    assert kms.unwrap(slot, one) == DEKS[0]
    swapped = replace(one, sealed=other.sealed)
    with pytest.raises(Exception, match=one.key_id.hex()):
        kms.unwrap(slot, swapped)  # bound to the key id as associated data
    with pytest.raises(KeyMismatchError, match=one.key_id.hex()):
        DataKey(kms.unwrap(slot, other), slot.purpose, one.key_id)
