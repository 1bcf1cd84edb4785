"""FF1 against the samples of NIST (all nine), ACVP and Wycheproof; what is refused; and that it is a permutation."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.ff1 import LEAST_DOMAIN, MAX_LENGTH, MAX_RADIX, MAX_TWEAK, Alphabet, Ff1, _Rounds

_FILE = Path(__file__).parents[1] / "vectors" / "crypto" / "ff1.json"
_VECTORS: list[dict[str, Any]] = json.loads(_FILE.read_text())["vectors"]
DIGITS = Alphabet("0123456789")
LETTERS = Alphabet("0123456789abcdefghijklmnopqrstuvwxyz")
KEY = bytes(range(32))
# Samples 5 and 8 of NIST's FF1samples.pdf, which the file has not.
_KEY_192 = "2b7e151628aed2a6abf7158809cf4f3cef4359d8d580aa4f"
_MISSING_SAMPLES = [(_KEY_192, "2496655549"), (_KEY_192 + "7f036d6f04fc6a94", "1001623463")]


def _of(result: str) -> list[Any]:
    return [pytest.param(v, id=v["name"]) for v in _VECTORS if v["expected"]["result"] == result]


def _alphabet(inputs: dict[str, Any]) -> Alphabet:
    """Vectors without an alphabet are lists of digits: characters of the supplementary planes stand for them."""
    return Alphabet(inputs.get("alphabet") or "".join(map(chr, range(0x10000, 0x10000 + inputs["radix"]))))


def _text(alphabet: Alphabet, value: str | list[int]) -> str:
    return value if isinstance(value, str) else "".join(alphabet.characters[digit] for digit in value)


def _inputs(vector: dict[str, Any]) -> tuple[Ff1, Alphabet, str, bytes]:
    inputs = vector["inputs"]
    alphabet = _alphabet(inputs)
    cipher = Ff1(bytes.fromhex(inputs["key_hex"]))
    return cipher, alphabet, _text(alphabet, inputs["plaintext"]), bytes.fromhex(inputs["tweak_hex"])


@pytest.mark.parametrize("vector", _of("valid"))
def test_published_vectors(vector: dict[str, Any]) -> None:
    cipher, alphabet, plaintext, tweak = _inputs(vector)
    ciphertext = _text(alphabet, vector["expected"]["ciphertext"])
    assert alphabet.radix == vector["inputs"]["radix"]
    assert cipher.encrypt(alphabet, plaintext, tweak) == ciphertext
    assert cipher.decrypt(alphabet, ciphertext, tweak) == plaintext


@pytest.mark.parametrize(("key", "ciphertext"), _MISSING_SAMPLES)
def test_nist_samples_5_and_8(key: str, ciphertext: str) -> None:
    cipher = Ff1(bytes.fromhex(key))
    assert cipher.encrypt(DIGITS, "0123456789", b"9876543210") == ciphertext
    assert cipher.decrypt(DIGITS, ciphertext, b"9876543210") == "0123456789"


def test_all_nine_nist_samples_are_there() -> None:
    numbers = {int(v["name"].split("-")[2]) for v in _VECTORS if v["name"].startswith("nist-sample")}
    assert numbers | {5, 8} == set(range(1, 10))


@pytest.mark.parametrize("vector", [p for p in _of("valid") if "intermediates" in p.values[0]["expected"]])
def test_nist_intermediates(vector: dict[str, Any]) -> None:
    cipher, alphabet, plaintext, tweak = _inputs(vector)
    expected = vector["expected"]["intermediates"]
    rounds = _Rounds(cipher, alphabet.radix, len(plaintext), tweak)
    assert (rounds.u, rounds.v, rounds.b, rounds.d) == tuple(expected[name] for name in "uvbd")
    assert rounds.p.hex() == expected["P_hex"]
    assert [step["round"] for step in expected["rounds"]] == list(range(10))
    b = alphabet.number(plaintext[rounds.u :])
    for step in expected["rounds"]:
        q = rounds.q(step["round"], b)
        r = cipher.prf(rounds.p + q)
        assert (q.hex(), r.hex(), cipher.stretch(r, rounds.d).hex()) == (step["Q_hex"], step["R_hex"], step["S_hex"])
        assert rounds.y(step["round"], b) == int(step["y"])
        b = int(step["c"])
        assert alphabet.text(b, len(step["B"])) == _text(alphabet, step["B"])


@pytest.mark.parametrize("size", [1, 15, 16, 17, 32, 33, 100])
def test_stretch_counts_in_the_last_byte(size: int) -> None:
    """More than 16 bytes are needed for halves of 97 bits and more only: R || AES(R xor 1) || AES(R xor 2) ..."""
    cipher, r = Ff1(KEY), bytes(range(100, 116))
    blocks = [cipher.prf(r[:15] + bytes((r[15] ^ j,))) for j in range(1, 8)]  # one block under a zero IV is plain AES
    assert cipher.stretch(r, size) == (r + b"".join(blocks))[:size]


@pytest.mark.parametrize("vector", _of("refuse") + _of("valid_only_below_the_one_million_minimum"))
def test_published_refusals_and_small_domains(vector: dict[str, Any]) -> None:
    cipher, alphabet, text, tweak = _inputs(vector)
    for way in (cipher.encrypt, cipher.decrypt):
        with pytest.raises(ValueError, match="value has"):
            way(alphabet, text, tweak)


def test_every_kind_of_vector_is_there() -> None:
    results = [v["expected"]["result"] for v in _VECTORS]
    assert results.count("valid") >= 50
    assert results.count("refuse") >= 4
    assert results.count("valid_only_below_the_one_million_minimum") >= 5


@pytest.mark.parametrize(
    ("radix", "least"), [(2, 20), (3, 13), (9, 7), (10, 6), (11, 6), (26, 5), (32, 4), (99, 4), (100, 3), (1000, 2)]
)
def test_least_length(radix: int, least: int) -> None:
    alphabet = Alphabet("".join(map(chr, range(0x4E00, 0x4E00 + radix))))
    assert alphabet.least == least
    assert radix ** (least - 1) < LEAST_DOMAIN <= radix**least
    first = alphabet.characters[0]
    assert len(Ff1(KEY).encrypt(alphabet, first * least, b"")) == least
    with pytest.raises(ValueError, match=f"{radix} in the alphabet {least} to"):
        Ff1(KEY).encrypt(alphabet, first * (least - 1), b"")


def test_the_largest_alphabet_has_two_characters_at_least() -> None:
    alphabet = Alphabet("".join(map(chr, range(0x10000, 0x10000 + MAX_RADIX))))
    assert alphabet.least == 2


@pytest.mark.parametrize("length", [MAX_LENGTH + 1, 1_000_000])
def test_a_long_value_is_refused_before_any_work(length: int) -> None:
    with pytest.raises(ValueError, match="to 255 do"):
        Ff1(KEY).encrypt(DIGITS, "1" * length, b"")


@pytest.mark.parametrize("foreign", ["x", "１", "²", "٣", " ", "\n", "\0", "\ud800", "A"])
@pytest.mark.parametrize("place", [0, 5, 10])
def test_characters_outside_the_alphabet_are_refused_and_not_shown(foreign: str, place: int) -> None:
    text = "1380013800"[:place] + foreign + "1380013800"[place:]
    with pytest.raises(ValueError, match="outside the alphabet") as raised:
        Ff1(KEY).encrypt(DIGITS, text, b"")
    assert "138" not in str(raised.value)


@pytest.mark.parametrize(
    ("characters", "message"),
    [
        ("", "2 to 65536"),
        ("0", "2 to 65536"),
        ("".join(map(chr, range(0x10000, 0x10000 + MAX_RADIX + 1))), "65537"),
        ("01230", "twice"),
        ("ab\udc00", "surrogate"),
    ],
)
def test_bad_alphabets(characters: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Alphabet(characters)


@pytest.mark.parametrize("size", [0, 15, 31, 33])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="key size"):
        Ff1(bytes(size))


def test_a_long_tweak_is_refused() -> None:
    with pytest.raises(ValueError, match="tweak"):
        Ff1(KEY).encrypt(DIGITS, "123456", bytes(MAX_TWEAK + 1))


_ALPHABETS = st.sampled_from([DIGITS, LETTERS, Alphabet("01"), Alphabet("零一二三四五六七八九"), Alphabet("!🙂😀é")])


@settings(deadline=None, max_examples=60)
@given(alphabet=_ALPHABETS, data=st.data(), tweak=st.binary(max_size=40))
def test_round_trip(alphabet: Alphabet, data: st.DataObject, tweak: bytes) -> None:
    text = data.draw(st.text(alphabet.characters, min_size=alphabet.least, max_size=60))
    sealed = Ff1(KEY).encrypt(alphabet, text, tweak)
    assert len(sealed) == len(text)
    assert set(sealed) <= set(alphabet.characters)
    assert Ff1(KEY).decrypt(alphabet, sealed, tweak) == text


def test_the_longest_text_comes_back() -> None:
    """Halves of 128 digits take more than one block of the stretched output."""
    text = ("9876543210" * 26)[:MAX_LENGTH]
    assert Ff1(KEY).decrypt(DIGITS, Ff1(KEY).encrypt(DIGITS, text, b"t"), b"t") == text


def test_neighbours_never_meet() -> None:
    """A permutation: 3 000 numbers in a row of the smallest domain of digits become 3 000 others."""
    cipher = Ff1(KEY)
    assert len({cipher.encrypt(DIGITS, f"{number:06}", b"") for number in range(3000)}) == 3000


def test_key_tweak_length_and_radix_each_change_the_result() -> None:
    tweaks = [b"", b"\0", bytes(16), b"acme", b"acm"]
    sealed = {Ff1(KEY).encrypt(DIGITS, "0" * 12, tweak) for tweak in tweaks}
    sealed |= {Ff1(bytes(32)).encrypt(DIGITS, "0" * 12, b""), Ff1(KEY).encrypt(LETTERS, "0" * 12, b"")}
    sealed.add(Ff1(KEY).encrypt(DIGITS, "0" * 13, b"")[:12])
    assert len(sealed) == len(tweaks) + 3
