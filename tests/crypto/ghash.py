"""GHASH (NIST SP 800-38D, 6.4) in pure Python, and with it ciphertexts that pass AES-GCM's tag under two keys.

A tag is GHASH_H(A, C) + E_K(J0): a polynomial in H whose coefficients are the blocks of A and C. Two keys give two
equations in the blocks; asking for equal tags leaves one linear equation in any one block of C, which has a solution
since x -> x * (H1^e + H2^e) can be inverted in GF(2^128).
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_BLOCK = 16
_R = 0xE1 << 120


def multiply(x: int, y: int) -> int:
    """In GF(2^128), the bits in GCM's order: the first bit of a block is the coefficient of 1."""
    product = 0
    for bit in range(127, -1, -1):
        if y >> bit & 1:
            product ^= x
        x = x >> 1 ^ (_R if x & 1 else 0)
    return product


def power(x: int, exponent: int) -> int:
    result = 1 << 127  # one
    while exponent:
        if exponent & 1:
            result = multiply(result, x)
        x, exponent = multiply(x, x), exponent >> 1
    return result


def inverse(x: int) -> int:
    return power(x, (1 << 128) - 2)


def blocks(data: bytes) -> list[int]:
    padded = data + bytes(-len(data) % _BLOCK)
    return [int.from_bytes(padded[at : at + _BLOCK], "big") for at in range(0, len(padded), _BLOCK)]


def _coefficients(aad: bytes, ciphertext: bytes) -> list[int]:
    lengths = (len(aad) * 8 << 64) | len(ciphertext) * 8
    return [*blocks(aad), *blocks(ciphertext), lengths]


def _encrypted_block(key: bytes, block: bytes) -> int:
    return int.from_bytes(Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block), "big")


def tag(key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
    """AES-GCM's tag. `nonce`: 12 bytes."""
    h, total = _encrypted_block(key, bytes(_BLOCK)), 0
    for coefficient in _coefficients(aad, ciphertext):
        total = multiply(total ^ coefficient, h)
    return (total ^ _encrypted_block(key, nonce + b"\0\0\0\1")).to_bytes(_BLOCK, "big")


def collide(keys: tuple[bytes, bytes], nonce: bytes, aad: bytes, ciphertext: bytes, free: int) -> bytes:
    """`ciphertext` (whole blocks) with block `free` replaced, so that its tag is the same under both `keys`."""
    changed = bytearray(ciphertext)
    changed[free * _BLOCK : (free + 1) * _BLOCK] = bytes(_BLOCK)
    one, other = (int.from_bytes(tag(key, nonce, aad, bytes(changed)), "big") for key in keys)
    exponent = len(ciphertext) // _BLOCK - free + 1  # the lengths stand behind all blocks, and are times H too
    h = [power(_encrypted_block(key, bytes(_BLOCK)), exponent) for key in keys]
    block = multiply(one ^ other, inverse(h[0] ^ h[1]))
    changed[free * _BLOCK : (free + 1) * _BLOCK] = block.to_bytes(_BLOCK, "big")
    return bytes(changed)
