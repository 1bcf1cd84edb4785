"""A new KEK over the whole keyring, in the same key service or in another. No DEK changes, and no data in the CRM.

What is wrapped anew is opened once more before it takes the place of what opens now. The file is replaced whole, some
thousand keys at a time: whenever this is interrupted, every key opens under the one KEK or the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import batched

from proxy.crypto.data_key import DataKey
from proxy.kms import transitions
from proxy.kms.following import to_follow
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, Slot, Wrapped
from proxy.kms.service_set import ServiceSet
from proxy.kms.tag_key import tag_slot
from proxy.ports import Owner

_AT_ONCE = 2000
_ROUNDS = 10  # one is enough, unless another machine's keys come in meanwhile


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """`keys`: how many were wrapped anew, the tag key of the keyring among them. `versions`: the KEK each owner's keys
    are under now, with the name of its service."""

    keys: int
    versions: dict[Owner, tuple[str, int]]


def rewrap(
    file: KeyringFile,
    services: ServiceSet,
    chosen: Selection,
    *,
    to_service: str = "",
    resume: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Rewrapped:
    """Wraps the chosen keys under a new version of their owners' KEKs.

    `to_service`: the service they go to, which must be the one that gateway.yaml names for them; needed if they are
    with another now. `resume`: no new version, only what an interrupted run left behind. `progress`: done, of how many.
    Raises KeysError, KeyMismatchError; what was done until then stays done and is whole.
    """
    latest = _Latest(file)
    whole = chosen == Selection()
    slots = _concerned(latest.document(), chosen)
    _require_said(services, slots, to_service)
    found = {owner: _version(latest, services, owner, chosen, resume) for owner in slots}
    versions = {owner: version for owner, version in found.items() if version is not None}
    done = 0
    for _ in range(_ROUNDS):
        # Read only now: what was made meanwhile is under the version before.
        todo = [entry for entry in file.read() if _is_behind(services, entry, chosen, versions)]
        if not todo:
            break
        of = done + len(todo)
        for some in batched(todo, _AT_ONCE, strict=False):
            # The key service is asked before the file is locked: nobody waits for it.
            anew = {entry.wrapped: _anew(services, entry.slot, entry.wrapped) for entry in some}
            file.change(lambda entries, anew=anew: transitions.rewrapped(entries, anew))  # type: ignore[misc]
            done += len(some)
            progress(done, of)
    else:
        raise KeysError("keys are made under older KEKs again and again: find out by what, then `rewrap --resume`")
    tagged = whole and _rewrap_tag_key(file, services, versions)
    names = {owner: (services.of(owner).name, version) for owner, version in versions.items()}
    return Rewrapped(done + tagged, names)


def new_keks_here(file: KeyringFile, services: ServiceSet, chosen: Selection, *, resume: bool = False) -> list[Owner]:
    """Owners of whom `rewrap` would make a KEK version that only this machine has. Raises KeysError."""
    return [
        owner
        for owner, wrapped in _concerned(file.document(), chosen).items()
        if services.keeps_here(owner) and (_rotates(services, owner, wrapped, resume) or not services.has_kek(owner))
    ]


def _concerned(document: Document, chosen: Selection) -> dict[Owner, list[Wrapped]]:
    """What is chosen, by owner; the tag key too if that is all. Raises KeysError if it is nothing."""
    # What is destroyed needs no KEK: a shredded tenant gets none.
    owners = chosen.owners(entry for entry in document.entries if entry.state is not KeyState.DESTROYED)
    if not owners:
        raise KeysError("no key of that tenant, region and group; see `wxgate keys list`")
    found = {owner: _wrapped_of(document, owner, chosen) for owner in owners}
    if chosen == Selection() and document.tag_key is not None:
        found[tag_slot(document.region).owner] = [document.tag_key]
    return found


def _wrapped_of(document: Document, owner: Owner, chosen: Selection) -> list[Wrapped]:
    if document.tag_key is not None and owner == tag_slot(document.region).owner:
        return [document.tag_key]
    return [entry.wrapped for entry in document.entries if _counts(entry, owner, chosen)]


def _counts(entry: Entry, owner: Owner, chosen: Selection) -> bool:
    return entry.slot.owner == owner and chosen.has(entry.slot) and entry.state is not KeyState.DESTROYED


def _require_said(services: ServiceSet, slots: dict[Owner, list[Wrapped]], to_service: str) -> None:
    """Keys change their service only if that was said by name."""
    for owner, wrapped in slots.items():
        name = services.of(owner).name
        who = f"{owner.tenant}/{owner.region}"
        if to_service and name != to_service:
            raise KeysError(
                f'keys of {who} are wrapped by service "{name}" and not "{to_service}": make that one `service` in '
                "gateway.yaml and name the other under `former`, or choose other keys with --tenant"
            )
        if not to_service and (others := {each.service for each in wrapped} - {name}):
            raise KeysError(
                f'keys of {who} are with service "{min(others)}" and gateway.yaml names "{name}" for them: say '
                f"--to-service {name} to move them"
            )


class _Latest:
    """The keyring as it is, read again only if it changed: that is asked for each owner."""

    def __init__(self, file: KeyringFile) -> None:
        self.file = file
        self._stamp, self._document = file.stamp(), file.document()

    def document(self) -> Document:
        """Raises KeysError, KeyMismatchError."""
        if (stamp := self.file.stamp()) != self._stamp:
            self._stamp, self._document = stamp, self.file.document()
        return self._document


def _version(latest: _Latest, services: ServiceSet, owner: Owner, chosen: Selection, resume: bool) -> int | None:
    """While nobody makes keys: what is under the version before is in the file when this returns. None if the owner was
    shredded meanwhile. Raises KeysError if that was on another machine and is not followed here yet: under a new KEK,
    which nobody named, its keys would outlive it."""
    with latest.file.making([services.of(owner).name]):
        document = latest.document()
        wrapped = _wrapped_of(document, owner, chosen)
        if not wrapped:
            return None
        if owner in to_follow(services, document.shredded):
            raise KeysError(f"{owner.tenant}/{owner.region} was shredded on another machine just now; try again")
        newest = services.create_kek(owner)
        return services.rotate_kek(owner) if _rotates(services, owner, wrapped, resume) else newest


def _rotates(services: ServiceSet, owner: Owner, wrapped: Iterable[Wrapped], resume: bool) -> bool:
    """Whether there is to be a new version: not where the tenant brings its own, or the keys come from another service,
    where the first will do."""
    name = services.of(owner).name
    return not (resume or services.brings(owner)) and any(each.service == name for each in wrapped)


def _is_behind(services: ServiceSet, entry: Entry, chosen: Selection, versions: dict[Owner, int]) -> bool:
    owner = entry.slot.owner
    if entry.state is KeyState.DESTROYED or not chosen.has(entry.slot) or owner not in versions:
        return False  # an owner who came meanwhile has a KEK as new
    return _stands_behind(services, owner, entry.wrapped, versions[owner])


def _stands_behind(services: ServiceSet, owner: Owner, wrapped: Wrapped, version: int) -> bool:
    return wrapped.service != services.of(owner).name or wrapped.kek_version < version


def _anew(services: ServiceSet, slot: Slot, wrapped: Wrapped) -> Wrapped:
    new = services.rewrap(slot, wrapped)
    DataKey(services.unwrap(slot, new), slot.purpose, wrapped.key_id)
    return new


def _rewrap_tag_key(file: KeyringFile, services: ServiceSet, versions: dict[Owner, int]) -> int:
    """How many tag keys it wrapped anew: one or none."""
    document = file.document()
    wrapped, slot = document.tag_key, tag_slot(document.region)
    if wrapped is None or not _stands_behind(services, slot.owner, wrapped, versions.get(slot.owner, 0)):
        return 0
    new = _anew(services, slot, wrapped)
    file.change_document(lambda now: replace(now, tag_key=new) if now.tag_key == wrapped else now)
    return 1
