"""Data keys (DEK) as handles: they seal and open, and never give out their bytes. Pure.

Every use derives its own sub-key from the 32 bytes of the DEK with HKDF-SHA-256 (RFC 5869). The key id is derived the
same way, so it commits to the key: a DEK that does not match its id is refused before anything is opened with it.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Callable
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.crypto.ff1 import Alphabet, Ff1
from proxy.crypto.secret_bytes import SecretBytes
from proxy.crypto.xaes import Xaes256Gcm

DEK_SIZE = 32
KEY_ID_SIZE = 16
# Of customer-brought keys.
BROUGHT_KEY_ID_SIZE = 32


class Purpose(enum.Enum):
    """DATA keys are rotated by age and budget. LOOKUP keys (deterministic tokens, indexes) never are: a new one would
    split equal values in two."""

    __hash__ = object.__hash__  # members are single; Enum's own hash is computed in Python each time

    DATA = "data"
    LOOKUP = "lookup"


class KeyMismatchError(Exception):
    """A DEK is not the one its key id commits to: a swapped or damaged keyring entry."""


class PurposeError(Exception):
    """A DATA key was asked for a lookup value. It is rotated, and the value would not be found again."""


def hkdf(key: bytes, info: bytes, length: int) -> SecretBytes:
    """HKDF-SHA-256 with empty salt."""
    return SecretBytes(HKDF(SHA256(), length, None, info).derive(key))


def key_id_of(dek: bytes, size: int = KEY_ID_SIZE) -> bytes:
    """The key id of a DEK, which is also the commitment to it: 16 bytes, or 32 with customer-brought keys."""
    return bytes(hkdf(dek, b"wxgate/1 key id", size))


class DataKey:
    """A usable DEK. `str` and `repr` show its id and purpose only, `vars` names and no key bytes."""

    def __init__(
        self,
        dek: bytes,
        purpose: Purpose,
        expected_id: bytes | None = None,
        spend: Callable[[int], None] | None = None,
    ) -> None:
        """`dek`: 32 bytes. `expected_id`: of 16 or 32 bytes; None: nothing to compare, and its id of 16. `spend`: told
        the bytes of every value before it is sealed with a fresh nonce; what it raises stops that.

        ValueError for another length of `dek`, KeyMismatchError if its id is not `expected_id`.
        """
        if len(dek) != DEK_SIZE:
            raise ValueError("a DEK has 32 bytes")
        brought = expected_id is not None and len(expected_id) == BROUGHT_KEY_ID_SIZE
        self.id = key_id_of(dek, BROUGHT_KEY_ID_SIZE if brought else KEY_ID_SIZE)
        self.purpose = purpose
        if expected_id is not None and not hmac.compare_digest(self.id, expected_id):
            raise KeyMismatchError(f"a data key does not match key id {expected_id.hex()}")
        self._dek = SecretBytes(dek)
        self._spend = spend

    def __repr__(self) -> str:
        return f"DataKey({self.id.hex()}, {self.purpose.value})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a data key cannot be pickled")

    def metered(self, spend: Callable[[int], None]) -> DataKey:
        """The same key with its uses told to `spend`."""
        return DataKey(self._dek, self.purpose, self.id, spend)

    @cached_property
    def _xaes(self) -> Xaes256Gcm:
        return Xaes256Gcm(hkdf(self._dek, b"wxgate/1 xaes-256-gcm", 32))

    @cached_property
    def _siv(self) -> AESSIV:
        return AESSIV(hkdf(self._dek, b"wxgate/1 aes-siv", 64))

    @cached_property
    def _delivery_mac(self) -> HMAC:
        return HMAC(hkdf(self._dek, b"wxgate/1 delivery id", 32), SHA256())

    @cached_property
    def _ff1(self) -> Ff1:
        return Ff1(self._lookup_key(b"wxgate/1 ff1"))

    @cached_property
    def _index_key(self) -> SecretBytes:
        return self._lookup_key(b"wxgate/1 index")

    @cached_property
    def _hash_key(self) -> SecretBytes:
        return self._lookup_key(b"wxgate/1 hash")

    def _lookup_key(self, info: bytes) -> SecretBytes:
        if self.purpose is not Purpose.LOOKUP:
            raise PurposeError(f"data key {self.id.hex()} is no lookup key; take the lookup key of the same group")
        return hkdf(self._dek, info, 32)

    def seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """Randomised: ciphertext and tag under a fresh 24-byte `nonce`. Raises what `spend` raises."""
        if self._spend is not None:
            self._spend(len(plaintext))
        return self._xaes.encrypt(nonce, plaintext, aad)

    def open(self, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
        """Undoes `seal`. Raises InvalidTag."""
        return self._xaes.decrypt(nonce, ciphertext, aad)

    def seal_equal(self, plaintext: bytes, aad: bytes) -> bytes:
        """Deterministic, equal in and equal out: SIV and ciphertext (RFC 5297, AEAD_AES_SIV_CMAC_512)."""
        return self._siv.encrypt(plaintext, [aad])

    def open_equal(self, sealed: bytes, aad: bytes) -> bytes:
        """Undoes `seal_equal`. Raises InvalidTag."""
        if len(sealed) < 16:
            raise InvalidTag
        return self._siv.decrypt(sealed, [aad])

    def delivery_id(self, message_key: bytes) -> str:
        """A stable public name of a message that tells nothing about it: 32 hex digits of an HMAC-SHA-256."""
        mac = self._delivery_mac.copy()  # making one anew takes longer than all the rest
        mac.update(message_key)
        return mac.finalize()[:16].hex()

    def index_mac(self, data: bytes) -> bytes:
        """The 32 bytes a blind index is cut from. Raises PurposeError for a DATA key, as do all below."""
        return hmac.digest(self._index_key, data, "sha256")

    def hash_mac(self, data: bytes) -> bytes:
        """The 32 bytes of a keyed hash."""
        return hmac.digest(self._hash_key, data, "sha256")

    def ff1_encrypt(self, alphabet: Alphabet, text: str, tweak: bytes) -> str:
        """FF1, not authenticated. ValueError for text that does not suit `alphabet`."""
        return self._ff1.encrypt(alphabet, text, tweak)

    def ff1_decrypt(self, alphabet: Alphabet, text: str, tweak: bytes) -> str:
        """Undoes `ff1_encrypt`; under another key or tweak it gives another text and no error."""
        return self._ff1.decrypt(alphabet, text, tweak)
