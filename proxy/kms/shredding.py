"""Making a tenant's data unreadable for good: its KEK is destroyed in every key service that opens for it, then the
keyring's rows. What an embedded key service had is named in the keyring, so that other machines destroy their copies.

Without the KEK no copy of the keyring opens. Interrupted and called again it finishes what is left, and the receipt
names every key that was ever under the KEK and stands in the keyring.
"""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.crypto.data_key import DataKey, KeyMismatchError
from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.receipt import Receipt
from proxy.kms.service import GATEWAY_TENANT, Destroyed, KeysError, KeyServiceDownError
from proxy.kms.service_set import ServiceSet
from proxy.kms.shredded import Shredded
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


def shred(
    file: KeyringFile,
    services: ServiceSet,
    owner: Owner,
    now: float,
    *,
    kek_is_gone: bool = False,
    several_machines: bool = False,
) -> Receipt:
    """Destroys the KEK of `owner` wherever it may be, then its rows; what was done. `now`: Unix seconds.
    `several_machines`: others share the keyring, and the receipt says what it does not speak for.

    Nothing is changed if a key of the owner is still wrapped by another service than the one gateway.yaml names for it,
    or if none of its keys opens: the KEK would be somewhere else, and stay there. `kek_is_gone`: go on all the same,
    because it was destroyed or lost before. Raises KeysError, KeyMismatchError; the rows stay until every KEK is gone.
    """
    service = services.of(owner)
    living = [e for e in file.read() if e.slot.owner == owner and e.state is not KeyState.DESTROYED]
    elsewhere = {entry.wrapped.service for entry in living} - {service.name}
    if elsewhere:
        raise KeysError(
            f'keys of {owner.tenant}/{owner.region} are still with service "{min(elsewhere)}": move them with `wxgate '
            f"keys rewrap --to-service {service.name}` and shred then, with that service still under `former`"
        )
    if living and not kek_is_gone:
        _require_opens(services, owner, living)
    embedded = services.embedded
    shredded = {Shredded(owner, kek_id) for kek_id in embedded.kek_ids(owner).values()} if embedded else set()
    destroyed = services.destroy_kek(owner)
    if several_machines and embedded:
        destroyed = _of_one_machine(destroyed, told=bool(shredded))

    def edit(document: Document) -> Document:
        ids = {entry.id for entry in document.entries if entry.slot.owner == owner}
        entries = transitions.destroyed(document.entries, ids, now)
        return replace(document, entries=entries, shredded=document.shredded | shredded)

    file.change_document(edit)
    key_ids = tuple(entry.id for entry in file.read() if entry.slot.owner == owner)
    return Receipt(owner, int(now), service.name, destroyed, key_ids)


def _of_one_machine(destroyed: Destroyed, *, told: bool) -> Destroyed:
    """What a receipt may say of an embedded key service where every machine has its own."""
    others = "others follow when they take up the keyring" if told else "others were not told to do anything"
    return replace(
        destroyed, operation=f"{destroyed.operation}; this is the embedded key service of one machine, {others}"
    )


def _require_opens(services: ServiceSet, owner: Owner, living: list[Entry]) -> None:
    """That the KEK is where it will be destroyed: one of the keys `living` opens there. Raises KeysError."""
    why: Exception | None = None
    for entry in living:
        try:
            DataKey(services.unwrap(entry.slot, entry.wrapped), entry.slot.purpose, entry.id)
        except KeyServiceDownError:
            raise
        except (KeysError, KeyMismatchError) as error:
            why = error
        else:
            return
    raise KeysError(
        f"no key of {owner.tenant}/{owner.region} opens, so its KEK may be elsewhere than gateway.yaml says, and "
        f"nothing was destroyed ({why}); name the right place, or say --kek-is-gone if it was destroyed or lost before"
    )
