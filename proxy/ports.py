"""What the gateway asks of the world, as protocols. Adapters: kms/, replay/, observe/, edge/upstream.py."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from proxy.cleared import ClearedRequest, StoredReply
from proxy.crypto.data_key import DataKey, Purpose
from proxy.message import Response
from proxy.record import record


class Clock(Protocol):
    """`now`: Unix seconds. `monotonic`: seconds from any start, for deadlines and durations; whether it goes on
    while the machine is suspended is the adapter's to say."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...


class Entropy(Protocol):
    """`count` bytes fit for keys and nonces."""

    def __call__(self, count: int, /) -> bytes: ...


class Owner(NamedTuple):
    """Whose data it is: picks the KEK, stands in every token's AAD. `region`: lower-case ISO code."""

    tenant: str
    region: str


class Keys(Protocol):
    """The DEKs of the keyring. Raises Refusal `key_unavailable` when a key exists but cannot be had now."""

    def at_hand(self, owner: Owner, group: str, purpose: Purpose) -> DataKey | None:
        """The key to protect with, if nothing need be waited for; `active` gets it otherwise."""
        ...

    async def active(self, owner: Owner, group: str, purpose: Purpose) -> DataKey:
        """The key to protect with. Refusal `key_unavailable` if there is none."""
        ...

    async def previous(self, owner: Owner, group: str) -> DataKey:
        """The lookup key whose values are made beside those of the active one: the old one while it is being replaced,
        else the active one itself. Refusal `key_unavailable` if there is none."""
        ...

    async def by_id(self, owner: Owner, key_id: bytes) -> DataKey | None:
        """The key of that id if it is one of `owner`'s and may still open; None otherwise. Never asks a KMS for an
        unknown id."""
        ...


class Claim(enum.Enum):
    """What a delivery is. FIRST: ours to work on. REPEAT: it has a stored reply. PENDING: being worked on."""

    FIRST = "first"
    REPEAT = "repeat"
    PENDING = "pending"


@record
class Delivery:
    """The three names of a delivery, 16 bytes each; see wechat.delivery."""

    triple: bytes
    payload: bytes
    message: bytes


class Deliveries(Protocol):
    """Remembers deliveries and their replies for all workers of a machine, in memory only. Times: Unix seconds."""

    def claim(self, delivery: Delivery, now: float, hold: float) -> tuple[Claim, StoredReply | None]:
        """Claims the message for `hold` seconds. REPEAT comes with the stored reply.

        Raises Refusal `delivery_conflict` (the triple came with another payload), `delivery_replayed` (the triple is
        older than the time in which WeChat repeats), `deliveries_full`.
        """
        ...

    def settle(self, delivery: Delivery, reply: StoredReply, now: float) -> None:
        """Keeps the reply for the message's repeats."""
        ...

    def release(self, delivery: Delivery) -> None:
        """Gives the claim back: the next delivery of the message is a FIRST again."""
        ...


class Upstream(Protocol):
    """The one door out."""

    async def send(self, request: ClearedRequest, deadline: float) -> Response:
        """The complete answer. `deadline`: monotonic seconds. Never sends twice.

        Raises Refusal `upstream_unreachable`, `upstream_untrusted`, `upstream_timeout`, `upstream_broken`,
        `upstream_busy`.
        """
        ...


class Audit(Protocol):
    def append(self, record: Mapping[str, str | int | float | bool | None], usual: tuple[str | int, ...] = ()) -> None:
        """Written before bytes leave. `usual`: more of it, keys and values by turns, of which there are few and which
        may be remembered: what configuration and policies say, small numbers. Raises OSError if it cannot be."""
        ...


class Log(Protocol):
    def write(self, level: int, event: str, **facts: str | int | float) -> None:
        """A structured line; facts are metadata only, checked against an allow-list."""
        ...

    def fault(self, error: BaseException) -> None:
        """An internal fault: type and source lines of the error, never its message or any value."""
        ...


class Measures(Protocol):
    """Counters and histograms; names and labels are listed in observe/measures.py."""

    def count(self, name: str, *labels: str) -> None: ...

    def count_each(self, name: str, amounts: Mapping[str, int]) -> None:
        """Adds to a counter of one label: the amount for each."""
        ...

    def observe(self, name: str, samples: Iterable[tuple[str, float]]) -> None:
        """Each sample: the histogram's label and seconds."""
        ...
