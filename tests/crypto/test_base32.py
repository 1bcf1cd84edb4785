"""Base32: the vectors of RFC 4648 section 10, and the standard library as the other implementation."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.crypto.base32 import encode

RFC_4648 = [
    *((b"", ""), (b"f", "my"), (b"fo", "mzxq"), (b"foo", "mzxw6")),
    *((b"foob", "mzxw6yq"), (b"fooba", "mzxw6ytb"), (b"foobar", "mzxw6ytboi")),
]


@pytest.mark.parametrize(("raw", "digits"), RFC_4648)
def test_the_vectors_of_rfc_4648(raw: bytes, digits: str) -> None:
    assert encode(raw) == digits


@given(st.binary(max_size=1000))
def test_the_standard_library_agrees(raw: bytes) -> None:
    assert encode(raw) == base64.b32encode(raw).decode().rstrip("=").lower()


@pytest.mark.parametrize("size", [319, 320, 321, 325, 640, 641])
def test_it_agrees_where_one_piece_ends(size: int) -> None:
    raw = bytes(range(1, 256)) * 3
    assert encode(raw[:size]) == base64.b32encode(raw[:size]).decode().rstrip("=").lower()
