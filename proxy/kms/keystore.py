"""The keyring of a gateway put together from its settings: the file, the key services, the cache, the budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from proxy.kms.budget import SharedBudget
from proxy.kms.cache import KeyCache
from proxy.kms.custody import Custodian
from proxy.kms.distribution import Distribution
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.limits import KeyLimits
from proxy.kms.local import LocalKms
from proxy.kms.redis_link import RedisLink
from proxy.kms.redis_settings import RedisSettings
from proxy.kms.service_set import ServiceSet
from proxy.kms.successors import Successors
from proxy.kms.tag_key import TagKeys
from proxy.kms.upkeep import Writers
from proxy.ports import Clock, Entropy


def keyring_file_of(services: ServiceSet, state: Path, entropy: Entropy) -> KeyringFile:
    """The keyring in the directory `state`. One of format 1 is read if the embedded service has an unlock key."""
    local = next((each for each in services if isinstance(each, LocalKms)), None)
    return KeyringFile(state, TagKeys(services, entropy, None if local is None else lambda: local.tag_key))


def open_keyring_in_use(
    services: ServiceSet,
    state: Path,
    limits: KeyLimits,
    budget: SharedBudget,
    clock: Clock,
    entropy: Entropy,
    *,
    before: Keyring | None = None,
    redis: RedisSettings | None = None,
) -> Keyring:
    """The keyring for serving, reading the file and asking a key service for the tag key only; not even that if
    `before`, whose unwrapped keys it takes over, is of the same keyring.

    `redis`: for the one process of a machine that exchanges with the others. Raises KeysError, KeyMismatchError.
    """
    file = keyring_file_of(services, state, entropy)
    if before is not None:
        file.adopt(before.file)
    cache = KeyCache(services, limits, clock, chance_from(entropy))
    custodian = Custodian(file, limits, budget, clock.now)
    successors = Successors(custodian, services, entropy, clock.monotonic)
    distribution = Distribution(file, RedisLink(redis), limits.activate_after, clock.now) if redis else None
    return Keyring(file, cache, limits, clock, budget, Writers(custodian, successors, distribution), before)


def chance_from(entropy: Entropy) -> Callable[[], float]:
    """Numbers from 0 to 1, evenly distributed, for jitter."""
    return lambda: int.from_bytes(entropy(4)) / 2**32
