"""The embedded key service: KEKs in one file, each sealed under the unlock key. docs/spec/keyring.md is normative."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag

from proxy.crypto.data_key import DEK_SIZE, hkdf, key_id_of
from proxy.crypto.xaes import KEY_SIZE, NONCE_SIZE, TAG_SIZE, Xaes256Gcm
from proxy.kms.private_file import PrivateFile
from proxy.kms.service import NAME, REGION, KeysError, Slot, Wrapped
from proxy.kms.strict_json import MalformedError, Record, loads
from proxy.ports import Entropy, Owner

FILE = "kek.json"
FORMAT = 1
MAX_BYTES = 4 * 1024 * 1024
MAX_VERSION = 1_000_000

_KEK_AAD = "wxgate/1 kek"
_DEK_AAD = "wxgate/1 wrapped dek"
_SEALED_SIZE = NONCE_SIZE + KEY_SIZE + TAG_SIZE
_HEX = re.compile(rb"[0-9A-Fa-f]{64}")
# 32 random bytes have fewer distinct ones, or are all printable, once in more than 10^13 keys.
_MIN_DISTINCT = 12


def unlock_key(value: bytes) -> bytes:
    """The 32 bytes of an unlock key given raw, as 64 hex digits or in base64 (white space around the text is
    dropped). KeysError for anything else, a pass phrase or a placeholder among them."""
    key = value if len(value) == KEY_SIZE else _unlock_text(value.strip())
    if len(key) != KEY_SIZE or len(set(key)) < _MIN_DISTINCT or all(0x20 <= byte < 0x7F for byte in key):
        raise KeysError(
            "unlock key: not 32 random bytes, raw, in hex or in base64; make one with `openssl rand -hex 32`, and "
            "keep a copy: without it nothing can be decrypted"
        )
    return key


def _unlock_text(text: bytes) -> bytes:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text.decode())
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


@dataclass(frozen=True, slots=True)
class _Row:
    """A KEK as it lies in the file."""

    owner: Owner
    version: int
    sealed: bytes = field(repr=False)


class LocalKms:
    """A KeyService on `<state>/kek.json`. Holds the opened KEKs; `str` and `repr` show the file's name only."""

    def __init__(self, state: Path, unlock: bytes, entropy: Entropy) -> None:
        """`state`: an existing directory (0700). `unlock`: see `unlock_key`. Reads no file yet. Raises KeysError."""
        secret = unlock_key(unlock)
        self._file = PrivateFile(state / FILE, MAX_BYTES)
        self._seal = Xaes256Gcm(hkdf(secret, b"wxgate/1 kek seal", KEY_SIZE))
        self._entropy = entropy
        self._keks: dict[tuple[Owner, int], Xaes256Gcm] = {}
        # For the integrity tag of the keyring beside it.
        self.tag_key = hkdf(secret, b"wxgate/1 keyring tag", 32)

    def __repr__(self) -> str:
        return f"LocalKms({self._file.path})"

    def create_kek(self, owner: Owner) -> int:
        """See KeyService. The new KEK is on the disk, and was read back, when this returns."""
        with self._file.locked():
            rows = self._rows()
            # Opened first: a KEK sealed under another unlock key than its neighbours would be found out too late.
            self._keks = self._opened(rows)
            if newest := self._newest(owner):
                return newest
            self._file.replace(_encode([*rows, self._new_row(owner)]))
        self.check()
        return self._newest(owner)

    def new_dek(self, slot: Slot) -> tuple[bytes, Wrapped]:
        """See KeyService."""
        if not self._newest(slot.owner):
            self.check()
        version = self._newest(slot.owner) or 1
        kek = self._kek(slot.owner, version)
        dek, nonce = self._entropy(DEK_SIZE), self._entropy(NONCE_SIZE)
        key_id = key_id_of(dek)
        return dek, Wrapped(key_id, version, nonce + kek.encrypt(nonce, dek, _dek_aad(slot, key_id)))

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        """See KeyService."""
        kek = self._kek(slot.owner, wrapped.kek_version)
        try:
            return _open(kek, wrapped.sealed, _dek_aad(slot, wrapped.key_id))
        except (InvalidTag, ValueError):
            raise KeysError(
                f"data key {wrapped.key_id.hex()} ({slot}): does not open under its KEK; restore the keyring and "
                f"{FILE} from the same backup"
            ) from None

    def check(self) -> None:
        """See KeyService. Reads the file anew."""
        self._keks = self._opened(self._rows())

    def _kek(self, owner: Owner, version: int) -> Xaes256Gcm:
        if (owner, version) not in self._keks:
            self.check()  # another process may have made it
        kek = self._keks.get((owner, version))
        if kek is None:
            raise KeysError(
                f"{self._file.path}: no KEK version {version} of {owner.tenant}/{owner.region}; restore the file, or "
                "run `wxgate keys init` if this owner is new"
            )
        return kek

    def _newest(self, owner: Owner) -> int:
        return max((version for of, version in self._keks if of == owner), default=0)

    def _new_row(self, owner: Owner) -> _Row:
        kek, nonce = self._entropy(KEY_SIZE), self._entropy(NONCE_SIZE)
        return _Row(owner, 1, nonce + self._seal.encrypt(nonce, kek, _kek_aad(owner, 1)))

    def _rows(self) -> list[_Row]:
        data = self._file.read()
        try:
            return [] if data is None else _decode(data)
        except MalformedError as error:
            raise KeysError(f"{self._file.path}: damaged: {error}; restore it from a backup") from None

    def _opened(self, rows: list[_Row]) -> dict[tuple[Owner, int], Xaes256Gcm]:
        try:
            return {
                (row.owner, row.version): Xaes256Gcm(_open(self._seal, row.sealed, _kek_aad(row.owner, row.version)))
                for row in rows
            }
        except (InvalidTag, ValueError):
            raise KeysError(
                f"{self._file.path}: a KEK does not open: the unlock key is another one, or the file was changed; "
                "check the reference to the unlock key, then restore the file"
            ) from None


def _open(key: Xaes256Gcm, sealed: bytes, aad: bytes) -> bytes:
    return key.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], aad)


def _aad(*items: str) -> bytes:
    """As in tokens: each item's UTF-8 length as u16 big-endian, then its bytes."""
    return b"".join(len(raw).to_bytes(2, "big") + raw for raw in (item.encode() for item in items))


def _kek_aad(owner: Owner, version: int) -> bytes:
    return _aad(_KEK_AAD, owner.tenant, owner.region, str(version))


def _dek_aad(slot: Slot, key_id: bytes) -> bytes:
    owner = slot.owner
    return _aad(_DEK_AAD, owner.tenant, owner.region, key_id.hex(), slot.purpose.value, slot.group)


def _encode(rows: list[_Row]) -> bytes:
    keks = [
        {
            "tenant": row.owner.tenant,
            "region": row.owner.region,
            "version": row.version,
            "sealed": base64.b64encode(row.sealed).decode(),
        }
        for row in rows
    ]
    data = json.dumps({"version": FORMAT, "keks": keks}, indent=1).encode() + b"\n"
    try:
        _decode(data)
    except MalformedError as error:
        raise KeysError(f"{FILE}: this KEK cannot be kept: {error}; check tenant and region") from None
    return data


def _decode(data: bytes) -> list[_Row]:
    record = Record(loads(data), {"version", "keks"})
    record.number("version", FORMAT, FORMAT)
    rows = [_row(item) for item in record.items("keks")]
    if len({(row.owner, row.version) for row in rows}) != len(rows):
        raise MalformedError("a KEK version is there twice")
    return rows


def _row(item: object) -> _Row:
    record = Record(item, {"tenant", "region", "version", "sealed"})
    owner = Owner(record.text("tenant", NAME), record.text("region", REGION))
    sealed = record.data("sealed", _SEALED_SIZE)
    if len(sealed) != _SEALED_SIZE:
        raise MalformedError(f'"sealed" does not have {_SEALED_SIZE} bytes')
    return _Row(owner, record.number("version", 1, MAX_VERSION), sealed)
