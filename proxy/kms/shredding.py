"""Making a tenant's data unreadable for good: its KEK is destroyed in every key service that opens for it, then the
keyring's rows. What an embedded key service had is named in the keyring, so that other machines destroy their copies.

Without the KEK no copy of the keyring opens. The naming comes first: what was destroyed and not named could be named by
nobody any more. Interrupted and called again it finishes what is left, and the receipt names every key that was ever
under the KEK and stands in the keyring. Nobody makes keys with the same key services meanwhile.
"""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.crypto.data_key import DataKey, KeyMismatchError
from proxy.kms import transitions
from proxy.kms.kek_file import FILE
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.receipt import Receipt
from proxy.kms.service import GATEWAY_TENANT, Destroyed, KeysError, KeyServiceDownError
from proxy.kms.service_set import ServiceSet
from proxy.kms.shredded import Shredded
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
    or if none of its keys opens: the KEK would be somewhere else, and stay there. So would another machine's, and with
    the embedded service of `several_machines` every key must open. `kek_is_gone`: go on all the same, because it was
    destroyed or lost before. Raises KeysError, KeyMismatchError; the rows stay until every KEK is gone. What was named
    until then stays named: a gateway on this machine follows like any other, and so finishes what was ordered.
    """
    with file.making(services.openers(owner)):
        _require_here(file, services, owner, kek_is_gone=kek_is_gone, several_machines=several_machines)
        told = _told(file, services, owner)
        destroyed = services.destroy_kek(owner)
        if several_machines and services.embedded:
            destroyed = _of_one_machine(destroyed, told=told)
        entries = file.change(lambda entries: transitions.destroyed(entries, _ids(entries, owner), now))
    return Receipt(owner, int(now), services.of(owner).name, destroyed, _ids(entries, owner))


def _ids(entries: Entries, owner: Owner) -> tuple[bytes, ...]:
    return tuple(entry.id for entry in entries if entry.slot.owner == owner)


def _require_here(
    file: KeyringFile, services: ServiceSet, owner: Owner, *, kek_is_gone: bool, several_machines: bool
) -> None:
    """That what `shred` would destroy is all there is. Raises KeysError."""
    service = services.of(owner)
    living = [e for e in file.read() if e.slot.owner == owner and e.state is not KeyState.DESTROYED]
    elsewhere = {entry.wrapped.service for entry in living} - {service.name}
    if elsewhere:
        raise KeysError(
            f'keys of {owner.tenant}/{owner.region} are still with service "{min(elsewhere)}": move them with `wxgate '
            f"keys rewrap --to-service {service.name}` and shred then, with that service still under `former`"
        )
    if living and not kek_is_gone:
        _require_opens(services, owner, living, every=several_machines and services.keeps_here(owner))


def _told(file: KeyringFile, services: ServiceSet, owner: Owner) -> bool:
    """Names the KEKs that the embedded key service has of `owner`; whether any were named, now or before."""
    if (embedded := services.embedded) is None:
        return False
    here = {Shredded(owner, kek_id) for kek_id in embedded.kek_ids(owner).values()}
    document = file.change_document(lambda before: replace(before, shredded=before.shredded | here))
    return any(each.owner == owner for each in document.shredded)


def _of_one_machine(destroyed: Destroyed, *, told: bool) -> Destroyed:
    """What a receipt may say of an embedded key service where every machine has its own."""
    others = "others destroy the KEKs that the keyring names" if told else "others were not told to do anything"
    return replace(
        destroyed, operation=f"{destroyed.operation}; this is the embedded key service of one machine, {others}"
    )


def _require_opens(services: ServiceSet, owner: Owner, living: list[Entry], *, every: bool) -> None:
    """That the KEK is where it will be destroyed: one of the keys `living` opens there, or `every` one. Raises
    KeysError."""
    why: Exception | None = None
    opened = 0
    for entry in living:
        try:
            DataKey(services.unwrap(entry.slot, entry.wrapped), entry.slot.purpose, entry.id)
        except KeyServiceDownError:
            raise
        except (KeysError, KeyMismatchError) as error:
            why = error
        else:
            opened += 1
            if not every:
                return
    if opened == len(living):
        return
    if opened:
        raise KeysError(
            f"{len(living) - opened} keys of {owner.tenant}/{owner.region} do not open here: their KEK is another "
            f"machine's and would stay there, and nothing was destroyed ({why}); copy {FILE} from that machine first "
            "(docs/runbooks/several-machines.md), or say --kek-is-gone if that KEK was destroyed or lost before"
        )
    raise KeysError(
        f"no key of {owner.tenant}/{owner.region} opens, so its KEK may be elsewhere than gateway.yaml says, and "
        f"nothing was destroyed ({why}); name the right place, or say --kek-is-gone if it was destroyed or lost before"
    )
