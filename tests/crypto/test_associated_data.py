"""Lists of texts as associated data: no two lists give the same bytes, and each is read back from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.crypto.associated_data import items

lists = st.lists(st.text(max_size=8), max_size=5)


def read(data: bytes) -> list[str]:
    texts = []
    while data:
        size = int.from_bytes(data[:2], "big")
        texts.append(data[2 : 2 + size].decode())
        data = data[2 + size :]
    return texts


@given(texts=lists)
def test_a_list_is_read_back_from_its_bytes(texts: list[str]) -> None:
    assert read(items(texts)) == texts


def test_the_bytes_are_lengths_and_texts() -> None:
    assert items(["wg1.", "", "人"]).hex(" ", 1) == "00 04 77 67 31 2e 00 00 00 03 e4 ba ba"
    assert items([]) == b""


def test_what_a_length_cannot_say_is_refused() -> None:
    assert len(items(["x" * 65_535])) == 65_537
    for text in ("x" * 65_536, "人" * 21_846):
        with pytest.raises(ValueError, match="too long"):
            items([text])
