"""Passive replies: what may go back to WeChat, sealed and signed when the push was. Pure.

Source: developers.weixin.qq.com, passive user reply and message encryption (protocol 1.6).
"""

from __future__ import annotations

import json

from proxy.document.xml_body import cdata
from proxy.wechat import signature
from proxy.wechat.account import Account
from proxy.wechat.envelope import EnvelopeKey, seal_envelope

SUCCESS = b"success"
"""Received, nothing to send. Never encrypted, in no mode."""


def says_nothing(body: bytes) -> bool:
    """Whether an upstream's answer means "received, nothing to send"."""
    return body.strip(b" \t\r\n") in (b"", SUCCESS)


def seal_reply(
    reply: bytes, account: Account, key: EnvelopeKey, *, form: str, random_16: bytes, timestamp: int, nonce: str
) -> bytes:
    """The encrypted reply around the document `reply`, in the form ("xml" or "json") the push had.

    `timestamp`: now, Unix seconds; `nonce`: letters and digits, fresh or the request's.
    """
    encrypt = seal_envelope(key, reply, account.app_id, random_16)
    signed = signature.sign(account.token, str(timestamp), nonce, encrypt)
    if form == "json":
        members = {"Encrypt": encrypt, "MsgSignature": signed, "TimeStamp": timestamp, "Nonce": nonce}
        return json.dumps(members, separators=(",", ":")).encode()
    return (
        f"<xml><Encrypt>{cdata(encrypt)}</Encrypt><MsgSignature>{cdata(signed)}</MsgSignature>"
        f"<TimeStamp>{timestamp}</TimeStamp><Nonce>{cdata(nonce)}</Nonce></xml>"
    ).encode()
