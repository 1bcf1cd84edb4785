"""Pushes: the published ones, URL verification, freshness, and what a body is read as."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.refusal import Refusal
from proxy.wechat import signature
from proxy.wechat.account import Account, Mode
from proxy.wechat.envelope import EnvelopeKey
from proxy.wechat.push import check_fresh, field, message_type, read_body, read_proof, verify_url
from tests.wechat.pushes import (
    COMPATIBLE,
    MESSAGE,
    NOW,
    PLAIN,
    SAFE,
    plain_query,
    pushed,
    query_of,
    receive,
    refused,
)

_FOLDER = Path(__file__).parents[1] / "vectors" / "wechat"


def _vector(name: str) -> Any:
    vector = json.loads((_FOLDER / f"{name}.json").read_text())
    return vector["inputs"], vector["expected"]


# Published pushes


def test_the_published_json_push() -> None:
    inputs, expected = _vector("mp-safe-mode-json-push-official")
    key = EnvelopeKey.from_text(inputs["encoding_aes_key"])
    account = Account("mp", inputs["receive_id"], Mode.SAFE, token=inputs["token"], keys=(key,))
    names = ("signature", "timestamp", "nonce", "openid", "encrypt_type", "msg_signature")
    query = query_of(**{name: inputs[name] for name in names})
    body = json.dumps({"ToUserName": inputs["to_user_name"], "Encrypt": inputs["encrypt"]}).encode()
    opened = receive(query, body, account, int(inputs["timestamp"]))
    assert opened.body == expected["plaintext"].encode()
    assert opened.key is key
    assert message_type(opened.document) == "event.debug_demo"
    assert read_proof(query, Mode.SAFE).signature == inputs["msg_signature"]


def test_the_published_compatible_push_is_read_from_the_envelope_alone() -> None:
    inputs, expected = _vector("oa-compat-mode-push-cryptodemo-2014")
    key = EnvelopeKey.from_text(inputs["encoding_aes_key"])
    account = Account("oa", inputs["receive_id"], Mode.COMPATIBLE, token=inputs["token"], keys=(key,))
    query = query_of(
        signature=inputs["signature"],
        timestamp=inputs["timestamp"],
        nonce=inputs["nonce"],
        encrypt_type="aes",
        msg_signature=inputs["msg_signature"],
    )
    forged = inputs["body"].replace("abcdteT", "forged").replace("oyORnuP8q7ou2gfYjqLzSIWZf0rs", "forged").encode()
    for body in (inputs["body"].encode(), forged):
        opened = receive(query, body, account, int(inputs["timestamp"]))
        assert opened.body == expected["plaintext"].encode()
        assert field(opened.document, "Content") == "abcdteT"


def test_the_published_plain_push() -> None:
    """No byte of a plain body is signed: another body passes alike."""
    inputs, _ = _vector("oa-plaintext-push-official")
    account = replace(PLAIN, token=inputs["token"])
    query = query_of(**{name: inputs[name] for name in ("signature", "timestamp", "nonce")})
    for text in (inputs["body"], inputs["body"].replace("hello world", "forged")):
        opened = receive(query, text.encode(), account, int(inputs["timestamp"]))
        assert (opened.body, opened.key) == (text.encode(), None)


def test_a_real_plain_query() -> None:
    inputs, _ = _vector("oa-plain-signature-real-post-2019")
    query = query_of(signature=inputs["signature"], timestamp=inputs["timestamp"], nonce=inputs["nonce"], openid="o1")
    account = replace(PLAIN, token=inputs["token"])
    assert receive(query, MESSAGE, account, int(inputs["timestamp"])).body == MESSAGE


# URL verification


def test_the_published_url_verification() -> None:
    inputs, expected = _vector("oa-get-verification-official")
    query = query_of(**{name: inputs[name] for name in ("signature", "timestamp", "nonce", "echostr")})
    for account in (SAFE, COMPATIBLE, PLAIN):
        assert verify_url(query, account, int(inputs["timestamp"])) == expected["response_body"].encode()


@pytest.mark.parametrize("echo", ["a", "A_-9", "1" * 128])
def test_an_echo_is_returned_as_it_came(echo: str) -> None:
    assert verify_url(plain_query(echostr=echo), SAFE, NOW) == echo.encode()


@pytest.mark.parametrize(
    "echo", ["", "1" * 129, "<b>", "a b", "a\n", "é", "\u0661", "a%41", "a+b", "a.b", '"', "a\r\nb"]
)
def test_an_echo_that_could_be_more_than_a_word_is_refused(echo: str) -> None:
    with pytest.raises(Refusal, match="signature_malformed"):
        verify_url(plain_query(echostr=echo), SAFE, NOW)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "signature_malformed"),
        (plain_query(), "signature_malformed"),
        (plain_query(echostr="1").replace("nonce=", "nonces="), "signature_malformed"),
        (plain_query(echostr="1").replace("signature=", "msg_signature="), "signature_malformed"),
        (plain_query(echostr="1") + "&echostr=2", "signature_malformed"),
        (plain_query(echostr="1") + "&%6eonce=2", "signature_malformed"),
        (plain_query("BBBBB", echostr="1"), "signature_wrong"),
        (plain_query(timestamp=str(NOW - 301), echostr="1"), "timestamp_stale"),
    ],
)
def test_url_verifications_that_prove_nothing(query: str, code: str) -> None:
    with pytest.raises(Refusal) as raised:
        verify_url(query, SAFE, NOW)
    assert raised.value.code == code


# Freshness


@pytest.mark.parametrize("off", [-300, -1, 0, 1, 300])
def test_inside_the_window(off: int) -> None:
    check_fresh(str(NOW), 300, NOW + off)
    assert receive(*pushed(), now=NOW + off).body == MESSAGE


@pytest.mark.parametrize("off", [-10_000, -301, 301, 10_000])
def test_outside_the_window(off: int) -> None:
    for query, body, account in ((*pushed(), SAFE), (plain_query(), MESSAGE, PLAIN)):
        assert refused(query, body, account, NOW + off) == "timestamp_stale"


# Bodies and types


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "document_malformed"),
        (b" \r\n", "document_malformed"),
        (b"a=1", "document_type"),
        (b"\xef\xbb\xbf<xml/>", "document_type"),
        ("<xml/>".encode("utf-16"), "document_type"),
        (b"\x0b<xml/>", "document_type"),
        (b"<xml", "document_malformed"),
        (b"{", "document_malformed"),
    ],
)
def test_bodies_that_are_no_documents(body: bytes, code: str) -> None:
    with pytest.raises(Refusal) as raised:
        read_body(body)
    assert raised.value.code == code


@settings(deadline=None)
@given(body=st.binary(max_size=40), query=st.text(max_size=30))
def test_arbitrary_pushes_are_refused(body: bytes, query: str) -> None:
    for account in (SAFE, PLAIN):
        refused(query, body, account)
    try:
        read_body(body)
    except Refusal as refusal:
        assert refusal.row.stage == "parse"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<xml><MsgType>text</MsgType></xml>", "text"),
        ("<xml><MsgType><![CDATA[Image]]></MsgType></xml>", "image"),
        ("<xml><MsgType>event</MsgType><Event>LOCATION</Event></xml>", "event.location"),
        ("<xml><MsgType>EVENT</MsgType><Event>subscribe</Event></xml>", "event.subscribe"),
        ("<xml><MsgType>text</MsgType><Event>subscribe</Event></xml>", "text"),
        ('{"MsgType":"event","Event":"CLICK"}', "event.click"),
    ],
)
def test_message_types(body: str, kind: str) -> None:
    assert message_type(read_body(body.encode())) == kind


@pytest.mark.parametrize(
    "body",
    [
        "<xml/>",
        "<xml><MsgType/></xml>",
        "<xml><msgtype>text</msgtype></xml>",
        "<xml><MsgType>event</MsgType></xml>",
        "<xml><MsgType>event</MsgType><Event/></xml>",
        "<xml><MsgType>text</MsgType><MsgType>event</MsgType></xml>",
        "<xml><MsgType>event</MsgType><Event>a</Event><Event>b</Event></xml>",
        "<xml><a><MsgType>text</MsgType></a></xml>",
        "<x><MsgType>text</MsgType></x>",
        '{"MsgType":{"a":"text"}}',
        '{"xml":{"MsgType":"text"}}',
    ],
)
def test_a_message_without_one_type_is_malformed(body: str) -> None:
    with pytest.raises(Refusal, match="document_malformed"):
        message_type(read_body(body.encode()))


def test_proofs_and_pushes_name_what_counts() -> None:
    query, _ = pushed()
    proof = read_proof(query, Mode.SAFE)
    assert (proof.timestamp, proof.nonce, proof.encrypted) == (str(NOW), "415670741", True)
    plain = read_proof(plain_query(), Mode.PLAIN)
    assert (plain.signature, plain.encrypted) == (signature.sign("AAAAA", str(NOW), "415670741"), False)
