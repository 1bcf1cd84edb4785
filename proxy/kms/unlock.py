"""What opens the embedded key service: an unlock key, or a passphrase stretched with Argon2id."""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple, Protocol

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from proxy.crypto.secret_bytes import SecretBytes
from proxy.kms.service import KeysError
from proxy.ports import Entropy

UNLOCK_SIZE = 32
SALT_SIZE = 16
# RFC 9106 section 4, the second recommended option: 64 MiB, 3 passes, 4 lanes.
ITERATIONS, MEMORY_KIB, LANES = 3, 64 * 1024, 4

_HEX = re.compile(rb"[0-9A-Fa-f]{64}")
# 32 random bytes have fewer distinct ones, or are all printable, once in more than 10^13 keys.
_MIN_DISTINCT = 12
# Argon2id makes a guess dear, not a short passphrase good: five words of a list of 7776 have 64 bits.
_MIN_PASSPHRASE = 20


class Stretching(NamedTuple):
    """How a passphrase became a key: parameters of Argon2id (RFC 9106), as they stand in `kek.json`."""

    salt: bytes
    iterations: int = ITERATIONS
    memory_kib: int = MEMORY_KIB
    lanes: int = LANES


class Unlock(Protocol):
    """Gives the 32-byte secret that seals the KEKs. `repr` shows no secret."""

    def stretching(self, entropy: Entropy) -> Stretching | None:
        """The parameters of a new file."""
        ...

    def secret(self, stretching: Stretching | None) -> SecretBytes:
        """The secret for a file with these parameters. Raises KeysError if the file is unlocked in another way."""
        ...


class UnlockKey:
    """32 random bytes."""

    def __init__(self, value: bytes) -> None:
        """`value`: see `unlock_key`. Raises KeysError."""
        self._key = unlock_key(value)

    def __repr__(self) -> str:
        return "UnlockKey"

    def stretching(self, entropy: Entropy) -> Stretching | None:
        """See Unlock."""
        return None

    def secret(self, stretching: Stretching | None) -> SecretBytes:
        """See Unlock."""
        if stretching is not None:
            raise KeysError("kek.json is sealed under a passphrase: name it with `passphrase` in place of `unlock`")
        return self._key


class Passphrase:
    """Words that a person keeps. White space around them is dropped; the rest counts byte by byte."""

    def __init__(self, value: bytes) -> None:
        """KeysError if it has fewer than 20 bytes."""
        self._value = SecretBytes(value.strip())
        if len(self._value) < _MIN_PASSPHRASE:
            raise KeysError(
                f"passphrase: has fewer than {_MIN_PASSPHRASE} bytes; take five words or more from a word list, by "
                "dice, and keep a copy: without it nothing can be decrypted"
            )
        self._derived: tuple[Stretching, SecretBytes] | None = None

    def __repr__(self) -> str:
        return "Passphrase"

    def stretching(self, entropy: Entropy) -> Stretching | None:
        """See Unlock."""
        return Stretching(entropy(SALT_SIZE))

    def secret(self, stretching: Stretching | None) -> SecretBytes:
        """See Unlock. Takes tenths of a second and 64 MiB, once for a file."""
        if stretching is None:
            raise KeysError("kek.json is sealed under an unlock key: name it with `unlock` in place of `passphrase`")
        if self._derived is None or self._derived[0] != stretching:
            salt, iterations, memory, lanes = stretching
            stretch = Argon2id(salt=salt, length=UNLOCK_SIZE, iterations=iterations, lanes=lanes, memory_cost=memory)
            self._derived = stretching, SecretBytes(stretch.derive(self._value))
        return self._derived[1]


def unlock_key(value: bytes) -> SecretBytes:
    """The 32 bytes of an unlock key given raw, as 64 hex digits or in base64 (white space around the text is
    dropped). KeysError for anything else, a pass phrase or a placeholder among them."""
    return random_key(value, "unlock key")


def random_key(value: bytes, what: str) -> SecretBytes:
    """See `unlock_key`. `what`: how the error calls it."""
    key = SecretBytes(value if len(value) == UNLOCK_SIZE else _unlock_text(value.strip()))
    if len(key) != UNLOCK_SIZE or len(set(key)) < _MIN_DISTINCT or all(0x20 <= byte < 0x7F for byte in key):
        raise KeysError(
            f"{what}: not 32 random bytes, raw, in hex or in base64; make one with `openssl rand -hex 32`, and "
            "keep a copy: without it nothing can be decrypted"
        )
    return key


def _unlock_text(text: bytes) -> bytes:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text.decode())
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
