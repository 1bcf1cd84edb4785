"""An emulated WeChat: its API server, and the side of it that pushes deliveries.

The pusher signs and seals with the project's own protocol code, which the official vectors check.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from proxy.document.xml_body import cdata
from proxy.emulate.server import Call, Result, json_result, run_forever
from proxy.wechat import signature
from proxy.wechat.envelope import EnvelopeKey, open_envelope, seal_envelope
from proxy.wechat.push import read_body

ACCESS_TOKEN = "emulated-access-token"  # noqa: S105 - of an emulation


class Api:
    """`/cgi-bin/message/custom/send`, and `/_sent` to see what followers received."""

    def __init__(self) -> None:
        self.sent: list[dict[str, object]] = []

    def handle(self, call: Call) -> Result:
        if call.path == "/_sent":
            return json_result(self.sent)
        if call.path != "/cgi-bin/message/custom/send":
            return json_result({"errcode": 48001, "errmsg": "api unauthorized"})
        if call.query != f"access_token={ACCESS_TOKEN}":
            return json_result({"errcode": 40001, "errmsg": "invalid credential"})
        self.sent.append(json.loads(call.body))
        return json_result({"errcode": 0, "errmsg": "ok"})


@dataclass(frozen=True, slots=True)
class Delivery:
    """One signed push: what is sent to the gateway, byte for byte."""

    query: str
    body: bytes


@dataclass(slots=True)
class Pusher:
    """WeChat's pushing side of one safe-mode account."""

    token: str
    encoding_aes_key: str
    app_id: str
    account_id: str = "gh_10f6c3c3ac5a"
    key: EnvelopeKey = field(init=False)

    def __post_init__(self) -> None:
        self.key = EnvelopeKey.from_text(self.encoding_aes_key)

    def message(self, openid: str, kind: str, **fields: str | float) -> str:
        """The document of a message; texts in CDATA, numbers bare, a fresh MsgId."""
        head = {"ToUserName": self.account_id, "FromUserName": openid, "CreateTime": int(time.time()), "MsgType": kind}
        tail = {} if kind == "event" else {"MsgId": secrets.randbelow(2**62) + 2**61}
        elements = (
            f"<{name}>{cdata(value) if isinstance(value, str) else value}</{name}>"
            for name, value in {**head, **fields, **tail}.items()
        )
        return f"<xml>{chr(10).join(elements)}\n</xml>"

    def deliver(self, document: str, *, openid: str = "", at: int | None = None, nonce: str = "") -> Delivery:
        """A safe-mode delivery of `document`, signed at `at` (Unix seconds, now if None)."""
        encrypt = seal_envelope(self.key, document.encode(), self.app_id, secrets.token_bytes(16))
        timestamp = str(int(time.time()) if at is None else at)
        nonce = nonce or str(secrets.randbelow(10**10))
        query = {
            "signature": signature.sign(self.token, timestamp, nonce),
            "timestamp": timestamp,
            "nonce": nonce,
            "openid": openid,
            "encrypt_type": "aes",
            "msg_signature": signature.sign(self.token, timestamp, nonce, encrypt),
        }
        body = f"<xml><ToUserName>{cdata(self.account_id)}</ToUserName><Encrypt>{cdata(encrypt)}</Encrypt></xml>"
        return Delivery(urlencode({name: value for name, value in query.items() if value}), body.encode())

    def verification(self, echo: str) -> str:
        """The query of a URL verification."""
        timestamp, nonce = str(int(time.time())), str(secrets.randbelow(10**10))
        signed = signature.sign(self.token, timestamp, nonce)
        return urlencode({"signature": signed, "timestamp": timestamp, "nonce": nonce, "echostr": echo})

    def open_reply(self, body: bytes) -> dict[str, str]:
        """The fields of a sealed passive reply, as WeChat reads them: signature first, then the envelope."""
        outer = {str(leaf.path[-1]): leaf.text for leaf in read_body(body).leaves}
        signature.verify(outer["MsgSignature"], self.token, outer["TimeStamp"], outer["Nonce"], outer["Encrypt"])
        inner = read_body(open_envelope(self.key, outer["Encrypt"], self.app_id))
        return {str(leaf.path[-1]): leaf.text for leaf in inner.leaves}


if __name__ == "__main__":
    run_forever(Api().handle, sys.argv[1], sys.argv[2])
