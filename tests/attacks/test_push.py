"""Pushes that nobody signed."""

from __future__ import annotations

import pytest

from proxy.emulate.stage import PUSH_PATH
from tests.promises.house import House, http

BODIES = {
    "empty": b"",
    "no document": b"hello",
    "no XML": b"<xml><Encrypt>",
    "no JSON": b'{"Encrypt":',
    "a field twice": b"<xml><Encrypt>a</Encrypt><Encrypt>b</Encrypt></xml>",
    "too many fields": b"<xml>" + b"<a>1</a>" * 3000 + b"</xml>",
}


@pytest.mark.parametrize("name", BODIES)
def test_a_forged_push_is_never_told_that_it_was_received(house: House, name: str) -> None:
    """`success` is for what WeChat was proved to have sent: here the body is read before the signature can be."""
    proof = f"timestamp={1700000000}&nonce=1&encrypt_type=aes&msg_signature={'0' * 40}"
    answer = house.ask(house.files.public, http("POST", f"{PUSH_PATH}?{proof}", BODIES[name]))
    assert (answer.status, answer.body) == (403, b"")
