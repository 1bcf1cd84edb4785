"""Passive replies: sealed as WeChat publishes it, in the form the push had, and readable by the way in."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wechat import signature
from proxy.wechat.account import Account, Mode
from proxy.wechat.envelope import EnvelopeKey, open_envelope
from proxy.wechat.push import field, read_body
from proxy.wechat.reply import SUCCESS, says_nothing, seal_reply

_FOLDER = Path(__file__).parents[1] / "vectors" / "wechat"
KEY = EnvelopeKey.from_text("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG")
ACCOUNT = Account("acme", "wxba5fad812f8e6fb9", Mode.SAFE, token="AAAAA", keys=(KEY,))


def test_the_published_reply() -> None:
    vector = json.loads((_FOLDER / "oa-encrypted-reply-official.json").read_text())
    inputs, expected = vector["inputs"], vector["expected"]
    key = EnvelopeKey.from_text(inputs["encoding_aes_key"])
    account = Account("mp", inputs["receive_id"], Mode.SAFE, token=inputs["token"], keys=(key,))
    sealed = seal_reply(
        inputs["plaintext"].encode(),
        account,
        key,
        form="json",
        random_16=inputs["random_16"].encode(),
        timestamp=int(inputs["timestamp"]),
        nonce=inputs["nonce"],
    )
    assert json.loads(sealed) == {
        "Encrypt": expected["encrypt"],
        "MsgSignature": expected["msg_signature"],
        "TimeStamp": int(inputs["timestamp"]),
        "Nonce": inputs["nonce"],
    }


@settings(deadline=None)
@given(
    reply=st.binary(max_size=100),
    form=st.sampled_from(["xml", "json"]),
    random=st.binary(min_size=16, max_size=16),
    nonce=st.from_regex(r"[A-Za-z0-9]{1,32}", fullmatch=True).filter(str.isascii),
)
def test_a_reply_can_be_verified_and_opened(reply: bytes, form: str, random: bytes, nonce: str) -> None:
    sealed = seal_reply(reply, ACCOUNT, KEY, form=form, random_16=random, timestamp=1714036504, nonce=nonce)
    document = read_body(sealed)
    assert document.form == form
    names = ("Encrypt", "MsgSignature", "TimeStamp", "Nonce")
    assert tuple(leaf.path[-1] for leaf in document.leaves) == names
    encrypt, signed, timestamp, back = (field(document, name) or "" for name in names)
    assert (timestamp, back) == ("1714036504", nonce)
    signature.verify(signed, ACCOUNT.token, timestamp, nonce, encrypt)
    assert open_envelope(KEY, encrypt, ACCOUNT.app_id) == reply


def test_the_xml_form_byte_for_byte() -> None:
    sealed = seal_reply(b"r", ACCOUNT, KEY, form="xml", random_16=bytes(16), timestamp=1714036504, nonce="n1").decode()
    document = read_body(sealed.encode())
    encrypt, signed = field(document, "Encrypt"), field(document, "MsgSignature")
    assert sealed == (
        f"<xml><Encrypt><![CDATA[{encrypt}]]></Encrypt><MsgSignature><![CDATA[{signed}]]></MsgSignature>"
        "<TimeStamp>1714036504</TimeStamp><Nonce><![CDATA[n1]]></Nonce></xml>"
    )


@pytest.mark.parametrize("body", [b"", b" \r\n", b"success", b"success\n", b"\tsuccess "])
def test_nothing_to_say(body: bytes) -> None:
    assert says_nothing(body)


@pytest.mark.parametrize(
    "body", [b'"success"', b"SUCCESS", b"successful", b"{}", b"<xml/>", b"\x00", b"\x0c", b"\xef\xbb\xbf"]
)
def test_something_else(body: bytes) -> None:
    assert not says_nothing(body)


def test_the_constant_is_the_one_of_the_protocol() -> None:
    assert SUCCESS == b"success"
