"""The embedded key service: KEKs in one file, each sealed under the unlock key. docs/spec/keyring.md is normative."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.exceptions import InvalidTag

from proxy.crypto.associated_data import items
from proxy.crypto.data_key import hkdf, key_id_of
from proxy.crypto.secret_bytes import SecretBytes
from proxy.crypto.xaes import KEY_SIZE, NONCE_SIZE, Xaes256Gcm
from proxy.kms.kek_file import FILE, KekFile, Row
from proxy.kms.service import Destroyed, KeysError, Slot, Wrapped, context
from proxy.ports import Entropy, Owner

_HEX = re.compile(rb"[0-9A-Fa-f]{64}")
# 32 random bytes have fewer distinct ones, or are all printable, once in more than 10^13 keys.
_MIN_DISTINCT = 12


def unlock_key(value: bytes) -> SecretBytes:
    """The 32 bytes of an unlock key given raw, as 64 hex digits or in base64 (white space around the text is
    dropped). KeysError for anything else, a pass phrase or a placeholder among them."""
    key = SecretBytes(value if len(value) == KEY_SIZE else _unlock_text(value.strip()))
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


class LocalKms:
    """A KeyService on `<state>/kek.json`. Holds the opened KEKs; `str` and `repr` show the file's name only."""

    def __init__(self, state: Path, unlock: bytes, entropy: Entropy, name: str = "local") -> None:
        """`state`: an existing directory (0700). `unlock`: see `unlock_key`. Reads no file yet. Raises KeysError."""
        secret = unlock_key(unlock)
        self.name = name
        self._file = KekFile(state)
        self._seal = Xaes256Gcm(hkdf(secret, b"wxgate/1 kek seal", KEY_SIZE))
        self._entropy = entropy
        self._keks: dict[tuple[Owner, int], Xaes256Gcm] = {}
        self._read_at: tuple[int, ...] | None = None
        # For the integrity tag of the keyring beside it.
        self.tag_key = hkdf(secret, b"wxgate/1 keyring tag", 32)

    def __repr__(self) -> str:
        return f"LocalKms({self._file.path})"

    def create_kek(self, owner: Owner) -> int:
        """See KeyService. The new KEK is on the disk, and was read back, when this returns."""
        with self._file.locked():
            # Opened first: a KEK sealed under another unlock key than its neighbours would be found out too late.
            rows = self._read()
            if not self._newest(owner):
                self._add(owner, rows)
            return self._newest(owner)

    def rotate_kek(self, owner: Owner) -> int:
        """See KeyService; on the disk as after `create_kek`."""
        with self._file.locked():
            rows = self._read()
            self._require(owner, self._newest(owner))
            self._add(owner, rows)
            return self._newest(owner)

    def wrap(self, slot: Slot, dek: bytes) -> Wrapped:
        """See KeyService."""
        self._refresh()
        version = self._newest(slot.owner)
        kek = self._require(slot.owner, version)
        key_id, nonce = key_id_of(dek), self._entropy(NONCE_SIZE)
        return Wrapped(key_id, self.name, version, nonce + kek.encrypt(nonce, dek, context(slot, key_id)))

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> SecretBytes:
        """See KeyService."""
        self._refresh()
        kek = self._require(slot.owner, wrapped.kek_version)
        try:
            return _open(kek, wrapped.sealed, context(slot, wrapped.key_id))
        except (InvalidTag, ValueError):
            raise KeysError(
                f"data key {wrapped.key_id.hex()} ({slot}): does not open under its KEK; restore the keyring and "
                f"{FILE} from the same backup"
            ) from None

    def rewrap(self, slot: Slot, wrapped: Wrapped) -> Wrapped:
        """See KeyService."""
        dek = self.unwrap(slot, wrapped)
        return wrapped if wrapped.kek_version == self._newest(slot.owner) else self.wrap(slot, dek)

    def destroy_kek(self, owner: Owner) -> Destroyed:
        """See KeyService. A copy of the file made before, with the unlock key, still opens everything."""
        with self._file.locked():
            rows = self._read()
            versions = [row.version for row in rows if row.owner == owner]
            if not versions:
                self._require(owner, 0)
            self._file.replace([replace(row, sealed=b"") if row.owner == owner else row for row in rows])
            self._read()
        numbers = ", ".join(map(str, versions))
        return Destroyed(f"removed version {numbers} of {owner.tenant}/{owner.region} from {FILE}")

    def check(self) -> None:
        """See KeyService. Reads the file anew."""
        self._read()

    def _refresh(self) -> None:
        """Takes up what another process made or destroyed since the file was read."""
        if self._read_at is None or self._file.stamp() != self._read_at:
            self._read()

    def _read(self) -> list[Row]:
        """Opens every KEK in the file; its rows."""
        read_at = self._file.stamp()  # before the content: a change in between is then seen the next time
        rows = self._file.read()
        self._keks = self._opened(rows)
        self._read_at = read_at
        return rows

    def _add(self, owner: Owner, rows: Sequence[Row]) -> None:
        version = 1 + max((row.version for row in rows if row.owner == owner), default=0)
        kek, nonce = SecretBytes(self._entropy(KEY_SIZE)), self._entropy(NONCE_SIZE)
        sealed = nonce + self._seal.encrypt(nonce, kek, _kek_aad(owner, version))
        self._file.replace([*rows, Row(owner, version, sealed)])
        self._read()

    def _require(self, owner: Owner, version: int) -> Xaes256Gcm:
        kek = self._keks.get((owner, version))
        if kek is None:
            which = f"KEK version {version}" if version else "KEK"
            raise KeysError(
                f"{self._file.path}: no {which} of {owner.tenant}/{owner.region}; restore the file unless it was "
                "destroyed on purpose, or run `wxgate keys init` if this owner is new"
            )
        return kek

    def _newest(self, owner: Owner) -> int:
        return max((version for of, version in self._keks if of == owner), default=0)

    def _opened(self, rows: Sequence[Row]) -> dict[tuple[Owner, int], Xaes256Gcm]:
        try:
            return {
                (row.owner, row.version): Xaes256Gcm(_open(self._seal, row.sealed, _kek_aad(row.owner, row.version)))
                for row in rows
                if row.sealed
            }
        except (InvalidTag, ValueError):
            raise KeysError(
                f"{self._file.path}: a KEK does not open: the unlock key is another one, or the file was changed; "
                "check the reference to the unlock key, then restore the file"
            ) from None


def _open(key: Xaes256Gcm, sealed: bytes, aad: bytes) -> SecretBytes:
    return SecretBytes(key.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], aad))


def _kek_aad(owner: Owner, version: int) -> bytes:
    return items(("wxgate/1 kek", owner.tenant, owner.region, str(version)))
