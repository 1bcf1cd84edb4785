"""What makes two deliveries the same: names by which deliveries and messages are remembered. Pure.

Official rule: messages by MsgId, events by FromUserName and CreateTime. Both are too coarse in practice (protocol 1.7:
genuine messages were lost), so the account, the sender and, for events, the payload go in as well.
"""

from __future__ import annotations

import hashlib

from proxy.document.tree import Document
from proxy.wechat.account import Account
from proxy.wechat.push import Proof, field


def triple_key(account: Account, proof: Proof) -> bytes:
    """16 bytes that name one signed triple: account, timestamp, nonce, signature."""
    return _digest(account.name, proof.timestamp, proof.nonce, proof.signature)


def payload_key(body: bytes) -> bytes:
    """16 bytes that name the opened payload."""
    return hashlib.sha256(body).digest()[:16]


def message_key(account: Account, document: Document, body: bytes) -> bytes:
    """16 bytes that name the message, whichever triple it is delivered under."""
    sender, created = field(document, "FromUserName") or "", field(document, "CreateTime") or ""
    message_id = field(document, "MsgId")
    if message_id:
        return _digest(account.name, sender, created, message_id)
    return _digest(account.name, sender, created, "", f"64:{hashlib.sha256(body).hexdigest()},")


def _digest(one: str, two: str, three: str, four: str, more: str = "") -> bytes:
    """`more`: further netstrings. As such no other items give the same bytes."""
    text = f"{len(one)}:{one},{len(two)}:{two},{len(three)}:{three},{len(four)}:{four},{more}"
    return hashlib.sha256(text.encode()).digest()[:16]
