"""The key services of one gateway: which keeps an owner's KEKs, and which opens what was wrapped long ago."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from proxy.kms.service import KeysError, KeyService
from proxy.ports import Owner


class ServiceSet:
    """Every service that is configured, by name. `default` wraps for every tenant that has none of its own."""

    def __init__(
        self, default: KeyService, tenants: Mapping[str, KeyService] | None = None, others: Iterable[KeyService] = ()
    ) -> None:
        """`tenants`: the services of tenants that bring their own keys. `others`: those that only still unwrap, because
        the keys move away from them."""
        self.default = default
        self._tenants = dict(tenants or {})
        self._by_name = {each.name: each for each in (*others, *self._tenants.values(), default)}

    def __iter__(self) -> Iterator[KeyService]:
        return iter(self._by_name.values())

    def of(self, owner: Owner) -> KeyService:
        """The service that wraps for `owner`."""
        return self._tenants.get(owner.tenant, self.default)

    def named(self, name: str) -> KeyService:
        """The service that opens what says `name`. Raises KeysError if there is none of that name."""
        try:
            return self._by_name[name]
        except KeyError:
            raise KeysError(
                f"the keyring names a key service {name} that is not configured; add it to `keys:` in gateway.yaml"
            ) from None
