"""The key services of one gateway: which keeps an owner's KEKs, and which opens what was wrapped long ago."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from proxy.crypto.data_key import BROUGHT_KEY_ID_SIZE, key_id_of
from proxy.kms.service import Destroyed, Embedded, Importing, KeysError, KeyService, Slot, Wrapped
from proxy.kms.shredded import kek_id_of
from proxy.kms.unlock import random_key
from proxy.ports import Owner


class ServiceSet:
    """Every service that is configured; itself a KeyService that passes each question on. To wrap, to the tenant's own
    service or to `default`; to unwrap, to the one that the wrapped DEK names, if that may be shown this owner's."""

    def __init__(
        self,
        default: KeyService,
        tenants: Mapping[str, KeyService] | None = None,
        others: Iterable[KeyService] = (),
        *,
        brought: Mapping[str, float | None] | None = None,
    ) -> None:
        """`tenants`: the services of tenants that bring their own. `others`: those that only still unwrap, because the
        keys move away from them. `brought`: tenants whose KEK is their own, in whatever service, with the seconds
        that an unwrapped DEK of theirs may be kept (None: nothing is said of it)."""
        self.default = default
        self.name = default.name
        self._tenants = dict(tenants or {})
        self._others = {each.name: each for each in others}
        self._brought = dict.fromkeys(self._tenants) | dict(brought or {})

    def __repr__(self) -> str:
        return f"ServiceSet({', '.join(each.name for each in self)})"

    def __iter__(self) -> Iterator[KeyService]:
        yield from {
            each.name: each for each in (self.default, *self._others.values(), *self._tenants.values())
        }.values()

    def of(self, owner: Owner) -> KeyService:
        """The service that wraps for `owner`."""
        return self._tenants.get(owner.tenant, self.default)

    @property
    def embedded(self) -> Embedded | None:
        """The service that is this machine's alone, if there is one."""
        return next((each for each in self if isinstance(each, Embedded)), None)

    def keeps_here(self, owner: Owner) -> bool:
        """Whether the KEKs of `owner` are this machine's alone."""
        return self.of(owner) is self.embedded

    def opener(self, slot: Slot, wrapped: Wrapped) -> KeyService:
        """The service that opens `wrapped`. KeysError if it is not configured, or is another tenant's."""
        service = self.openers(slot.owner).get(wrapped.service)
        if service is None:
            raise KeysError(
                f'data key {wrapped.key_id.hex()} ({slot}): its key service "{wrapped.service}" is not configured for '
                "this owner; name it under `former` in gateway.yaml until `wxgate keys rewrap` is done"
            )
        return service

    def openers(self, owner: Owner) -> dict[str, KeyService]:
        """By name, those that may be shown what is wrapped for `owner`; the one that wraps for it comes last."""
        own = self.of(owner)
        others = {**self._others, self.default.name: self.default}
        others.pop(own.name, None)
        return {**others, own.name: own}

    def holds_own(self, slot: Slot, wrapped: Wrapped) -> bool:
        """Whether `wrapped` is with a service of its tenant's own, which the tenant may close at any time."""
        own = self._tenants.get(slot.owner.tenant)
        return own is not None and own.name == wrapped.service

    def brings(self, owner: Owner) -> bool:
        """Whether `owner` brings its own KEK: new versions of it are not the gateway's to make."""
        return owner.tenant in self._brought

    def cache_age(self, owner: Owner) -> float | None:
        """Seconds after which a DEK of `owner` must be unwrapped anew; None if nothing is said of it."""
        return self._brought.get(owner.tenant)

    def has_kek(self, owner: Owner) -> bool:
        """See KeyService."""
        return self.of(owner).has_kek(owner)

    def awaited(self, owner: Owner) -> str:
        """What has to be done before there can be keys of `owner`, who brings its KEK into the gateway's key service
        and did not yet; "" if nothing has. With a service of its own the KEK is the tenant's wherever it was made.

        Raises KeysError.
        """
        service = self.of(owner)
        if owner.tenant not in self._brought or owner.tenant in self._tenants or service.has_kek(owner):
            return ""
        how = (
            f"`wxgate keys import-kek --tenant {owner.tenant} --region {owner.region} --kek file:PATH`"
            if isinstance(service, Importing)
            else "by the service's own means (docs/keys.md)"
        )
        return (
            f'tenant "{owner.tenant}" brings its own KEK, and key service "{service.name}" has none of '
            f"{owner.tenant}/{owner.region} yet: import it first, {how}"
        )

    def create_kek(self, owner: Owner) -> int:
        """See KeyService. KeysError if the KEK is the tenant's to bring."""
        if awaited := self.awaited(owner):
            raise KeysError(awaited)
        return self.of(owner).create_kek(owner)

    def rotate_kek(self, owner: Owner) -> int:
        """See KeyService."""
        return self.of(owner).rotate_kek(owner)

    def import_kek(self, owner: Owner, kek: bytes, shredded: Collection[bytes] = ()) -> int:
        """See Importing. `kek`: 32 random bytes, raw, in hex or in base64. The tenant must be one that brings its own:
        the ids of its data keys tell. `shredded`: the ids of KEKs that must not come back. Raises KeysError."""
        service = self.of(owner)
        if owner.tenant not in self._brought:
            raise KeysError(
                f'tenant "{owner.tenant}" does not bring its own keys; name it under `keys: tenants:` in gateway.yaml'
            )
        if not isinstance(service, Importing):
            raise KeysError(
                f'key service "{service.name}" takes no KEK from wxgate; import it there by its own means '
                "(docs/keys.md), before the first `wxgate keys init`"
            )
        key = random_key(kek, "the tenant's KEK")
        if kek_id_of(key) in shredded:
            raise KeysError(
                "this KEK was shredded, and what it opened must stay closed; the tenant has to bring another"
            )
        return service.import_kek(owner, key)

    def wrap(self, slot: Slot, dek: bytes, key_id: bytes | None = None) -> Wrapped:
        """See KeyService. New DEKs of tenants who brought their own KEK get ids of 32 bytes."""
        if key_id is None and slot.owner.tenant in self._brought:
            key_id = key_id_of(dek, BROUGHT_KEY_ID_SIZE)
        return self.of(slot.owner).wrap(slot, dek, key_id)

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        """See KeyService."""
        return self.opener(slot, wrapped).unwrap(slot, wrapped)

    def rewrap(self, slot: Slot, wrapped: Wrapped) -> Wrapped:
        """See KeyService. From a former service to the one in use the DEK passes through this process."""
        now, then = self.of(slot.owner), self.opener(slot, wrapped)
        if now is then:
            return now.rewrap(slot, wrapped)
        return now.wrap(slot, then.unwrap(slot, wrapped), wrapped.key_id)

    def destroy_kek(self, owner: Owner) -> Destroyed:
        """See KeyService: in every service that opens for `owner`, or a backup from before a move would open in one.

        The one in use comes last: as long as another cannot be reached, the keyring opens and nothing is half done.
        """
        done = {name: service.destroy_kek(owner) for name, service in self.openers(owner).items()}
        if len(done) == 1:
            return done.popitem()[1]
        # Those that had one first: the whole begins with NO_KEK only if none had.
        parts = sorted(done.items(), key=lambda part: not part[1].found)
        dates = [each.effective for each in done.values() if each.effective is not None]
        return Destroyed("; ".join(f"{each.operation} ({name})" for name, each in parts), max(dates, default=None))

    def check(self) -> None:
        """See KeyService: all services."""
        for service in self:
            service.check()
