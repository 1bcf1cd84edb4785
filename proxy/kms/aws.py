"""KEKs in AWS KMS.

Each version of an owner's KEK is a symmetric KMS key of its own, found by an alias: AWS's own rotation would not tell
versions apart, and could not be moved away from. What a wrapped DEK is bound to is the encryption context.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from proxy.crypto.data_key import key_id_of
from proxy.crypto.secret_bytes import SecretBytes
from proxy.kms.aws_session import AwsSession, RefusedError
from proxy.kms.service import NO_KEK, Destroyed, KeysError, Slot, Wrapped
from proxy.kms.service_settings import AwsSettings
from proxy.ports import Owner

# The shortest that AWS offers.
WAITING_DAYS = 7
_MAX_SEALED = 4096


class _Kek(NamedTuple):
    version: int
    key: str
    destroyed: bool = False


class AwsKms:
    """A KeyService. `str` and `repr` show its name and region only."""

    def __init__(self, settings: AwsSettings, name: str = "aws") -> None:
        """Reaches nothing yet."""
        self.name = name
        self._session = AwsSession(settings)

    def __repr__(self) -> str:
        return f"AwsKms({self.name}, {self._session})"

    def has_kek(self, owner: Owner) -> bool:
        """See KeyService."""
        return _is_living(self._versions(owner))

    def create_kek(self, owner: Owner) -> int:
        """See KeyService."""
        versions = self._versions(owner)  # once: what another process makes meanwhile is met at its alias
        return self._newest(owner).version if _is_living(versions) else self._make(owner, versions)

    def rotate_kek(self, owner: Owner) -> int:
        """See KeyService."""
        self._newest(owner)
        return self._make(owner, self._versions(owner))

    def wrap(self, slot: Slot, dek: bytes, key_id: bytes | None = None) -> Wrapped:
        """See KeyService."""
        kek = self._newest(slot.owner)
        key_id = key_id or key_id_of(dek)
        sealed = self._session.ask(
            lambda client: client.encrypt(
                KeyId=kek.key, Plaintext=bytes(dek), EncryptionContext=_context(slot, key_id)
            )["CiphertextBlob"]
        )
        return Wrapped(key_id, self.name, kek.version, sealed)

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> SecretBytes:
        """See KeyService."""
        self._require_form(slot, wrapped)
        try:
            return self._session.ask(
                lambda client: SecretBytes(
                    client.decrypt(
                        KeyId=_alias(slot.owner, wrapped.kek_version),
                        CiphertextBlob=wrapped.sealed,
                        EncryptionContext=_context(slot, wrapped.key_id),
                    )["Plaintext"]
                )
            )
        except RefusedError as error:
            raise _does_not_open(slot, wrapped, error) from None

    def rewrap(self, slot: Slot, wrapped: Wrapped) -> Wrapped:
        """See KeyService. The DEK does not leave the service."""
        self._require_form(slot, wrapped)
        kek = self._newest(slot.owner)
        if kek.version == wrapped.kek_version:
            return wrapped
        bound = _context(slot, wrapped.key_id)
        try:
            sealed = self._session.ask(
                lambda client: client.re_encrypt(
                    CiphertextBlob=wrapped.sealed,
                    SourceKeyId=_alias(slot.owner, wrapped.kek_version),
                    SourceEncryptionContext=bound,
                    DestinationKeyId=kek.key,
                    DestinationEncryptionContext=bound,
                )["CiphertextBlob"]
            )
        except RefusedError as error:
            raise _does_not_open(slot, wrapped, error) from None
        return Wrapped(wrapped.key_id, self.name, kek.version, sealed)

    def destroy_kek(self, owner: Owner) -> Destroyed:
        """See KeyService. AWS refuses every use from now on and deletes after 7 days; until then an administrator can
        call it off. The aliases are renamed, so that nothing finds the keys and their numbers are not given out again.
        """
        versions = self._versions(owner)
        if not versions:
            return Destroyed(f"{NO_KEK} of {owner.tenant}/{owner.region} in {self._session}")
        renamed = {kek.version for kek in versions if kek.destroyed}  # an interrupted run may have left both names
        dates = [self._destroy(owner, kek, renamed=kek.version in renamed) for kek in versions]
        keys = ", ".join(dict.fromkeys(kek.key for kek in versions))
        return Destroyed(f"scheduled the deletion of {keys} in {self._session}", max(dates))

    def check(self) -> None:
        """See KeyService."""
        self._session.ask(lambda client: client.list_aliases(Limit=1))

    def _make(self, owner: Owner, versions: list[_Kek]) -> int:
        """A new key behind the next alias; its version."""
        version = 1 + max((kek.version for kek in versions), default=0)
        words = f"wxgate: KEK of {owner.tenant}/{owner.region}, version {version}"
        key = self._session.ask(
            lambda client: client.create_key(
                Description=words, KeyUsage="ENCRYPT_DECRYPT", KeySpec="SYMMETRIC_DEFAULT", Origin="AWS_KMS"
            )["KeyMetadata"]["KeyId"]
        )
        try:
            self._session.ask(lambda client: client.create_alias(AliasName=_alias(owner, version), TargetKeyId=key))
        except RefusedError:  # another process was faster
            self._schedule_deletion(key)
            return self._newest(owner).version
        return version

    def _destroy(self, owner: Owner, kek: _Kek, *, renamed: bool) -> int:
        """Unix seconds of the deletion. The alias comes first: a key that waits for its deletion takes no new one.

        Source: AWS KMS developer guide, "Key states of AWS KMS keys".
        """
        renamed = renamed or self._rename(owner, kek)
        date = self._schedule_deletion(kek.key)
        if renamed and not kek.destroyed:
            self._session.ask(lambda client: client.delete_alias(AliasName=_alias(owner, kek.version)))
        return date

    def _schedule_deletion(self, key: str) -> int:
        """Unix seconds of the deletion; another call may have scheduled it before."""

        def question(client: Any) -> int:
            if client.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] != "PendingDeletion":
                client.schedule_key_deletion(KeyId=key, PendingWindowInDays=WAITING_DAYS)
            return int(client.describe_key(KeyId=key)["KeyMetadata"]["DeletionDate"].timestamp())

        return self._session.ask(question)

    def _rename(self, owner: Owner, kek: _Kek) -> bool:
        """Whether it has the name of a destroyed one now. One that somebody else scheduled keeps the name it has: what
        has none is not found again, and its date not told."""
        other = _alias(owner, kek.version, destroyed=True)
        try:
            self._session.ask(lambda client: client.create_alias(AliasName=other, TargetKeyId=kek.key))
        except RefusedError as error:
            if str(error) not in ("AlreadyExistsException", "KMSInvalidStateException"):
                raise
            return str(error) == "AlreadyExistsException"
        return True

    def _newest(self, owner: Owner) -> _Kek:
        """The one to wrap under. Raises KeysError."""
        live = [kek for kek in self._versions(owner) if not kek.destroyed]
        if not live or not self._enabled(live[-1]):
            raise KeysError(
                f"{self._session}: no KEK of {owner.tenant}/{owner.region} that is enabled ({_alias(owner, 1)}); run "
                "`wxgate keys init` if this owner is new"
            )
        return live[-1]

    def _enabled(self, kek: _Kek) -> bool:
        state: str = self._session.ask(lambda client: client.describe_key(KeyId=kek.key)["KeyMetadata"]["KeyState"])
        return state == "Enabled"

    def _versions(self, owner: Owner) -> list[_Kek]:
        """All versions there are aliases of, oldest first; those that wait for their deletion among them."""
        pattern = re.compile(re.escape(_prefix(owner)) + r"(destroyed-)?v([1-9][0-9]{0,6})", re.ASCII)

        def question(client: Any) -> list[_Kek]:
            pages = client.get_paginator("list_aliases").paginate()
            aliases = ((pattern.fullmatch(each["AliasName"]), each) for page in pages for each in page["Aliases"])
            return sorted(
                _Kek(int(found[2]), each["TargetKeyId"], destroyed=bool(found[1])) for found, each in aliases if found
            )

        return self._session.ask(question)

    def _require_form(self, slot: Slot, wrapped: Wrapped) -> None:
        if not 0 < len(wrapped.sealed) <= _MAX_SEALED:
            raise _does_not_open(slot, wrapped, "of no length")


def _is_living(versions: list[_Kek]) -> bool:
    return not all(kek.destroyed for kek in versions)


def _prefix(owner: Owner) -> str:
    """An alias has no full stop; with the underline written otherwise too no two owners have the same."""
    tenant = owner.tenant.replace("_", "_u").replace(".", "_d")
    return f"alias/wxgate/{tenant}/{owner.region}/"


def _alias(owner: Owner, version: int, *, destroyed: bool = False) -> str:
    return f"{_prefix(owner)}{'destroyed-' if destroyed else ''}v{version}"


def _context(slot: Slot, key_id: bytes) -> dict[str, str]:
    """The encryption context. It stands in CloudTrail, so policies can be written on it."""
    return {
        "wxgate": "wrapped dek 1",
        "tenant": slot.owner.tenant,
        "region": slot.owner.region,
        "key_id": key_id.hex(),
        "purpose": slot.purpose.value,
        "group": slot.group,
    }


def _does_not_open(slot: Slot, wrapped: Wrapped, why: object) -> KeysError:
    return KeysError(
        f"data key {wrapped.key_id.hex()} ({slot}): does not open under {_alias(slot.owner, wrapped.kek_version)} "
        f"({why}); it was changed, moved, or its KEK was destroyed"
    )
