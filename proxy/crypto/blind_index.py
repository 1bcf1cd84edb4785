"""What stands in the CRM beside a token so that it can be found again: blind index and keyed hash. Pure.

Both are HMAC-SHA-256 under sub-keys of their own of a LOOKUP key, over tenant, region, datum and the value. Normative
text: docs/spec/token.md, "Lookup values". They say which values of one datum are equal, and whoever can have values
indexed can try guesses: for values of little variety they hide nothing.
"""

from __future__ import annotations

from typing import Literal

from proxy.crypto import base32
from proxy.crypto.data_key import DataKey
from proxy.crypto.field_token import Scope

INDEX = "wi1."
HASH = "wh1."
# Below 32 bits foreign records are found by chance among some tens of thousands, and nothing here sorts them out.
LEAST_BITS, MOST_BITS, DEFAULT_BITS = 32, 256, 128

type Spelling = Literal["hex", "base32"]
SPELLINGS: tuple[Spelling, ...] = ("hex", "base32")


def check_bits(bits: int) -> None:
    """ValueError unless `bits` is a multiple of 8 from 32 to 256."""
    if bits % 8 or not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"an index has {LEAST_BITS} to {MOST_BITS} bits in steps of 8, not {bits}")


def length(bits: int, spelling: Spelling = "hex") -> int:
    """How many characters an index of `bits` takes. ValueError as `check_bits`."""
    check_bits(bits)
    return bits // 4 if spelling == "hex" else -(-bits // 5)


def blind_index(key: DataKey, text: str, scope: Scope, bits: int = DEFAULT_BITS, spelling: Spelling = "hex") -> str:
    """The index of `text`, which has been normalised: equal texts of one tenant, region and datum have equal ones.

    Bound values of `scope` are no part: who searches across records does not have them. ValueError for other `bits`,
    an item of the scope that is too long or text that UTF-8 cannot carry; PurposeError for a DATA key.
    """
    check_bits(bits)
    return _spelled(key.index_mac(_input(INDEX, scope, text))[: bits // 8], spelling)


def keyed_hash(key: DataKey, text: str, scope: Scope, spelling: Spelling = "hex") -> str:
    """All 256 bits: what takes the place of a value nobody will read again. Scope and errors as `blind_index`."""
    return _spelled(key.hash_mac(_input(HASH, scope, text)), spelling)


def _input(prefix: str, scope: Scope, text: str) -> bytes:
    """The four items carry their lengths, so what follows them is the value and nothing else."""
    aad = Scope(scope.tenant, scope.region, scope.datum).aad(prefix)
    try:
        return aad + text.encode()
    except UnicodeEncodeError:
        # Python's own error carries the value.
        raise ValueError("a value holds half of a surrogate pair, which has no UTF-8") from None


def _spelled(raw: bytes, spelling: Spelling) -> str:
    """Lower case, since CRMs compare text without case."""
    if spelling == "hex":
        return raw.hex()
    return base32.encode(raw)
