"""FF1 format-preserving encryption (NIST SP 800-38G, algorithms 7 and 8), integers throughout. Pure.

A text over an alphabet becomes another text of the same length over the same alphabet. It is deterministic and **not
authenticated**: every text of that kind decrypts to something. Small domains can be searched, so a text has to come
from at least a million possible ones (SP 800-38G revision 1, section 5.1; the 2016 edition said one hundred).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

ROUNDS = 10
BLOCK = 16
LEAST_DOMAIN = 1_000_000
MAX_RADIX = 1 << 16
# The longest plain text field of a CRM; the work grows with the square of the length.
MAX_LENGTH = 255
MAX_TWEAK = 1 << 20


@dataclass(frozen=True, slots=True)
class Alphabet:
    """The characters a text may have. The place of a character is its digit; `least` is the shortest length allowed."""

    characters: str
    least: int = field(init=False)
    _digits: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """ValueError unless there are 2 to 65 536 distinct characters that UTF-8 can carry."""
        digits = {character: digit for digit, character in enumerate(self.characters)}
        if not 2 <= len(self.characters) <= MAX_RADIX:
            raise ValueError(f"an alphabet has 2 to {MAX_RADIX} characters; this one has {len(self.characters)}")
        if len(digits) != len(self.characters):
            raise ValueError("a character stands in the alphabet twice; name each once")
        if any("\ud800" <= character <= "\udfff" for character in digits):
            raise ValueError("half of a surrogate pair stands in the alphabet; name whole characters")
        object.__setattr__(self, "_digits", digits)
        object.__setattr__(self, "least", next(n for n in range(1, 21) if self.radix**n >= LEAST_DOMAIN))

    @property
    def radix(self) -> int:
        return len(self.characters)

    def check(self, text: str) -> None:
        """ValueError, which shows nothing of `text`, if it is too short, too long or has other characters."""
        if not self.least <= len(text) <= MAX_LENGTH:
            raise ValueError(
                f"a value has {len(text)} characters; with {self.radix} in the alphabet {self.least} to {MAX_LENGTH} do"
            )
        if not self._digits.keys() >= set(text):
            raise ValueError("a value has characters outside the alphabet; normalise it first or widen the alphabet")

    def number(self, text: str) -> int:
        """NUM_radix of the standard: `text` as a number, most significant digit first."""
        total = 0
        for character in text:
            total = total * self.radix + self._digits[character]
        return total

    def text(self, number: int, length: int) -> str:
        """STR_radix of the standard: undoes `number`."""
        found = []
        for _ in range(length):
            number, digit = divmod(number, self.radix)
            found.append(self.characters[digit])
        return "".join(reversed(found))


class Ff1:
    """One AES key, ready for use."""

    def __init__(self, key: bytes) -> None:
        """`key`: 16, 24 or 32 bytes; wxgate uses 32. ValueError otherwise."""
        self._key = algorithms.AES(key)
        # Single blocks are what the standard stretches the output of a round with; nothing is encrypted in ECB.
        self._aes = Cipher(self._key, modes.ECB()).encryptor()  # noqa: S305

    def encrypt(self, alphabet: Alphabet, text: str, tweak: bytes) -> str:
        """A text like `text`. ValueError for one that `Alphabet.check` refuses or a tweak of more than a megabyte."""
        alphabet.check(text)
        rounds = _Rounds(self, alphabet.radix, len(text), tweak)
        a, b = alphabet.number(text[: rounds.u]), alphabet.number(text[rounds.u :])
        for i in range(ROUNDS):
            a, b = b, (a + rounds.y(i, b)) % rounds.moduli[i % 2]
        return alphabet.text(a, rounds.u) + alphabet.text(b, rounds.v)

    def decrypt(self, alphabet: Alphabet, text: str, tweak: bytes) -> str:
        """Undoes `encrypt` if key, alphabet and tweak are the same, and gives another text if not. Same ValueErrors."""
        alphabet.check(text)
        rounds = _Rounds(self, alphabet.radix, len(text), tweak)
        a, b = alphabet.number(text[: rounds.u]), alphabet.number(text[rounds.u :])
        for i in reversed(range(ROUNDS)):
            a, b = (b - rounds.y(i, a)) % rounds.moduli[i % 2], a
        return alphabet.text(a, rounds.u) + alphabet.text(b, rounds.v)

    def prf(self, data: bytes) -> bytes:
        """Algorithm 6: the last block of AES-CBC with a zero IV. `data`: whole blocks of a length the caller fixes."""
        return Cipher(self._key, modes.CBC(bytes(BLOCK))).encryptor().update(data)[-BLOCK:]

    def stretch(self, r: bytes, size: int) -> bytes:
        """Step 6.iii: the first `size` bytes of R || AES(R xor 1) || AES(R xor 2) ..."""
        return b"".join(self._blocks(r, -(-size // BLOCK)))[:size]

    def _blocks(self, r: bytes, count: int) -> Iterator[bytes]:
        yield r
        for j in range(1, count):
            yield self._aes.update((int.from_bytes(r, "big") ^ j).to_bytes(BLOCK, "big"))


class _Rounds:
    """What the ten rounds share, under the letters of the standard."""

    def __init__(self, cipher: Ff1, radix: int, length: int, tweak: bytes) -> None:
        if len(tweak) > MAX_TWEAK:
            raise ValueError(f"a tweak has {len(tweak)} bytes; {MAX_TWEAK} is the most")
        self._cipher = cipher
        self.u = length // 2
        self.v = length - self.u
        self.moduli = (radix**self.u, radix**self.v)
        # ceil(v * log2(radix)) bits hold radix**v values: the bit length of the largest. A float would round wrong.
        self.b = ((self.moduli[1] - 1).bit_length() + 7) // 8
        self.d = 4 * -(-self.b // 4) + 4
        head = b"\x01\x02\x01" + radix.to_bytes(3, "big") + bytes((ROUNDS, self.u % 256))
        self.p = head + length.to_bytes(4, "big") + len(tweak).to_bytes(4, "big")
        self._tweak = tweak + bytes((-len(tweak) - self.b - 1) % BLOCK)

    def q(self, i: int, number: int) -> bytes:
        return self._tweak + bytes((i,)) + number.to_bytes(self.b, "big")

    def y(self, i: int, number: int) -> int:
        """The round function: a number of `d` bytes out of the half that stays."""
        r = self._cipher.prf(self.p + self.q(i, number))
        return int.from_bytes(self._cipher.stretch(r, self.d), "big")
