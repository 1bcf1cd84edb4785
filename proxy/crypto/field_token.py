"""The field token: what stands in the CRM in place of a value. Pure. Normative text: docs/spec/token.md.

    randomised     wg1. / wn1. / wl1.   base64url( key_id[16] || nonce[24] || ciphertext || tag[16] )
    deterministic  wd1.                 lower-case base32( key_id[16] || siv[16] || ciphertext )

both without padding and in their one canonical spelling. `wg` is a string, `wn` a number, `wl` true, false or null;
a value under `wd` comes back as a string: equal values must give equal tokens whatever type a format wrote them as.
With customer-brought keys it is wg2., wn2., wl2. and wd2., and key_id[32].
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache

from cryptography.exceptions import InvalidTag

from proxy.crypto import base32
from proxy.crypto.associated_data import items
from proxy.crypto.data_key import BROUGHT_KEY_ID_SIZE, KEY_ID_SIZE, DataKey
from proxy.crypto.xaes import NONCE_SIZE, TAG_SIZE
from proxy.record import record

PREFIX_SIZE = 4
# By the size of the key id.
DETERMINISTIC = {KEY_ID_SIZE: "wd1.", BROUGHT_KEY_ID_SIZE: "wd2."}
RANDOMISED = {
    KEY_ID_SIZE: {"s": "wg1.", "n": "wn1.", "l": "wl1."},
    BROUGHT_KEY_ID_SIZE: {"s": "wg2.", "n": "wn2.", "l": "wl2."},
}
_TYPES = {prefix: kind for prefixes in RANDOMISED.values() for kind, prefix in prefixes.items()}
_EQUAL = frozenset(DETERMINISTIC.values())
_KEY_ID_SIZES = {prefix: size for size in RANDOMISED for prefix in (DETERMINISTIC[size], *RANDOMISED[size].values())}
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_BASE32 = re.compile(r"[a-z2-7]+", re.ASCII)
_SIV_SIZE = 16  # RFC 5297
# A token longer than the largest body cannot have come from here.
MAX_TOKEN = 8 * 1024 * 1024
_URL_SAFE = bytes.maketrans(b"+/", b"-_")  # RFC 4648 section 5


class TokenError(Exception):
    """The text is no token, or does not open. Says no more: a reason would be an oracle."""


@record
class Scope:
    """What a token is bound to besides its key: tenant, region, datum name (`as`) and bound values, in order."""

    tenant: str
    region: str
    datum: str
    binds: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Scope({self.datum}, {len(self.binds)} bound)"

    def aad(self, prefix: str) -> bytes:
        """For prefix, tenant, region, datum and each bind: UTF-8 length as u16 big-endian, then the bytes.

        ValueError if an item has 65 536 bytes or more.
        """
        fixed = _fixed_aad(prefix, self.tenant, self.region, self.datum)
        return fixed + items(self.binds) if self.binds else fixed


@lru_cache(1024)
def _fixed_aad(*texts: str) -> bytes:
    """What configuration and policy say; bound values are personal data and are never kept."""
    return items(texts)


@record
class Parsed:
    """A token taken apart, not yet opened."""

    prefix: str
    key_id: bytes
    body: bytes

    @property
    def deterministic(self) -> bool:
        return self.prefix in _EQUAL


def seal(key: DataKey, kind: str, text: str, scope: Scope, nonce: bytes) -> str:
    """A randomised token. `kind`: "s", "n" or "l"; `nonce`: 24 fresh bytes."""
    prefix = RANDOMISED[len(key.id)][kind]
    sealed = key.seal(nonce, text.encode(), scope.aad(prefix))
    spelt = binascii.b2a_base64(key.id + nonce + sealed, newline=False)
    return prefix + spelt.translate(_URL_SAFE).rstrip(b"=").decode()


def seal_equal(key: DataKey, text: str, scope: Scope) -> str:
    """A deterministic token: equal for equal key, text and scope."""
    prefix = DETERMINISTIC[len(key.id)]
    sealed = key.seal_equal(text.encode(), scope.aad(prefix))
    return prefix + base32.encode(key.id + sealed)


def parse(token: str) -> Parsed:
    """Takes a token apart. TokenError unless it is one in canonical spelling."""
    prefix, text = token[:PREFIX_SIZE], token[PREFIX_SIZE:]
    if len(text) > MAX_TOKEN:
        raise TokenError
    size = _KEY_ID_SIZES.get(prefix)
    if size is None:
        raise TokenError
    raw, least = (_base32(text), _SIV_SIZE) if prefix in _EQUAL else (_base64url(text), NONCE_SIZE + TAG_SIZE)
    if len(raw) < size + least:
        raise TokenError
    return Parsed(prefix, raw[:size], raw[size:])


def open_token(key: DataKey, parsed: Parsed, scope: Scope) -> tuple[str, str]:
    """Kind ("s", "n", "l"; deterministic: "s") and text of a token.

    TokenError if it does not open under `key` and `scope`.
    """
    try:
        if parsed.key_id != key.id:
            raise TokenError
        aad = scope.aad(parsed.prefix)
        if parsed.prefix in _EQUAL:
            return "s", key.open_equal(parsed.body, aad).decode()
        nonce, sealed = parsed.body[:NONCE_SIZE], parsed.body[NONCE_SIZE:]
        return _TYPES[parsed.prefix], key.open(nonce, sealed, aad).decode()
    except (InvalidTag, ValueError):
        raise TokenError from None


def _base64url(text: str) -> bytes:
    """Canonical spelling only: ASCII alphabet, no padding, spare bits zero (RFC 4648 section 3.5)."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise TokenError
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise TokenError
    return raw


def _base32(text: str) -> bytes:
    if not _BASE32.fullmatch(text):
        raise TokenError
    try:
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except binascii.Error:
        raise TokenError from None
    if base32.encode(raw) != text:
        raise TokenError
    return raw
