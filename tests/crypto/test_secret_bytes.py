"""Key bytes compute as bytes and show nothing, also where Python shows the variables of a traceback."""

import base64
import copy
import faulthandler
import pickle
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from proxy.crypto.data_key import DataKey, Purpose, hkdf
from proxy.crypto.secret_bytes import SecretBytes
from proxy.crypto.xaes import Xaes256Gcm

DEK = bytes(range(100, 132))


def forms(key: bytes) -> Iterator[str]:
    """How key bytes could be shown: raw, escaped, in hex, base64 or as a number, from any place in them on."""
    for part in (key, key[:8], key[8:16], key[-8:]):
        yield from (repr(part)[2:-1], part.hex(), base64.b64encode(part)[:10].decode(), repr(list(part))[1:-1])
        yield str(int.from_bytes(part, "big"))


def derived(dek: bytes) -> list[bytes]:
    infos = ("xaes-256-gcm", "aes-siv", "delivery id", "index", "hash", "ff1")
    return [bytes(hkdf(dek, f"wxgate/1 {info}".encode(), 64 if info == "aes-siv" else 32)) for info in infos]


def assert_hidden(text: str, dek: bytes = DEK) -> None:
    for key in (dek, *derived(dek)):
        assert not [form for form in forms(key) if form in text]


def test_it_is_bytes_to_what_computes() -> None:
    secret = SecretBytes(DEK)
    assert secret == DEK and hash(secret) == hash(DEK) and secret[:4] == DEK[:4] and bytes(secret) == DEK
    assert Xaes256Gcm(secret).derived_key(bytes(24)) == Xaes256Gcm(DEK).derived_key(bytes(24))


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, "{:>99}".format, "%s".__mod__, "%r".__mod__])
def test_it_shows_its_length_only(show: Callable[[object], str]) -> None:
    assert show(SecretBytes(DEK)) == "<32 secret bytes>"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(SecretBytes(DEK), protocol)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_it_cannot_be_copied(copier: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="copied"):
        copier({"key": SecretBytes(DEK)} if copier is copy.deepcopy else SecretBytes(DEK))


def used() -> DataKey:
    """A key that has derived all it can."""
    key = DataKey(DEK, Purpose.LOOKUP)
    key.seal(bytes(24), b"", b"")
    key.seal_equal(b"", b"")
    key.delivery_id(b"")
    key.index_mac(b"")
    key.hash_mac(b"")
    _ = key._ff1
    return key


def test_vars_of_a_key_show_names_only() -> None:
    key = used()
    seen = [key, *vars(key).values()]
    assert len(seen) >= 8
    assert_hidden(repr(seen) + str(vars(key)) + repr([vars(it) for it in seen if hasattr(it, "__dict__")]))
    assert not hasattr(key._xaes, "__dict__")


class Broken:
    """Raises when it is used as bytes, in the middle of whatever uses it."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, _: Any) -> Any:
        raise RuntimeError("forced")

    def encode(self) -> Any:
        raise RuntimeError("forced")


BROKEN: Any = Broken()


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda key: key.seal(BROKEN, b"", b""), id="seal"),
        pytest.param(lambda key: key.open(bytes(24), bytes(16), b""), id="open"),
        pytest.param(lambda key: key.open_equal(bytes(20), b""), id="open_equal"),
        pytest.param(lambda key: key.delivery_id(BROKEN), id="delivery_id"),
        pytest.param(lambda key: key.index_mac(BROKEN), id="index"),
        pytest.param(lambda key: key.hash_mac(BROKEN), id="hash"),
        pytest.param(lambda key: key.ff1_encrypt(BROKEN, BROKEN, b""), id="ff1"),
        pytest.param(lambda key: DataKey(key._dek, Purpose.DATA, bytes(16)), id="mismatch"),
        pytest.param(lambda key: DataKey(SecretBytes(key._dek + b"x"), Purpose.DATA), id="length"),
        pytest.param(lambda key: hkdf(key._dek, b"", 9000), id="hkdf"),
    ],
)
def test_a_traceback_with_its_variables_shows_no_key(use: Callable[[DataKey], object]) -> None:
    key = used()
    with pytest.raises((InvalidTag, RuntimeError, TypeError, AttributeError, ValueError, Exception)) as raised:
        use(key)
    told = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    text = "".join(told.format())
    assert "self = " in text or "key = " in text, "the variables are there"
    assert_hidden(text)


def test_the_plain_form_would_have_been_shown() -> None:
    """What the tests above look for is what Python prints of plain bytes."""
    key = DEK

    def fails(dek: bytes) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError) as raised:
        fails(key)
    text = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
    with pytest.raises(AssertionError):
        assert_hidden(text)


def test_a_dump_of_the_stack_shows_no_key() -> None:
    key = used()
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        text = file.read()
    assert "test_a_dump_of_the_stack" in text
    assert_hidden(text)
    assert key.purpose is Purpose.LOOKUP
