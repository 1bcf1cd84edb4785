"""The envelope: published vectors, every padding, and one answer to everything that does not fit."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.refusal import Refusal
from proxy.wechat import envelope
from proxy.wechat.envelope import EnvelopeKey, open_envelope, seal_envelope

_FOLDER = Path(__file__).parents[1] / "vectors" / "wechat"
KEY_TEXT = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
KEY, OTHER = EnvelopeKey.from_text(KEY_TEXT), EnvelopeKey.from_text("A" * 43)
APP_ID, RANDOM = "wxba5fad812f8e6fb9", bytes(range(16))


def _of(kind: str) -> list[Any]:
    vectors = [json.loads(path.read_text()) for path in sorted(_FOLDER.glob("*.json"))]
    return [pytest.param(vector, id=vector["name"]) for vector in vectors if vector["kind"] == kind]


def enclose(plain: bytes) -> str:
    """Encrypted as it is: padding and layout are the test's."""
    return base64.b64encode(KEY.encrypt(plain)).decode()


def padded(plain: bytes) -> bytes:
    pad = 32 - len(plain) % 32
    return plain + bytes([pad]) * pad


def layout(message: bytes, length: int | None = None, receive_id: bytes = APP_ID.encode()) -> bytes:
    return RANDOM + (len(message) if length is None else length).to_bytes(4, "big") + message + receive_id


def is_broken(encrypt: str, receive_id: str = APP_ID, key: EnvelopeKey = KEY) -> bool:
    try:
        open_envelope(key, encrypt, receive_id)
    except Refusal as refusal:
        assert refusal.code == "envelope_broken"
        assert refusal.args == ("envelope_broken",)
        return True
    return False


@pytest.mark.parametrize("vector", _of("envelope_decrypt"))
def test_published_envelopes_open(vector: dict[str, Any]) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    key = EnvelopeKey.from_text(inputs["encoding_aes_key"])
    message = open_envelope(key, inputs["encrypt"], inputs["receive_id"])
    assert message == expected["plaintext"].encode()
    assert len(message) == expected["msg_length"]
    assert seal_envelope(key, message, inputs["receive_id"], expected["random_16"].encode()) == inputs["encrypt"]


@pytest.mark.parametrize("vector", _of("envelope_encrypt"))
def test_published_envelopes_are_sealed(vector: dict[str, Any]) -> None:
    inputs = vector["inputs"]
    key, message = EnvelopeKey.from_text(inputs["encoding_aes_key"]), inputs["plaintext"].encode()
    sealed = seal_envelope(key, message, inputs["receive_id"], inputs["random_16"].encode())
    assert sealed == vector["expected"]["encrypt"]
    assert len(base64.b64decode(sealed)) == vector["expected"]["padded_length"]
    assert open_envelope(key, sealed, inputs["receive_id"]) == message


@settings(deadline=None)
@given(message=st.binary(max_size=200), receive_id=st.text(max_size=20), random=st.binary(min_size=16, max_size=16))
def test_what_was_sealed_opens(message: bytes, receive_id: str, random: bytes) -> None:
    sealed = seal_envelope(KEY, message, receive_id, random)
    assert open_envelope(KEY, sealed, receive_id) == message
    assert len(base64.b64decode(sealed)) % 32 == 0


@pytest.mark.parametrize("pad", range(1, 33))
def test_every_padding(pad: int) -> None:
    """Library padding to 16 would refuse half of these; an aligned plaintext gets a whole block."""
    message = b"m" * ((-len(layout(b"")) - pad) % 32)
    sealed = seal_envelope(KEY, message, APP_ID, RANDOM)
    assert KEY.decrypt(base64.b64decode(sealed))[-1] == pad
    assert open_envelope(KEY, sealed, APP_ID) == message


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=100).map(lambda data: data * 16), min_size=1, max_size=5))
def test_no_message_depends_on_the_one_before(ciphertexts: list[bytes]) -> None:
    """Against a decryptor made anew for each, which the key's own is not; what broke off between them included."""
    key = EnvelopeKey.from_text(KEY_TEXT)
    raw = base64.b64decode(KEY_TEXT + "=")
    for ciphertext in ciphertexts:
        with pytest.raises(ValueError, match="whole blocks"):
            key.decrypt(ciphertext[:-1])
        anew = Cipher(algorithms.AES(raw), modes.CBC(raw[:16])).decryptor()
        assert key.decrypt(ciphertext) == anew.update(ciphertext) + anew.finalize()


def test_emoji_count_as_bytes() -> None:
    message = "🙂你".encode()
    sealed = seal_envelope(KEY, message, APP_ID, RANDOM)
    assert KEY.decrypt(base64.b64decode(sealed))[16:20] == b"\0\0\0\7"
    assert open_envelope(KEY, sealed, APP_ID) == message


@pytest.mark.parametrize("last", [0, 33, 34, 48, 128, 255])
def test_a_padding_out_of_range_is_broken(last: int) -> None:
    """Consistent and of its own length, so that nothing but its range is wrong."""
    plain = layout(b"m" * ((-len(layout(b"")) - last) % 16))
    assert is_broken(enclose(plain + bytes([last]) * last))
    assert is_broken(enclose(padded(plain)[:-1] + bytes([last])))


@pytest.mark.parametrize("place", range(2, 33))
def test_every_byte_of_the_padding_counts(place: int) -> None:
    plain = bytearray(layout(b"m" * (96 - 38)) + b" " * 32)
    plain[-32:] = bytes([32]) * 32
    assert len(plain) == 128
    assert not is_broken(enclose(bytes(plain)))
    plain[-place] ^= 1
    assert is_broken(enclose(bytes(plain)))


def test_a_padding_longer_than_the_plaintext_is_broken() -> None:
    assert is_broken(enclose(bytes([32]) * 16))
    assert is_broken(enclose(bytes([17]) * 16))
    assert is_broken(enclose(bytes([16]) * 16))
    assert is_broken(enclose(bytes([32]) * 32))


@pytest.mark.parametrize("length", [0, 1, 6, 8, 7 + len(APP_ID), 1000, 2**31, 2**32 - 1])
def test_a_wrong_inner_length_is_broken(length: int) -> None:
    assert not is_broken(enclose(padded(layout(b"message"))))
    assert is_broken(enclose(padded(layout(b"message", length))))


@pytest.mark.parametrize("length", [8, 2**32 - 1])
def test_an_inner_length_beyond_the_end_is_broken_even_where_no_id_is_left_to_compare(length: int) -> None:
    plain = layout(b"message", length, receive_id=b"")
    assert is_broken(enclose(padded(plain)), receive_id="")


def test_an_empty_message_opens() -> None:
    assert open_envelope(KEY, enclose(padded(layout(b""))), APP_ID) == b""


@pytest.mark.parametrize("size", range(20))
def test_less_than_a_head_is_broken(size: int) -> None:
    assert is_broken(enclose(padded(bytes(size))), receive_id="")


@pytest.mark.parametrize(
    "receive_id",
    ["", APP_ID[:-1], APP_ID + "0", APP_ID.upper(), APP_ID.replace("a", "A", 1), " " + APP_ID, APP_ID + "\n", "x" * 18],
)
def test_an_envelope_for_somebody_else_is_broken(receive_id: str) -> None:
    assert is_broken(enclose(padded(layout(b"message", receive_id=receive_id.encode()))))
    assert is_broken(seal_envelope(KEY, b"message", APP_ID, RANDOM), receive_id)


def test_another_key_is_broken() -> None:
    assert is_broken(seal_envelope(KEY, b"message", APP_ID, RANDOM), key=OTHER)


@pytest.mark.parametrize(
    "encrypt",
    [
        "",
        "=",
        "====",
        "A",
        "AAAA",
        "A" * 22,
        "A" * 22 + "=",
        "A" * 22 + "===",
        "A" * 21 + "===",
        "A" * 20 + "==" + "A" * 20 + "==",
        "A" * 22 + "==" + "A" * 4,
        "-_" + "A" * 20 + "==",
        "A" * 10 + "\n" + "A" * 12 + "==",
        " " + "A" * 22 + "==",
        "A" * 22 + "==\n",
        "A" * 21 + "é==",
        "A" * 21 + "\u0661==",
        "A" * 21 + "\ud800==",
        "%41" * 10,
        "A" * 24,
        "A" * 44,
    ],
)
def test_what_is_no_base64_of_whole_blocks_is_broken(encrypt: str) -> None:
    assert is_broken(encrypt)


def test_a_text_too_long_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = seal_envelope(KEY, b"message", APP_ID, RANDOM)
    monkeypatch.setattr(envelope, "MAX_ENCRYPTED", len(sealed))
    assert not is_broken(sealed)
    monkeypatch.setattr(envelope, "MAX_ENCRYPTED", len(sealed) - 1)
    assert is_broken(sealed)


def test_the_spare_bits_of_a_key_do_not_matter() -> None:
    sealed = {seal_envelope(EnvelopeKey.from_text(KEY_TEXT[:-1] + last), b"m", APP_ID, RANDOM) for last in "EFGH"}
    assert len(sealed) == 1
    assert seal_envelope(EnvelopeKey.from_text(KEY_TEXT[:-1] + "I"), b"m", APP_ID, RANDOM) not in sealed


@pytest.mark.parametrize(
    "text",
    [
        *("", "A" * 42, "A" * 44, "A" * 43 + "=", "A" * 42 + "+", "A" * 42 + "/", "A" * 42 + "-", "A" * 42 + "é"),
        *("A" * 42 + "\n", "A" * 43 + "\n", " " + "A" * 43, "A" * 42 + "\u0661"),
    ],
)
def test_a_key_has_43_letters_and_digits(text: str) -> None:
    with pytest.raises(ValueError, match="43 letters and digits") as raised:
        EnvelopeKey.from_text(text)
    assert text == "" or text not in str(raised.value)


def test_a_key_shows_nothing_of_itself() -> None:
    assert repr(KEY) == "EnvelopeKey()"


@pytest.mark.parametrize("size", [0, 15, 17])
def test_the_random_prefix_has_16_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        seal_envelope(KEY, b"", APP_ID, bytes(size))


@settings(deadline=None)
@given(encrypt=st.one_of(st.text(max_size=50), st.binary(max_size=96).map(lambda raw: base64.b64encode(raw).decode())))
def test_noise_is_broken(encrypt: str) -> None:
    assert is_broken(encrypt)


@settings(deadline=None)
@given(plain=st.integers(1, 6).flatmap(lambda blocks: st.binary(min_size=16 * blocks, max_size=16 * blocks)))
def test_any_plaintext_is_opened_or_broken(plain: bytes) -> None:
    assert is_broken(enclose(plain))


def test_the_envelope_alone_does_not_notice_every_change() -> None:
    """Why `signature.verify` comes first: CBC carries no MAC, and a flipped bit of block n is one in block n + 1."""
    raw = bytearray(base64.b64decode(seal_envelope(KEY, b"Content=1;rest", APP_ID, RANDOM)))
    raw[12] ^= ord("1") ^ ord("9")
    assert open_envelope(KEY, base64.b64encode(raw).decode(), APP_ID) == b"Content=9;rest"
