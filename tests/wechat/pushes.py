"""The pushes the tests here are made of: an account, its keys, and what WeChat would send to it."""

from dataclasses import replace
from urllib.parse import quote

import pytest

from proxy.refusal import Refusal
from proxy.wechat import signature
from proxy.wechat.account import Account, Mode
from proxy.wechat.envelope import EnvelopeKey, seal_envelope
from proxy.wechat.push import Opened, open_push, read_proof, verify_push

NOW = 1714112445
KEY, PREVIOUS, FOREIGN = (EnvelopeKey.from_text(letter * 43) for letter in "KPF")
SAFE = Account("acme", "wxba5fad812f8e6fb9", Mode.SAFE, token="AAAAA", keys=(KEY, PREVIOUS))
COMPATIBLE, PLAIN = replace(SAFE, mode=Mode.COMPATIBLE), replace(SAFE, mode=Mode.PLAIN, keys=())
MESSAGE = "<xml><FromUserName>o1</FromUserName><MsgType>text</MsgType><Content>你好 🙂</Content></xml>".encode()


def query_of(**values: str) -> str:
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items())


def plain_query(token: str = "AAAAA", timestamp: str = str(NOW), nonce: str = "415670741", **more: str) -> str:
    signed = signature.sign(token, timestamp, nonce)
    return query_of(signature=signed, timestamp=timestamp, nonce=nonce, **more)


def pushed(
    message: bytes = MESSAGE, *, key: EnvelopeKey = KEY, clear: str = "", app_id: str = SAFE.app_id
) -> tuple[str, bytes]:
    """Query and body of an encrypted push as WeChat makes it."""
    encrypt = seal_envelope(key, message, app_id, bytes(16))
    body = f"<xml>{clear}<ToUserName>gh_1</ToUserName><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"
    return safe_query(encrypt), body.encode()


def safe_query(encrypt: str, timestamp: str = str(NOW), nonce: str = "415670741") -> str:
    signed = signature.sign("AAAAA", timestamp, nonce, encrypt)
    return plain_query(timestamp=timestamp, nonce=nonce, openid="o1", encrypt_type="aes", msg_signature=signed)


def receive(query: str, body: bytes, account: Account = SAFE, now: int = NOW) -> Opened:
    proof = read_proof(query, account.mode)
    return open_push(body, verify_push(body, proof, account, now), account)


def refused(query: str, body: bytes, account: Account = SAFE, now: int = NOW) -> str:
    with pytest.raises(Refusal) as raised:
        receive(query, body, account, now)
    return raised.value.code
