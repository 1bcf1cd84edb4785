"""Pushes: the query that carries the proof, the body that carries the envelope, what kind of message it is. Pure.

Source: developers.weixin.qq.com, message push and URL verification (protocol 1.2 to 1.4).
"""

from __future__ import annotations

import re

from proxy.document.json_body import read_json
from proxy.document.query import read_values
from proxy.document.tree import Document
from proxy.document.xml_body import read_xml
from proxy.record import record
from proxy.refusal import Refusal
from proxy.wechat import signature
from proxy.wechat.account import Account, Mode
from proxy.wechat.envelope import EnvelopeKey, open_envelope

_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_ECHO = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


@record
class Proof:
    """The signed parameters of one delivery. `signature` is the one that counts in this form of push."""

    timestamp: str
    nonce: str
    signature: str
    encrypted: bool


@record
class Opened:
    """A proven push: its document and, for an encrypted one, the key that opened it (the reply is sealed with it)."""

    document: Document
    body: bytes
    key: EnvelopeKey | None

    def __repr__(self) -> str:
        return f"Opened({self.document.form})"


def read_body(body: bytes) -> Document:
    """XML or JSON by the first byte that is no blank; WeChat's Content-Type says nothing reliable (protocol 1.3)."""
    first = body.lstrip(b" \t\r\n")[:1]
    if first == b"<":
        return read_xml(body)
    if first in (b"{", b"["):
        return read_json(body)
    raise Refusal("document_type" if first else "document_malformed")


def read_proof(query: str, mode: Mode) -> Proof:
    """The proof in a push's query. Refusal `signature_malformed`, or `mode_downgraded` if a safe-mode account is
    pushed to in clear: a plain triple captured once would prove any body."""
    values = _query_values(query)
    kind = values.get("encrypt_type", "raw")
    encrypted = kind == "aes" and "msg_signature" in values
    if kind not in ("raw", "aes"):
        raise Refusal("signature_malformed")
    if mode is not Mode.PLAIN and not encrypted:
        raise Refusal("mode_downgraded")
    if mode is Mode.PLAIN and (kind == "aes" or "msg_signature" in values):
        raise Refusal("signature_malformed")
    name = "msg_signature" if encrypted else "signature"
    try:
        return Proof(values["timestamp"], values["nonce"], values[name], encrypted)
    except KeyError:
        raise Refusal("signature_malformed") from None


def _query_values(query: str) -> dict[str, str]:
    try:
        return read_values(query)
    except Refusal:
        raise Refusal("signature_malformed") from None


def verify_url(query: str, account: Account, now: int) -> bytes:
    """What the GET of a URL verification is answered with: `echostr`, bytes as they came (decoded once).

    In every mode `signature` counts and `echostr` is not covered by it, so its form is bounded (protocol 1.2).
    """
    values = _query_values(query)
    try:
        timestamp, nonce, echo = values["timestamp"], values["nonce"], values["echostr"]
        signature.verify(values["signature"], account.token, timestamp, nonce)
    except KeyError:
        raise Refusal("signature_malformed") from None
    check_fresh(timestamp, account.window, now)
    if not _ECHO.fullmatch(echo):
        raise Refusal("signature_malformed")
    return echo.encode()


def check_fresh(timestamp: str, window: int, now: int) -> None:
    """Refusal `timestamp_stale` if `timestamp` (Unix seconds) is more than `window` seconds from `now`."""
    if abs(int(timestamp) - now) > window:
        raise Refusal("timestamp_stale")


def verify_push(body: bytes, proof: Proof, account: Account, now: int) -> str | None:
    """Checks signature and freshness of a push; returns the text of its envelope, None for a plain one.

    The body of a plain push is not covered by anything (protocol 1.4): it is only as good as the triple is fresh.
    """
    encrypt = _envelope_text(body) if proof.encrypted else None
    signature.verify(proof.signature, account.token, proof.timestamp, proof.nonce, encrypt)
    check_fresh(proof.timestamp, account.window, now)
    return encrypt


def _envelope_text(body: bytes) -> str:
    """Before anything is proved: whatever is wrong with the body, it is as good as unsigned."""
    try:
        encrypt = field(read_body(body), "Encrypt")
    except Refusal:
        raise Refusal("signature_malformed") from None
    if encrypt is None:
        raise Refusal("signature_malformed")
    return encrypt.strip(" \t\r\n")


def open_push(body: bytes, encrypt: str | None, account: Account) -> Opened:
    """The document of a verified push: out of the envelope alone, never the clear fields beside it (protocol 1.3)."""
    if encrypt is None:
        return Opened(read_body(body), body, None)
    for key in account.keys:
        try:
            message = open_envelope(key, encrypt, account.app_id)
        except Refusal:
            continue
        return Opened(read_body(message), message, key)
    raise Refusal("envelope_broken")


def field(document: Document, name: str) -> str | None:
    """A top-level field of a push or reply by name, in XML below the root element."""
    return document.single("xml", name) if document.form == "xml" else document.single(name)


def message_type(document: Document) -> str:
    """What policies match on: `text`, `image`, ..., and `event.subscribe`, `event.location` for events.

    Lower-case: the case of event names differs between WeChat's products (protocol 2.1).
    Refusal `document_malformed` without MsgType.
    """
    kind = _word(document, "MsgType")
    return f"event.{_word(document, 'Event')}" if kind == "event" else kind


def _word(document: Document, name: str) -> str:
    # Without dots: a MsgType must not be able to pass for an event.
    value = field(document, name) or ""
    if not _WORD.fullmatch(value):
        raise Refusal("document_malformed")
    return value.lower()
