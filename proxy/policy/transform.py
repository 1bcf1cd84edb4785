"""How a class of data is written other than as a token: masks, redactions, indexes, hashes, format preserving. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from proxy.crypto.blind_index import DEFAULT_BITS, Spelling
from proxy.crypto.ff1 import Alphabet
from proxy.crypto.mask import KindMask, Mask
from proxy.crypto.normalise import Normaliser

_PREVIOUS = "_previous"


class Form(enum.Enum):
    """What can be written for a value: in its own place, or as a companion of it under another name."""

    __hash__ = object.__hash__  # see crypto.data_key.Purpose

    TOKEN = "token"  # noqa: S105 - a field token
    MASK = "mask"
    INDEX = "index"
    HASH = "hash"
    FORMAT_PRESERVING = "format_preserving"
    REDACTION = "redaction"
    # As above, with the lookup key that is being replaced: what is written already is found by it.
    TOKEN_PREVIOUS = "token_previous"  # noqa: S105
    INDEX_PREVIOUS = "index_previous"
    HASH_PREVIOUS = "hash_previous"
    FORMAT_PRESERVING_PREVIOUS = "format_preserving_previous"

    def __init__(self, word: str) -> None:
        self.previous = word.endswith(_PREVIOUS)
        """Whether it is made with the lookup key that is being replaced."""

    @property
    def base(self) -> Form:
        """The form itself, whichever key it is made with."""
        return _BASE.get(self, self)


_BASE = {form: Form(form.value.removesuffix(_PREVIOUS)) for form in Form if form.previous}


@dataclass(frozen=True, slots=True)
class IndexForm:
    """A blind index: `bits` of an HMAC over the normalised value, as hex or base32."""

    normaliser: Normaliser
    bits: int = DEFAULT_BITS
    spelling: Spelling = "hex"


@dataclass(frozen=True, slots=True)
class Forms:
    """What a class knows to write besides a token; None for what its author did not describe."""

    mask: Mask | KindMask | None = None
    index: IndexForm | None = None
    hash_of: Normaliser | None = None
    alphabet: Alphabet | None = None
    redaction: str | None = None

    def has(self, form: Form) -> bool:
        """Whether the class says how `form` is written."""
        known = {
            Form.TOKEN: True,
            Form.MASK: self.mask is not None,
            Form.INDEX: self.index is not None,
            Form.HASH: self.hash_of is not None,
            Form.FORMAT_PRESERVING: self.alphabet is not None,
            Form.REDACTION: self.redaction is not None,
        }
        return known[form.base]


NO_FORMS = Forms()

# Those that equal values share: made with a lookup key, which is never rotated by age.
BY_LOOKUP_KEY = frozenset({Form.INDEX, Form.HASH, Form.FORMAT_PRESERVING})
