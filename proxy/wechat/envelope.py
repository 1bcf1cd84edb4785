"""WeChat's safe-mode envelope: AES-256-CBC with the first half of the key as IV, PKCS#7 to 32 bytes. Pure.

Source: developers.weixin.qq.com, "Message encryption and decryption". The envelope has no MAC: open it only after
`signature.verify` passed, and answer every failure alike.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from proxy.refusal import Refusal

_BLOCK = 32  # WeChat pads to 32 bytes although the AES block has 16
_RANDOM = 16
_HEAD = _RANDOM + 4
_KEY_TEXT = re.compile(r"[A-Za-z0-9]{43}", re.ASCII)
MAX_ENCRYPTED = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class EnvelopeKey:
    """The 32 bytes behind an EncodingAESKey; its repr shows nothing of them. For one thread."""

    _iv: bytes = field(repr=False)
    _cipher: Cipher[modes.CBC] = field(repr=False)
    _decryptor: CipherContext = field(repr=False)

    @classmethod
    def from_text(cls, encoding_aes_key: str) -> EnvelopeKey:
        """From the 43 letters and digits of the console. ValueError if they are not that.

        43 base64 characters carry 258 bits; the two spare bits of a key made by WeChat need not be zero.
        """
        if not _KEY_TEXT.fullmatch(encoding_aes_key):
            raise ValueError("an EncodingAESKey has exactly 43 letters and digits")
        raw = base64.b64decode(encoding_aes_key + "=")
        cipher = Cipher(algorithms.AES(raw), modes.CBC(raw[:16]))
        return cls(raw[:16], cipher, cipher.decryptor())

    def decrypt(self, data: bytes) -> bytes:
        """`data`: whole blocks, ValueError otherwise.

        A block of CBC depends on the one before it and no other (NIST SP 800-38A section 6.2). So with the IV in front
        one context, which takes longer to make than to use, serves all messages: the first block that comes out, the
        IV's own, is made of the IV and the end of the ciphertext before and is dropped.
        """
        if len(data) % 16:
            raise ValueError("ciphertext of CBC has whole blocks")
        return self._decryptor.update(self._iv + data)[16:]

    def encrypt(self, data: bytes) -> bytes:
        encryptor = self._cipher.encryptor()
        return encryptor.update(data) + encryptor.finalize()


def open_envelope(key: EnvelopeKey, encrypt: str, receive_id: str) -> bytes:
    """The message inside `encrypt` (base64 text), if its trailing id is `receive_id`.

    Raises Refusal `envelope_broken` for every fault, without telling which.
    """
    padded = key.decrypt(_ciphertext(encrypt))
    pad = padded[-1]
    if not 1 <= pad <= _BLOCK or pad > len(padded) or padded[-pad:] != bytes([pad]) * pad:
        raise Refusal("envelope_broken")
    plain = padded[:-pad]
    if len(plain) < _HEAD:
        raise Refusal("envelope_broken")
    end = _HEAD + int.from_bytes(plain[_RANDOM:_HEAD], "big")
    if end > len(plain) or plain[end:] != receive_id.encode():
        raise Refusal("envelope_broken")
    return plain[_HEAD:end]


def _ciphertext(encrypt: str) -> bytes:
    try:
        text = encrypt.encode("ascii")
        if len(text) > MAX_ENCRYPTED:
            raise Refusal("envelope_broken")
        data = binascii.a2b_base64(text, strict_mode=True)  # the alphabet alone, padding at the end alone
    except ValueError:
        raise Refusal("envelope_broken") from None
    if not data or len(data) % 16:
        raise Refusal("envelope_broken")
    return data


def seal_envelope(key: EnvelopeKey, message: bytes, receive_id: str, random_16: bytes) -> str:
    """The base64 text of the envelope around `message`. `random_16`: 16 fresh bytes; with the fixed IV they are the
    only source of variation. ValueError if they are not 16."""
    if len(random_16) != _RANDOM:
        raise ValueError("the random prefix has 16 bytes")
    plain = random_16 + len(message).to_bytes(4, "big") + message + receive_id.encode()
    pad = _BLOCK - len(plain) % _BLOCK
    return base64.b64encode(key.encrypt(plain + bytes([pad]) * pad)).decode()
