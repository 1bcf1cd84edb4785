"""XAES-256-GCM: AES-256-GCM with a 192-bit nonce (C2SP specification c2sp.org/XAES-256-GCM). Pure.

The long nonce makes random nonces safe for 2^80 messages under one key. Not key-committing: `data_key` adds that.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.crypto.secret_bytes import SecretBytes

KEY_SIZE = 32
NONCE_SIZE = 24
TAG_SIZE = 16

# The two blocks that are encrypted to one number of 32 bytes: counter 1 and 2, label "X", separator 0.
_TWICE = (1 << 128) | 1
_COUNTERS = (0x00015800 << 224) | (0x00025800 << 96)


class Xaes256Gcm:
    """One key, ready for use. Has no `__dict__`, and no variable of its functions shows key bytes."""

    __slots__ = ("_aes", "_mask")

    def __init__(self, key: bytes) -> None:
        """`key`: 32 bytes. ValueError otherwise."""
        if len(key) != KEY_SIZE:
            raise ValueError("an XAES-256-GCM key has 32 bytes")
        # AES of single blocks is what the specification derives the per-nonce key with; nothing is encrypted in ECB.
        # Whole blocks through ECB leave no state behind: one encryptor serves all nonces.
        self._aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
        self._mask = self._subkey() * _TWICE

    def _subkey(self) -> int:
        """K1 of the specification: AES(0^16) doubled in GF(2^128), as in CMAC; no branch on the secret bit."""
        block = self._blocks(bytes(16))
        return ((int.from_bytes(block, "big") << 1) & ((1 << 128) - 1)) ^ (0x87 * (block[0] >> 7))

    def _blocks(self, blocks: bytes) -> SecretBytes:
        return SecretBytes(self._aes.update(blocks))

    def derived_key(self, nonce: bytes) -> SecretBytes:
        """Kx of the specification: the 32-byte AES-256-GCM key for the first half of `nonce`."""
        both = _COUNTERS | (int.from_bytes(nonce[:12], "big") * _TWICE)
        return self._blocks((both ^ self._mask).to_bytes(32, "big"))

    def encrypt(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """Ciphertext and 16-byte tag. `nonce`: 24 fresh bytes. ValueError for another length."""
        if len(nonce) != NONCE_SIZE:
            raise ValueError("an XAES-256-GCM nonce has 24 bytes")
        return AESGCM(self.derived_key(nonce)).encrypt(nonce[12:], plaintext, aad)

    def decrypt(self, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
        """The plaintext. Raises InvalidTag, ValueError for a nonce of another length."""
        if len(nonce) != NONCE_SIZE:
            raise ValueError("an XAES-256-GCM nonce has 24 bytes")
        return AESGCM(self.derived_key(nonce)).decrypt(nonce[12:], ciphertext, aad)
