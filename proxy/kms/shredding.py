"""Making a tenant's data unreadable for good: its KEK is destroyed in the key service, then the keyring's rows.

Without the KEK no copy of the keyring opens. Interrupted and called again it finishes what is left, and the receipt
names every key that was ever under the KEK and stands in the keyring.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, KeyState
from proxy.kms.receipt import Receipt
from proxy.kms.service import GATEWAY_TENANT, KeysError
from proxy.kms.service_set import ServiceSet
from proxy.kms.transitions import Entries
from proxy.ports import Owner

_INFO = b"wxgate/1 receipt"


def signing_key(file: KeyringFile) -> Ed25519PrivateKey:
    """The gateway's key for receipts, from the secret that lies wrapped in the keyring: machines that share a keyring
    share it, and it outlives a change of KEK or key service. Raises KeysError, KeyMismatchError."""
    return Ed25519PrivateKey.from_private_bytes(file.secret(_INFO))


def to_shred(document: Document, tenant: str, region: str | None) -> list[Owner]:
    """The owners that `shred` would be called for. Raises KeysError if there is none."""
    owners = {entry.slot.owner for entry in document.entries}
    found = sorted(owner for owner in owners if owner.tenant == tenant and region in (None, owner.region))
    if not found or tenant == GATEWAY_TENANT:
        where = f" in region {region}" if region else ""
        raise KeysError(f"there is no key of tenant {tenant}{where}; see `wxgate keys list`")
    return found


def shred(file: KeyringFile, services: ServiceSet, owner: Owner, now: float) -> Receipt:
    """Destroys the KEK of `owner`, then its rows; what was done. `now`: Unix seconds.

    Nothing is changed if a key of the owner is still wrapped by another service than the one gateway.yaml names for it:
    destroying here would leave it open there. Raises KeysError, KeyMismatchError.
    """
    service = services.of(owner)
    entries = [entry for entry in file.read() if entry.slot.owner == owner]
    elsewhere = {entry.wrapped.service for entry in entries if entry.state is not KeyState.DESTROYED} - {service.name}
    if elsewhere:
        raise KeysError(
            f'keys of {owner.tenant}/{owner.region} are still with service "{min(elsewhere)}": move them with `wxgate '
            f"keys rewrap --to-service {service.name}`, destroy their KEK there, and shred then"
        )
    destroyed = services.destroy_kek(owner)

    def edit(entries: Entries) -> Entries:
        ids = {entry.id for entry in entries if entry.slot.owner == owner}
        return transitions.destroyed(entries, ids, now)

    file.change(edit)
    key_ids = tuple(entry.id for entry in file.read() if entry.slot.owner == owner)
    return Receipt(owner, int(now), service.name, destroyed, key_ids)
