"""WeChat's SHA-1 signatures over pushes and replies. Pure.

Source: developers.weixin.qq.com, message push: `signature` covers Token, timestamp and nonce; `msg_signature` covers
the text of `Encrypt` too. Neither covers the path, other query parameters or (in plain mode) the body.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from proxy.refusal import Refusal

# The items are joined without separators, so that a digit moved from one to the other gives the same hash.
# The forms are therefore fixed before anything is hashed.
_TIMESTAMP = re.compile(r"[0-9]{10}", re.ASCII)
_NONCE = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{40}", re.ASCII)


def sign(token: str, timestamp: str, nonce: str, encrypt: str | None = None) -> str:
    """SHA-1 over the items in ascending byte order, as 40 lower-case hex digits."""
    items = [token, timestamp, nonce] if encrypt is None else [token, timestamp, nonce, encrypt]
    items.sort()  # code points sort like their UTF-8 bytes
    return hashlib.sha1("".join(items).encode(), usedforsecurity=False).hexdigest()


def verify(signature: str, token: str, timestamp: str, nonce: str, encrypt: str | None = None) -> None:
    """Returns if `signature` is right for the items.

    Raises Refusal `signature_malformed` if an item is not of its form, `signature_wrong` if the hash differs.
    """
    if not (_TIMESTAMP.fullmatch(timestamp) and _NONCE.fullmatch(nonce) and _SIGNATURE.fullmatch(signature)):
        raise Refusal("signature_malformed")
    if not hmac.compare_digest(sign(token, timestamp, nonce, encrypt), signature):
        raise Refusal("signature_wrong")
