"""KEKs in the transit engine of Vault or OpenBao.

Each owner has a transit key of type aes256-gcm96, made `derived`: the server derives from it, with HKDF, a key for each
`context`, and ours is the context of the wrapped DEK. That binds as associated data would, and transit/rewrap knows
contexts but no associated data.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from hvac import Client

from proxy.crypto.data_key import key_id_of
from proxy.crypto.secret_bytes import SecretBytes
from proxy.kms.service import NO_KEK, Destroyed, KeysError, Slot, Wrapped, context
from proxy.kms.service_settings import VaultSettings
from proxy.kms.vault_session import NoSuchPathError, RefusedError, VaultSession
from proxy.ports import Owner

_TYPE = "aes256-gcm96"
_PROPERTIES = ("type", "latest_version", "derived", "exportable", "allow_plaintext_backup")
_SEALED = re.compile(rb"vault:v([1-9][0-9]{0,6}):[A-Za-z0-9+/]{16,4000}={0,2}")


class VaultKms:
    """A KeyService. `str` and `repr` show its name and URL only."""

    def __init__(self, settings: VaultSettings, name: str = "vault") -> None:
        """Reaches nothing yet. Raises KeysError."""
        self.name = name
        self._mount = settings.mount
        self._session = VaultSession(settings)

    def __repr__(self) -> str:
        return f"VaultKms({self.name}, {self._session})"

    def has_kek(self, owner: Owner) -> bool:
        """See KeyService."""
        try:
            return self._newest(owner) > 0
        except NoSuchPathError:
            return False

    def create_kek(self, owner: Owner) -> int:
        """See KeyService."""
        try:
            return self._newest(owner)
        except NoSuchPathError:
            self._transit("create_key", owner, key_type=_TYPE, derived=True, exportable=False)
            return self._newest(owner)

    def rotate_kek(self, owner: Owner) -> int:
        """See KeyService."""
        self._newest(owner)  # rotating what is not there makes nothing, and says so less clearly
        self._transit("rotate_key", owner)
        return self._newest(owner)

    def wrap(self, slot: Slot, dek: bytes, key_id: bytes | None = None) -> Wrapped:
        """See KeyService."""
        self._newest(slot.owner)  # transit would make a missing key, without a word
        key_id = key_id or key_id_of(dek)
        (sealed,) = self._session.ask(
            lambda client: [
                client.secrets.transit.encrypt_data(
                    key_name(slot.owner), _base64(dek), _base64(context(slot, key_id)), mount_point=self._mount
                )["data"]["ciphertext"]
            ]
        )
        return self._wrapped(key_id, sealed)

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> SecretBytes:
        """See KeyService."""
        try:
            (opened,) = self._transit("decrypt_data", slot.owner, "plaintext", **self._sealed(slot, wrapped))
            return SecretBytes(base64.b64decode(opened))
        except (RefusedError, NoSuchPathError, ValueError, TypeError):
            raise self._does_not_open(slot, wrapped) from None

    def rewrap(self, slot: Slot, wrapped: Wrapped) -> Wrapped:
        """See KeyService. The DEK does not leave the server."""
        if wrapped.kek_version == self._newest(slot.owner):
            return wrapped
        try:
            (sealed,) = self._transit("rewrap_data", slot.owner, "ciphertext", **self._sealed(slot, wrapped))
        except RefusedError:
            raise self._does_not_open(slot, wrapped) from None
        return self._wrapped(wrapped.key_id, sealed)

    def destroy_kek(self, owner: Owner) -> Destroyed:
        """See KeyService. A backup of the server's storage made before still has the key."""
        what = f"transit key {key_name(owner)} of {self._session}"
        if not self._exists(owner):
            return Destroyed(f"{NO_KEK}: no {what}")
        self._transit("update_key_configuration", owner, deletion_allowed=True)
        self._transit("delete_key", owner)
        if self._exists(owner):
            raise KeysError(f"{what}: was deleted and is still there")
        return Destroyed(f"deleted {what}")

    def check(self) -> None:
        """See KeyService."""
        self._session.ask(lambda client: client.auth.token.lookup_self())

    def _exists(self, owner: Owner) -> bool:
        try:
            self._transit("read_key", owner)
        except NoSuchPathError:
            return False
        return True

    def _newest(self, owner: Owner) -> int:
        """Raises NoSuchPathError, and KeysError if somebody made a key that is not as ours."""
        try:
            kind, version, *rights = self._transit("read_key", owner, *_PROPERTIES)
        except NoSuchPathError:
            raise NoSuchPathError(
                f"{self._session}: no KEK of {owner.tenant}/{owner.region} (transit key {key_name(owner)}); run "
                "`wxgate keys init` if this owner is new"
            ) from None
        if kind != _TYPE or rights != [True, False, False] or not isinstance(version, int):
            raise KeysError(
                f"transit key {key_name(owner)}: is not of type {_TYPE}, derived, and neither exportable nor with "
                "plaintext backup; delete it, wxgate makes its own"
            )
        return version

    def _transit(self, verb: str, owner: Owner, *members: str, **arguments: Any) -> list[Any]:
        """Those members of what transit answers to `verb`."""

        def question(client: Client) -> list[Any]:
            ask = getattr(client.secrets.transit, verb)
            answer = ask(key_name(owner), mount_point=self._mount, **arguments)
            return [answer["data"][member] for member in members]

        return self._session.ask(question)

    def _sealed(self, slot: Slot, wrapped: Wrapped) -> dict[str, str]:
        found = _SEALED.fullmatch(wrapped.sealed)
        if not found or int(found[1]) != wrapped.kek_version:
            raise self._does_not_open(slot, wrapped)
        return {"ciphertext": wrapped.sealed.decode(), "context": _base64(context(slot, wrapped.key_id))}

    def _wrapped(self, key_id: bytes, ciphertext: str) -> Wrapped:
        sealed = str(ciphertext).encode()
        found = _SEALED.fullmatch(sealed)
        if not found:
            raise KeysError(f"{self._session}: gave a ciphertext of an unknown form")
        return Wrapped(key_id, self.name, int(found[1]), sealed)

    def _does_not_open(self, slot: Slot, wrapped: Wrapped) -> KeysError:
        return KeysError(
            f"data key {wrapped.key_id.hex()} ({slot}): does not open under transit key {key_name(slot.owner)}; it was "
            "changed, moved, or its KEK was destroyed"
        )


def key_name(owner: Owner) -> str:
    """The owner's transit key. A region has no full stop, so no two owners have the same."""
    return f"wxgate.{owner.tenant}.{owner.region}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
