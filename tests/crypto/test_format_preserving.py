"""Format-preserving values: FF1 under the right sub-key and the scope as tweak; the example of the specification."""

import hmac
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.crypto.data_key import DataKey, Purpose, PurposeError
from proxy.crypto.ff1 import Alphabet, Ff1
from proxy.crypto.field_token import Scope
from proxy.crypto.format_preserving import decrypt, encrypt

_SPECIFICATION = Path(__file__).parents[2] / "docs" / "spec" / "token.md"
DEK = bytes(range(32))
KEY = DataKey(DEK, Purpose.LOOKUP)
SCOPE = Scope("acme", "cn", "phone")
DIGITS = Alphabet("0123456789")
VALUE, EXAMPLE = "13800138000", "96145727166"
TWEAK = bytes.fromhex("0004 7766312e 0004 61636d65 0002 636e 0005 70686f6e65")


def test_as_specified() -> None:
    sub_key = hmac.digest(hmac.digest(bytes(32), DEK, "sha256"), b"wxgate/1 ff1\1", "sha256")
    assert encrypt(KEY, VALUE, SCOPE, DIGITS) == Ff1(sub_key).encrypt(DIGITS, VALUE, TWEAK) == EXAMPLE
    assert decrypt(KEY, EXAMPLE, SCOPE, DIGITS) == VALUE
    assert f"`{EXAMPLE}`" in _SPECIFICATION.read_text()


def test_binds_are_part_of_the_tweak() -> None:
    bound = encrypt(KEY, VALUE, replace(SCOPE, binds=("oABC",)), DIGITS)
    assert bound == KEY.ff1_encrypt(DIGITS, VALUE, TWEAK + b"\0\4oABC")


@pytest.mark.parametrize(
    "scope",
    [
        Scope("acm", "ecn", "phone"),
        Scope("other", "cn", "phone"),
        Scope("acme", "eu", "phone"),
        Scope("acme", "cn", "card"),
        Scope("acme", "cn", "phone", ("",)),
    ],
)
def test_another_scope_gives_another_text(scope: Scope) -> None:
    assert encrypt(KEY, VALUE, scope, DIGITS) != EXAMPLE
    assert decrypt(KEY, EXAMPLE, scope, DIGITS) != VALUE


@pytest.mark.parametrize("function", [encrypt, decrypt])
def test_a_data_key_is_refused(function: Callable[[DataKey, str, Scope, Alphabet], str]) -> None:
    key = DataKey(DEK, Purpose.DATA)
    with pytest.raises(PurposeError, match=key.id.hex()):
        function(key, VALUE, SCOPE, DIGITS)


@pytest.mark.parametrize("text", ["", "12345", "138-0013-8000", "1" * 256])
@pytest.mark.parametrize("function", [encrypt, decrypt])
def test_what_does_not_suit_is_refused(function: Callable[[DataKey, str, Scope, Alphabet], str], text: str) -> None:
    with pytest.raises(ValueError, match="value has"):
        function(KEY, text, SCOPE, DIGITS)
