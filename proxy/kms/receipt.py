"""Receipts of shredding: what was destroyed and when, signed for whoever has the gateway's public key.

Pure. Normative text: docs/spec/receipt.md. Signature: Ed25519 (RFC 8032) over the receipt's canonical JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from proxy.kms.service import NAME, REGION, Destroyed
from proxy.kms.strict_json import MalformedError, Record, loads
from proxy.ports import Owner

VERSION = 1
MAX_BYTES = 16 * 1024 * 1024

_KEY = re.compile(r"[A-Za-z0-9+/]{43}=", re.ASCII)
_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{86}==", re.ASCII)
_KEY_ID = re.compile(r"([0-9a-f]{32}){1,2}", re.ASCII)
_TEXT = re.compile(r"[ -~]{1,65536}", re.ASCII)
_MAX_TIME = 253_402_300_799
_MEMBERS = frozenset(
    {"version", "kind", "tenant", "region", "at", "service", "operation", "effective", "key_ids", "public_key"}
)
KIND = "wxgate shredding receipt"


class ReceiptError(ValueError):
    """No receipt, or not one of this key. The text says which."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """`service` and `destroyed`: what the key service did with the KEK. `key_ids`: every data key that was under it and
    stood in the keyring. `at`: Unix seconds."""

    owner: Owner
    at: int
    service: str
    destroyed: Destroyed
    key_ids: tuple[bytes, ...]

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The text of the receipt, for keeping and for `verified`."""
        members = self._members() | {"public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode()}
        signature = base64.b64encode(key.sign(_canonical(members))).decode()
        return json.dumps(members | {"signature": signature}, indent=1).encode() + b"\n"

    def _members(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "kind": KIND,
            "tenant": self.owner.tenant,
            "region": self.owner.region,
            "at": self.at,
            "service": self.service,
            "operation": self.destroyed.operation,
            "effective": self.destroyed.effective,
            "key_ids": [key_id.hex() for key_id in sorted(self.key_ids)],
        }


def verified(data: bytes, public_key: str) -> Receipt:
    """The receipt in `data` if `public_key` (base64, 32 bytes), had from elsewhere than the receipt, signed it.

    Raises ReceiptError.
    """
    try:
        record = Record(loads(data), _MEMBERS | {"signature"})
        signature = base64.b64decode(record.text("signature", _SIGNATURE))
        key = Ed25519PublicKey.from_public_bytes(_decoded_key(public_key))
        if record.text("public_key", _KEY) != public_key.strip():
            raise ReceiptError("it was signed with another key than this one")
        members = json.loads(data)
        del members["signature"]
        key.verify(signature, _canonical(members))
        return _receipt(record)
    except MalformedError as error:
        raise ReceiptError(f"not a receipt: {error}") from None
    except InvalidSignature:
        raise ReceiptError("the signature is wrong: it was changed, or made up") from None


def _receipt(record: Record) -> Receipt:
    record.number("version", VERSION, VERSION)
    record.text("kind", re.compile(re.escape(KIND)))
    owner = Owner(record.text("tenant", NAME), record.text("region", REGION))
    effective = record.number_or_null("effective", 0, _MAX_TIME)
    destroyed = Destroyed(record.text("operation", _TEXT), effective)
    key_ids = tuple(_key_id(item) for item in record.items("key_ids"))
    return Receipt(owner, record.number("at", 0, _MAX_TIME), record.text("service", NAME), destroyed, key_ids)


def _key_id(item: object) -> bytes:
    if not isinstance(item, str) or not _KEY_ID.fullmatch(item):
        raise MalformedError('"key_ids" holds something else')
    return bytes.fromhex(item)


def _decoded_key(text: str) -> bytes:
    try:
        if not _KEY.fullmatch(text.strip()):
            raise ValueError
        return base64.b64decode(text.strip(), validate=True)
    except (ValueError, binascii.Error):
        raise ReceiptError("the public key is not 32 bytes in base64, as `wxgate keys receipt key` prints it") from None


def _canonical(members: dict[str, Any]) -> bytes:
    """Members sorted, no white space, ASCII."""
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
