"""KEKs in an HSM, over PKCS#11 (OASIS, version 2.40).

A KEK is an AES-256 key that the token made, sensitive and not extractable; wrapping is CKM_AES_GCM inside the token,
with the context of the wrapped DEK as associated data. A wrapped DEK is nonce (12 bytes), ciphertext, tag (16 bytes).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass, PKCS11Error, Session

from proxy.crypto.associated_data import items
from proxy.crypto.data_key import DEK_SIZE, key_id_of
from proxy.crypto.secret_bytes import SecretBytes
from proxy.kms.pkcs11_session import AbsentError, RefusedError, TokenSession
from proxy.kms.service import NO_KEK, Destroyed, KeysError, Slot, Wrapped, context
from proxy.kms.service_settings import Pkcs11Settings
from proxy.ports import Entropy, Owner

_NONCE_SIZE, _TAG_SIZE = 12, 16
_SEALED_SIZE = _NONCE_SIZE + DEK_SIZE + _TAG_SIZE
_RIGHTS = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.MODIFIABLE: False,
    Attribute.WRAP: False,
    Attribute.UNWRAP: False,
    Attribute.SIGN: False,
    Attribute.VERIFY: False,
    Attribute.DERIVE: False,
}


class Pkcs11Kms:
    """A KeyService. `str` and `repr` show its name and the token's label only."""

    def __init__(self, settings: Pkcs11Settings, entropy: Entropy, name: str = "pkcs11") -> None:
        """Reaches nothing yet."""
        self.name = name
        self._token = TokenSession(settings)
        self._entropy = entropy

    def __repr__(self) -> str:
        return f"Pkcs11Kms({self.name}, {self._token})"

    def has_kek(self, owner: Owner) -> bool:
        """See KeyService."""
        return self._there(owner) > 0

    def create_kek(self, owner: Owner) -> int:
        """See KeyService."""
        return self._there(owner) or self._token.use(lambda session: _generate(session, owner, 1))

    def rotate_kek(self, owner: Owner) -> int:
        """See KeyService."""
        newest = self._asked(owner, lambda session: _newest(session, owner))
        return self._token.use(lambda session: _generate(session, owner, newest + 1))

    def import_kek(self, owner: Owner, kek: bytes) -> int:
        """See Importing."""
        newest = self._there(owner)
        return self._token.use(lambda session: _store(session, owner, newest + 1, kek))

    def wrap(self, slot: Slot, dek: bytes, key_id: bytes | None = None) -> Wrapped:
        """See KeyService."""
        key_id, nonce = key_id or key_id_of(dek), self._entropy(_NONCE_SIZE)
        bound = GCMParams(nonce, context(slot, key_id), _TAG_SIZE * 8)

        def seal(session: Session) -> tuple[int, bytes]:
            version = _newest(session, slot.owner)
            kek, *_ = _find(session, slot.owner, version)
            return version, kek.encrypt(dek, mechanism=Mechanism.AES_GCM, mechanism_param=bound)

        version, sealed = self._asked(slot.owner, seal)
        return Wrapped(key_id, self.name, version, nonce + sealed)

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> SecretBytes:
        """See KeyService."""
        nonce, sealed = wrapped.sealed[:_NONCE_SIZE], wrapped.sealed[_NONCE_SIZE:]
        bound = GCMParams(nonce, context(slot, wrapped.key_id), _TAG_SIZE * 8)

        def open_(session: Session) -> SecretBytes:
            *others, last = _find(session, slot.owner, wrapped.kek_version)
            for kek in others:
                with suppress(PKCS11Error):
                    return SecretBytes(kek.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=bound))
            return SecretBytes(last.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=bound))

        try:
            if len(wrapped.sealed) != _SEALED_SIZE:
                raise RefusedError
            return self._token.use(open_)
        except (RefusedError, AbsentError):
            label = _label(slot.owner, wrapped.kek_version)
            raise KeysError(
                f"data key {wrapped.key_id.hex()} ({slot}): does not open under {label} of {self._token}; it was "
                "changed, moved, or its KEK was destroyed"
            ) from None

    def rewrap(self, slot: Slot, wrapped: Wrapped) -> Wrapped:
        """See KeyService. The DEK passes through this process: few tokens unwrap with associated data inside."""
        dek = self.unwrap(slot, wrapped)
        newest = self._asked(slot.owner, lambda session: _newest(session, slot.owner))
        return wrapped if wrapped.kek_version == newest else self.wrap(slot, dek, wrapped.key_id)

    def destroy_kek(self, owner: Owner) -> Destroyed:
        """See KeyService. A backup of the token made before still has the key."""
        try:
            versions = self._token.use(lambda session: _destroy(session, owner))
        except AbsentError:
            return Destroyed(f"{NO_KEK} of {owner.tenant}/{owner.region} in {self._token}")
        return Destroyed(f"destroyed {', '.join(_label(owner, version) for version in versions)} in {self._token}")

    def check(self) -> None:
        """See KeyService."""
        with suppress(AbsentError):  # an empty token is at hand as well
            self._token.use(_first)

    def _there(self, owner: Owner) -> int:
        """The newest version; 0 if there is none."""
        try:
            return self._token.use(lambda session: _newest(session, owner))
        except AbsentError:
            return 0

    def _asked[T](self, owner: Owner, work: Callable[[Session], T]) -> T:
        try:
            return self._token.use(work)
        except AbsentError:
            raise KeysError(
                f"{self._token}: no KEK of {owner.tenant}/{owner.region} ({_label(owner, 1)}); run `wxgate keys init` "
                "if this owner is new"
            ) from None


def _label(owner: Owner, version: int) -> str:
    """Of the KEK's object. A region has no full stop, so no two owners have the same."""
    return f"wxgate.{owner.tenant}.{owner.region}.v{version}"


def _id(owner: Owner) -> bytes:
    """CKA_ID: the same for all versions of an owner's KEK."""
    return sha256(items((owner.tenant, owner.region))).digest()[:16]


def _template(owner: Owner, version: int) -> dict[Attribute, object]:
    return {**_RIGHTS, Attribute.ID: _id(owner), Attribute.LABEL: _label(owner, version)}


def _generate(session: Session, owner: Owner, version: int) -> int:
    session.generate_key(
        KeyType.AES,
        256,
        store=True,
        capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
        template=_template(owner, version),
    )
    return version


def _store(session: Session, owner: Owner, version: int, kek: bytes) -> int:
    kind = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES, Attribute.VALUE: kek}
    rights = {Attribute.ENCRYPT: True, Attribute.DECRYPT: True}
    session.create_object({**kind, **rights, **_template(owner, version)})
    return version


def _first(session: Session) -> None:
    if next(iter(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})), None) is None:
        raise AbsentError


def _all(session: Session, owner: Owner) -> list[tuple[int, Any]]:
    """Every version of the owner's KEK. Raises AbsentError if there is none."""
    found = list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.ID: _id(owner)}))
    keks = [
        (int(version), kek) for kek in found if (version := str(kek[Attribute.LABEL]).rpartition(".v")[2]).isdecimal()
    ]
    if not keks:
        raise AbsentError
    return keks


def _newest(session: Session, owner: Owner) -> int:
    return max(version for version, _ in _all(session, owner))


def _find(session: Session, owner: Owner, version: int) -> list[Any]:
    """The KEK; several if two processes made it at once. Raises AbsentError, and KeysError if it can be taken out."""
    found = [kek for of, kek in _all(session, owner) if of == version]
    if not found:
        raise AbsentError
    for kek in found:
        if not kek[Attribute.SENSITIVE] or kek[Attribute.EXTRACTABLE]:
            raise KeysError(f"{_label(owner, version)}: can be taken out of the token; wxgate uses no such KEK")
    return found


def _destroy(session: Session, owner: Owner) -> list[int]:
    versions = []
    for version, kek in _all(session, owner):
        kek.destroy()
        versions.append(version)
    return sorted(versions)
