"""Following a shredding: what one machine shredded is destroyed in the embedded key service of every other machine too.

Each machine has KEKs of its own copy, which Redis does not carry. The keyring, which it does carry, names the KEKs that
were shredded; a machine that takes it up destroys those very KEKs, and no other one of the owner.
"""

from __future__ import annotations

from proxy.crypto.data_key import DataKey, KeyMismatchError
from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.service import Embedded, KeysError
from proxy.kms.service_set import ServiceSet
from proxy.kms.shredded import Shredded
from proxy.ports import Owner


def to_follow(services: ServiceSet, shredded: frozenset[Shredded]) -> list[Owner]:
    """Owners of whom the embedded key service still has a KEK that was shredded. Raises KeysError."""
    service = services.embedded
    if service is None:
        return []
    return sorted({each.owner for each in shredded if each.kek_id in service.kek_ids(each.owner).values()})


def follow(file: KeyringFile, services: ServiceSet, owner: Owner, now: float) -> list[bytes]:
    """Destroys the KEKs of `owner` that `file` calls shredded, and before them the rows that open under them: those
    that were made here before the shredding was known. The ids of these keys. `now`: Unix seconds.

    The rows come first, so that nobody who is interrupted leaves an active key that does not open. Raises KeysError,
    KeyMismatchError; called again it finishes what is left.
    """
    service = services.embedded
    if service is None:
        return []
    with file.making([service.name]):  # nobody puts a new key under that KEK meanwhile
        document = file.document()
        meant = _shredded_of(document, owner)
        gone = [entry.id for entry in under_shredded(document, services, owner)]
        file.change(lambda entries: transitions.destroyed(entries, gone, now))
        service.destroy_keks(owner, meant)
    return gone


def under_shredded(document: Document, services: ServiceSet, owner: Owner) -> list[Entry]:
    """Entries of `owner` that open here under a KEK which `document` calls shredded. Raises KeysError."""
    service = services.embedded
    if service is None:
        return []
    meant = _shredded_of(document, owner)
    versions = {version for version, kek_id in service.kek_ids(owner).items() if kek_id in meant}
    return [
        entry
        for entry in document.entries
        if entry.slot.owner == owner and entry.wrapped.kek_version in versions and _opens(service, entry)
    ]


def _shredded_of(document: Document, owner: Owner) -> set[bytes]:
    return {each.kek_id for each in document.shredded if each.owner == owner}


def _opens(service: Embedded, entry: Entry) -> bool:
    """Whether it is under the KEK of this machine: another one's version of the same number may be another KEK."""
    if entry.state is KeyState.DESTROYED or entry.wrapped.service != service.name:
        return False
    try:
        DataKey(service.unwrap(entry.slot, entry.wrapped), entry.slot.purpose, entry.id)
    except (KeysError, KeyMismatchError):
        return False
    return True
