"""How long and how much data keys may be used: `keys:` of gateway.yaml. Values only."""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86400.0
# What a worker takes of a budget at a time, uses and bytes: so much, and at most one in so many.
_BLOCK = (1024, 4 * 1024 * 1024)
_SHARE = 128


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """`cache_age`, `cache_uses`, `cache_size` (bytes): a DEK that was unwrapped serves as long and as often at most
    before the key service is asked again; it is asked in the background from half of them on, and the other half is the
    grace while it does not answer.

    `budget_uses`, `budget_size` (bytes): what one DEK protects at most, in its life and on all machines; NIST SP
    800-38D, section 8.3, allows 2^32 values under one key with random nonces, and XAES-256-GCM (C2SP) far more.

    `rotate_after`: seconds after which a data key is replaced. `activate_after`: seconds between the making of a key
    and its first use, in which all processes learn of it. `refresh`: seconds between two looks at the keyring file.
    `machines`: gateways that share the keyring; each has its part of the budget.
    """

    cache_age: float = 3600.0
    cache_uses: int = 2**24
    cache_size: int = 2**36
    budget_uses: int = 2**32
    budget_size: int = 2**40
    rotate_after: float = 90 * DAY
    activate_after: float = 10.0
    refresh: float = 1.0
    machines: int = 1

    @property
    def block(self) -> tuple[int, int]:
        """Uses and bytes that a worker takes of a budget at a time."""
        return max(min(_BLOCK[0], self.uses // _SHARE), 1), max(min(_BLOCK[1], self.size // _SHARE), 1)

    @property
    def uses(self) -> int:
        """Of one machine."""
        return self.budget_uses // self.machines

    @property
    def size(self) -> int:
        """Of one machine, in bytes."""
        return self.budget_size // self.machines
