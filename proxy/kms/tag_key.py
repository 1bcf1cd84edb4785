"""The key of the keyring's integrity tag: it stands in the keyring itself, wrapped under the gateway's own KEK."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from proxy.crypto.data_key import DEK_SIZE, KeyMismatchError, Purpose, key_id_of
from proxy.kms.keyring_format import Document
from proxy.kms.service import KeysError, Slot, Wrapped, gateway_owner
from proxy.kms.service_set import ServiceSet
from proxy.ports import Entropy


def tag_slot(region: str) -> Slot:
    """What a wrapped tag key is bound to. `region`: the gateway's."""
    return Slot(gateway_owner(region), "keyring", Purpose.DATA)


class TagKeys:
    """Makes and unwraps tag keys; one that was unwrapped once is kept, so that reading again asks no key service."""

    def __init__(self, services: ServiceSet, entropy: Entropy, old: Callable[[], bytes] | None = None) -> None:
        """`old`: gives the tag key of format 1, derived from the unlock key, or raises KeysError."""
        self._services, self._entropy, self._old = services, entropy, old
        self._known: dict[bytes, bytes] = {}

    def of(self, document: Document) -> bytes:
        """The tag key of `document`. Raises KeysError, KeyMismatchError if the key service gives another."""
        wrapped = document.tag_key
        if wrapped is None:
            if self._old is None:
                raise KeysError("keyring.json has format 1, which only the embedded key service can read")
            return self._old()
        if not self.knows(document):
            key = self._services.unwrap(tag_slot(document.region), wrapped)
            if not hmac.compare_digest(key_id_of(key), wrapped.key_id):
                raise KeyMismatchError(f"the keyring's tag key does not match key id {wrapped.key_id.hex()}")
            self._known[wrapped.key_id] = key
        return self._known[wrapped.key_id]

    def knows(self, document: Document) -> bool:
        """Whether `of` asks no key service for the tag key of `document`."""
        return document.tag_key is None or document.tag_key.key_id in self._known

    def adopt(self, other: TagKeys) -> None:
        """Takes over what `other` has unwrapped."""
        self._known |= other._known

    def made(self, region: str) -> Wrapped:
        """A new tag key. `region`: the gateway's. Raises KeysError."""
        slot = tag_slot(region)
        self._services.create_kek(slot.owner)
        return self._services.wrap(slot, self._entropy(DEK_SIZE))
