"""The embedded key service: KEKs in one file, sealed under an unlock key or a passphrase. docs/spec/keyring.md is
normative."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from proxy.crypto.associated_data import items
from proxy.crypto.data_key import hkdf, key_id_of
from proxy.crypto.secret_bytes import SecretBytes
from proxy.crypto.xaes import KEY_SIZE, NONCE_SIZE, Xaes256Gcm
from proxy.kms.kek_file import FILE, KekFile, Keks, Row
from proxy.kms.service import NO_KEK, Destroyed, KeysError, NoKekError, Slot, Wrapped, context
from proxy.kms.shredded import kek_id_of
from proxy.kms.unlock import Stretching, Unlock, UnlockKey
from proxy.ports import Entropy, Owner


class _Kek(NamedTuple):
    """An opened one."""

    id: bytes
    cipher: Xaes256Gcm


class LocalKms:
    """A KeyService on `<state>/kek.json`. Holds the opened KEKs; `str` and `repr` show the file's name only."""

    def __init__(self, state: Path, unlock: bytes | Unlock, entropy: Entropy, name: str = "local") -> None:
        """`state`: an existing directory (0700). `unlock`: bytes are an unlock key. Reads no file yet.

        Raises KeysError.
        """
        self.name = name
        self._unlock = UnlockKey(unlock) if isinstance(unlock, bytes) else unlock
        self._file = KekFile(state)
        self._entropy = entropy
        # The stamp of the file and what it held, in one: several threads read and let go.
        self._known: tuple[tuple[int, ...] | None, dict[tuple[Owner, int], _Kek]] = (None, {})

    def __repr__(self) -> str:
        return f"LocalKms({self._file.path})"

    @property
    def _keks(self) -> dict[tuple[Owner, int], _Kek]:
        return self._known[1]

    @property
    def tag_key(self) -> bytes:
        """Keyed the integrity tag of keyrings of format 1, which knew unlock keys only. Raises KeysError."""
        return self._derived(None, b"wxgate/1 keyring tag")

    def has_kek(self, owner: Owner) -> bool:
        """See KeyService."""
        self._refresh()
        return self._newest(owner) > 0

    def create_kek(self, owner: Owner) -> int:
        """See KeyService. The new KEK is on the disk, and was read back, when this returns."""
        with self._file.locked():
            # Opened first: a KEK sealed under another unlock key than its neighbours would be found out too late.
            keks = self._read()
            if not self._newest(owner):
                self._add(owner, keks)
            return self._newest(owner)

    def rotate_kek(self, owner: Owner) -> int:
        """See KeyService; on the disk as after `create_kek`."""
        with self._file.locked():
            keks = self._read()
            self._require(owner, self._newest(owner))
            self._add(owner, keks)
            return self._newest(owner)

    def import_kek(self, owner: Owner, kek: bytes) -> int:
        """See Importing; on the disk as after `create_kek`. KeysError if another owner has this very KEK: destroyed for
        the one it would stay with the other, and open what the one had."""
        with self._file.locked():
            keks, kek_id = self._read(), kek_id_of(kek)
            if other := next((of for (of, _), each in self._keks.items() if each.id == kek_id and of != owner), None):
                raise KeysError(
                    f"this KEK is that of {other.tenant}/{other.region} already, and what is shredded for the one must "
                    "not stay with the other; the tenant has to bring another"
                )
            self._add(owner, keks, SecretBytes(kek))
            return self._newest(owner)

    def wrap(self, slot: Slot, dek: bytes, key_id: bytes | None = None) -> Wrapped:
        """See KeyService."""
        self._refresh()
        version = self._newest(slot.owner)
        kek = self._require(slot.owner, version)
        key_id, nonce = key_id or key_id_of(dek), self._entropy(NONCE_SIZE)
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
        return wrapped if wrapped.kek_version == self._newest(slot.owner) else self.wrap(slot, dek, wrapped.key_id)

    def destroy_kek(self, owner: Owner) -> Destroyed:
        """See KeyService. A copy of the file made before, with the unlock key, still opens everything."""
        with self._file.locked():
            keks = self._read()
            versions = [row.version for row in keks.rows if row.owner == owner]
            if not versions:
                return Destroyed(f"{NO_KEK} of {owner.tenant}/{owner.region} in {FILE}")
            self._remove(keks, owner, versions)
        numbers = ", ".join(map(str, versions))
        return Destroyed(f"removed version {numbers} of {owner.tenant}/{owner.region} from {FILE}")

    def kek_ids(self, owner: Owner) -> dict[int, bytes]:
        """See Embedded."""
        self._refresh()
        return {version: kek.id for (of, version), kek in self._keks.items() if of == owner}

    def destroy_keks(self, owner: Owner, kek_ids: Collection[bytes]) -> None:
        """See Embedded. The copies are the matter of who made them, as with `destroy_kek`."""
        with self._file.locked():
            keks = self._read()
            versions = [version for version, kek_id in self.kek_ids(owner).items() if kek_id in kek_ids]
            if versions:
                self._remove(keks, owner, versions)

    def check(self) -> None:
        """See KeyService. Reads the file anew."""
        self._read()

    def stale(self) -> bool:
        """See Holding."""
        read_at, _ = self._known
        return read_at is not None and self._file.stamp() != read_at

    def refresh(self) -> None:
        """See Holding. A file that cannot be read says nothing for any KEK: none is kept."""
        try:
            self._refresh()
        except KeysError:
            self.forget()

    def forget(self) -> None:
        """See Holding."""
        self._known = (None, {})

    def _refresh(self) -> None:
        """Takes up what another process made or destroyed since the file was read."""
        read_at, _ = self._known
        if read_at is None or self._file.stamp() != read_at:
            self._read()

    def _read(self) -> Keks:
        """Opens every KEK in the file; what the file holds."""
        read_at = self._file.stamp()  # before the content: a change in between is then seen the next time
        keks = self._file.read()
        self._known = (read_at, self._opened(keks))
        return keks

    def _add(self, owner: Owner, keks: Keks, kek: SecretBytes | None = None) -> None:
        """A new version: `kek`, or a fresh one."""
        version = 1 + max((row.version for row in keks.rows if row.owner == owner), default=0)
        stretching = keks.stretching if keks.rows else self._unlock.stretching(self._entropy)
        kek, nonce = kek or SecretBytes(self._entropy(KEY_SIZE)), self._entropy(NONCE_SIZE)
        sealed = nonce + self._seal(stretching).encrypt(nonce, kek, _kek_aad(owner, version))
        self._file.replace(Keks(stretching, [*keks.rows, Row(owner, version, sealed)]))
        self._read()

    def _remove(self, keks: Keks, owner: Owner, versions: Collection[int]) -> None:
        """Their rows stay, so that no number is given out again."""
        rows = [
            replace(row, sealed=b"") if row.owner == owner and row.version in versions else row for row in keks.rows
        ]
        self._file.replace(Keks(keks.stretching, rows))
        self._read()

    def _seal(self, stretching: Stretching | None) -> Xaes256Gcm:
        return Xaes256Gcm(self._derived(stretching, b"wxgate/1 kek seal"))

    def _derived(self, stretching: Stretching | None, use: bytes) -> SecretBytes:
        return hkdf(self._unlock.secret(stretching), use, KEY_SIZE)

    def _require(self, owner: Owner, version: int) -> Xaes256Gcm:
        kek = self._keks.get((owner, version))
        if kek is None:
            which = f"KEK version {version}" if version else "KEK"
            raise NoKekError(
                f"{self._file.path}: no {which} of {owner.tenant}/{owner.region}; restore the file unless it was "
                "destroyed on purpose, or run `wxgate keys init` if this owner is new; where machines share the "
                "keyring, copy the file from the one that made the KEK (docs/runbooks/several-machines.md)"
            )
        return kek.cipher

    def _newest(self, owner: Owner) -> int:
        return max((version for of, version in self._keks if of == owner), default=0)

    def _opened(self, keks: Keks) -> dict[tuple[Owner, int], _Kek]:
        if not keks.rows:
            return {}
        seal = self._seal(keks.stretching)
        try:
            return {
                (row.owner, row.version): _kek(_open(seal, row.sealed, _kek_aad(row.owner, row.version)))
                for row in keks.rows
                if row.sealed
            }
        except (InvalidTag, ValueError):
            raise KeysError(
                f"{self._file.path}: a KEK does not open: the unlock key is another one, or the file was changed; "
                "check the reference to the unlock key, then restore the file"
            ) from None


def _open(key: Xaes256Gcm, sealed: bytes, aad: bytes) -> SecretBytes:
    return SecretBytes(key.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], aad))


def _kek(kek: SecretBytes) -> _Kek:
    return _Kek(kek_id_of(kek), Xaes256Gcm(kek))


def _kek_aad(owner: Owner, version: int) -> bytes:
    return items(("wxgate/1 kek", owner.tenant, owner.region, str(version)))
