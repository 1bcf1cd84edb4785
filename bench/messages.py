"""WeChat's side of the benchmark: safe-mode pushes, each signed afresh and unique, written to a file for wrk.

Standalone on purpose: it imports nothing from `proxy`, so an error in wxgate's reading of the protocol cannot
hide behind the same error here. Source of the rules: WeChat's message encryption and decryption guide
(`signature` and `msg_signature` are SHA-1 over sorted strings, the envelope is AES-256-CBC padded to 32 bytes).
"""

import base64
import hashlib
import itertools
import secrets
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PUSH_PATH = "/wechat/push"
FOLLOWERS = 1_000
CONTENT = "您好，我上周在贵店订购的茶叶到今天还没有发货，请帮我查询一下物流信息，谢谢，急等。"
_BLOCK = 32
_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Account:
    """An Official Account: its `gh_` name, app id, Token and 43-character EncodingAESKey."""

    name: str
    app_id: str
    token: str
    encoding_aes_key: str

    @classmethod
    def generate(cls) -> "Account":
        """Return an account with fresh secrets."""
        return cls(
            name=f"gh_{secrets.token_hex(6)}",
            app_id=f"wx{secrets.token_hex(8)}",
            token=_alphanumeric(32),
            encoding_aes_key=_alphanumeric(43),
        )

    @property
    def aes_key(self) -> bytes:
        """The 32 bytes behind EncodingAESKey; its last character carries two unused bits."""
        return base64.b64decode(self.encoding_aes_key + "=")


@dataclass(frozen=True, slots=True)
class Push:
    """One delivery: the request target with its query, and the body."""

    target: str
    body: bytes

    def request(self, host: str, *, close: bool) -> bytes:
        """Return the bytes of the HTTP/1.1 request, with the headers WeChat is known to send."""
        head = (
            f"POST {self.target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/4.0\r\nAccept: */*\r\n"
            f"Content-Type: text/xml\r\nContent-Length: {len(self.body)}\r\n"
            f"Connection: {'close' if close else 'Keep-Alive'}\r\n\r\n"
        )
        return head.encode() + self.body


def pushes(account: Account) -> Iterator[Push]:
    """Yield text messages without end, stamped with the present second, no two alike in MsgId, nonce or cipher text."""
    openids = [_openid() for _ in range(FOLLOWERS)]
    # Nanoseconds as the first MsgId: a later call starts above all that an earlier one handed out.
    for number in itertools.count(time.time_ns()):
        yield _push(account, openids[number % FOLLOWERS], number, int(time.time()))


def write_requests(path: Path, account: Account, count: int, host: str, *, close: bool) -> None:
    """Write `count` fresh requests to `path`, each as an eight-digit length, a line feed, and the bytes."""
    with path.open("wb") as file:
        for push in itertools.islice(pushes(account), count):
            request = push.request(host, close=close)
            file.write(b"%08d\n" % len(request))
            file.write(request)


def _push(account: Account, openid: str, number: int, now: int) -> Push:
    document = (
        f"<xml><ToUserName><![CDATA[{account.name}]]></ToUserName><FromUserName><![CDATA[{openid}]]></FromUserName>"
        f"<CreateTime>{now}</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{CONTENT}]]></Content>"
        f"<MsgId>{number}</MsgId></xml>"
    )
    sealed = _seal(account, document.encode())
    timestamp, nonce = str(now), f"{number % 10**10:010d}"
    target = (
        f"{PUSH_PATH}?signature={_sign(account.token, timestamp, nonce)}&timestamp={timestamp}&nonce={nonce}"
        f"&openid={openid}&encrypt_type=aes&msg_signature={_sign(account.token, timestamp, nonce, sealed)}"
    )
    body = f"<xml><ToUserName><![CDATA[{account.name}]]></ToUserName><Encrypt><![CDATA[{sealed}]]></Encrypt></xml>"
    return Push(target, body.encode())


def _seal(account: Account, message: bytes) -> str:
    clear = secrets.token_bytes(16) + len(message).to_bytes(4) + message + account.app_id.encode()
    padding = _BLOCK - len(clear) % _BLOCK
    key = account.aes_key
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(encryptor.update(clear + bytes([padding]) * padding) + encryptor.finalize()).decode()


def _sign(*parts: str) -> str:
    return hashlib.sha1("".join(sorted(parts)).encode()).hexdigest()


def _openid() -> str:
    return "o" + _alphanumeric(27)


def _alphanumeric(length: int) -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))
