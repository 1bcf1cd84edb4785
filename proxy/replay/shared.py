"""Delivery claims and stored replies, shared by the worker processes of one machine, in memory only.

One anonymous memory file (memfd, no name in any file system), mapped by the supervisor before it forks. A record lock
on it keeps the workers apart: the kernel gives it back when a worker is killed, which a semaphore would not survive.
Each worker uses it from one thread only, since such locks belong to the process. A single worker needs none: the next
one is forked when it is gone.

What is remembered (protocol 1.4, 1.7; for deployers: docs/deliveries.md):
triple  -> its payload, its message, when it was first seen; for `triple_window`;
message -> released, pending until, or settled with its reply; at least as long as any of its triples.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from dataclasses import dataclass
from typing import Final, Self

from proxy.cleared import StoredReply
from proxy.ports import Claim, Deliveries, Delivery
from proxy.refusal import Refusal
from proxy.replay.arena import ReplyRing
from proxy.replay.table import NO_ROOM, Table, buckets_for
from proxy.wechat.reply import SUCCESS

_TRIPLE: Final = struct.Struct("=16s16sd")  # payload key, message key, first seen
_MESSAGE: Final = struct.Struct("=QdQ")  # state, pending until, position of the reply

_PENDING, _SETTLED, _SETTLED_SUCCESS, _RELEASED = 1, 2, 3, 4

_SUCCESS: Final = StoredReply("", SUCCESS)

# Words of 8 bytes at the start of the memory.
_RING_END, _OVERWRITTEN, _TOO_LARGE, _FULL = range(4)
_WORDS: Final = 8

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@dataclass(frozen=True, slots=True)
class Counts:
    """What went less than well since the start, all workers together."""

    replies_overwritten: int
    """Repeats that got `success` because newer replies had taken the place of theirs."""
    replies_too_large: int
    """Replies not kept because of their size; their repeats get `success`."""
    refused_full: int
    """Deliveries refused with `deliveries_full`."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where what lies in the memory, in bytes."""

    buckets: int
    reply_bytes: int

    @property
    def triples(self) -> int:
        return _WORDS * 8

    @property
    def messages(self) -> int:
        return self.triples + Table.size(self.buckets, _TRIPLE)

    @property
    def ring(self) -> int:
        return self.messages + Table.size(self.buckets, _MESSAGE)

    @property
    def size(self) -> int:
        return self.ring + self.reply_bytes


class _Lock:
    """The record lock on the memory, between processes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN)


class SharedDeliveries(Deliveries):
    """ports.Deliveries for all processes forked after `create`. Times: Unix seconds of the machine's clock."""

    def __init__(self, fd: int, layout: _Layout, repeat_window: float, triple_window: float, processes: int) -> None:
        """Use `create`. `fd`: zeroed memory of the layout's size; it belongs to this object from now on."""
        self._fd = fd
        self._lock: _Lock | threading.Lock = _Lock(fd) if processes > 1 else threading.Lock()
        self._memory = memory = mmap.mmap(fd, layout.size, trackfd=False)
        memory.madvise(mmap.MADV_DONTDUMP)  # replies do not belong in a core dump
        self._words = memoryview(memory)[: _WORDS * 8].cast("Q")
        self._triples = Table(memory, layout.triples, layout.buckets, _TRIPLE, int.from_bytes(os.urandom(16)))
        self._messages = Table(memory, layout.messages, layout.buckets, _MESSAGE, int.from_bytes(os.urandom(16)))
        self._ring = ReplyRing(memory, layout.ring, layout.reply_bytes, self._words)
        self._claimed: dict[bytes, int] = {}  # slots of what this process works on
        self._repeat_window = repeat_window
        self._triple_window = triple_window

    @classmethod
    def create(
        cls,
        entries: int,
        reply_bytes: int,
        repeat_window: float = 60.0,
        triple_window: float = 700.0,
        *,
        processes: int,
    ) -> Self:
        """Call it in the supervisor, before the fork. `processes`: how many may claim at the same time.

        `entries`: deliveries that are remembered at once, that is, within `triple_window`. `reply_bytes`: memory for
        stored replies. `repeat_window`: seconds in which WeChat may repeat a triple. `triple_window`: seconds a triple
        is remembered; more than twice the freshness window, or an old triple could be used again.

        Raises ValueError for sizes or windows that make no sense, OSError if there is no memory to be had.
        """
        if entries < 1 or reply_bytes < 0 or not 0 < repeat_window < triple_window:
            raise ValueError("deliveries need entries >= 1, reply_bytes >= 0 and 0 < repeat_window < triple_window")
        layout = _Layout(buckets_for(entries), reply_bytes)
        fd = os.memfd_create("wxgate-deliveries", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, layout.size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(fd, layout, repeat_window, triple_window, processes)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Gives this process's share of the memory back; it is gone when the last process did or ended."""
        self._triples.close()
        self._messages.close()
        self._words.release()
        self._memory.close()
        os.close(self._fd)

    def counts(self) -> Counts:
        return Counts(self._words[_OVERWRITTEN], self._words[_TOO_LARGE], self._words[_FULL])

    def claim(self, delivery: Delivery, now: float, hold: float) -> tuple[Claim, StoredReply | None]:
        """As ports.Deliveries. `hold` must be longer than an exchange may take: when it has run out, the next
        delivery of the message is a FIRST."""
        with self._lock:
            triple, known = self._triples.locate(delivery.triple, now)
            known = known and self._triples.lives(triple, now)
            if known:
                self._require_repeat(triple, delivery, now)
            message, there = self._messages.locate(delivery.message, now)
            free = not there or self._is_free(message, now)
            if NO_ROOM in (triple, message):  # before either is written: nothing is remembered of what is refused
                self._words[_FULL] += 1
                raise Refusal("deliveries_full")
            until = now + self._triple_window
            if not free and not known:  # first, so that no triple ever outlives its message
                self._messages.extend(message, until)
            if not known:
                self._triples.put(triple, delivery.triple, until, delivery.payload, delivery.message, now)
            if not free:
                return self._standing(message, delivery.message)
            self._messages.put(message, delivery.message, until, _PENDING, now + hold, 0)
            self._claimed[delivery.message] = message
            return Claim.FIRST, None

    def settle(self, delivery: Delivery, reply: StoredReply, now: float) -> None:
        """As ports.Deliveries. The first reply stays. It lives as long as the message, whatever `now` is."""
        with self._lock:
            slot = self._pending(delivery.message)
            if slot is None:
                return
            position = None if reply == _SUCCESS else self._keep(delivery.message, reply)
            if position is None:
                self._messages.change(slot, _SETTLED_SUCCESS, 0.0, 0)
            else:
                self._messages.change(slot, _SETTLED, 0.0, position)

    def release(self, delivery: Delivery) -> None:
        """As ports.Deliveries. What was settled stays settled: the CRM has seen it."""
        with self._lock:
            slot = self._pending(delivery.message)
            if slot is not None:
                self._messages.change(slot, _RELEASED, 0.0, 0)

    def _require_repeat(self, slot: int, delivery: Delivery, now: float) -> None:
        # These are digests of what was authenticated before: a comparison's duration tells nobody anything.
        payload, message, seen = self._triples.get(slot)
        if payload != delivery.payload or message != delivery.message:
            raise Refusal("delivery_conflict")
        if now - seen > self._repeat_window:
            raise Refusal("delivery_replayed")

    def _pending(self, key: bytes) -> int | None:
        slot = self._claimed.pop(key, None)
        if slot is None or not self._messages.holds(slot, key):
            place, there = self._messages.locate(key, 0.0)  # whatever the time is: no room is wanted
            slot = place if there else None
        return slot if slot is not None and self._messages.get(slot)[0] == _PENDING else None

    def _is_free(self, slot: int, now: float) -> bool:
        if not self._messages.lives(slot, now):
            return True
        state, pending_until, _ = self._messages.get(slot)
        return bool(state == _RELEASED or (state == _PENDING and pending_until <= now))

    def _standing(self, slot: int, key: bytes) -> tuple[Claim, StoredReply | None]:
        state, _, position = self._messages.get(slot)
        if state == _PENDING:
            return Claim.PENDING, None
        if state == _SETTLED_SUCCESS:
            return Claim.REPEAT, _SUCCESS
        reply = self._ring.read(key, position)
        if reply is None:
            self._words[_OVERWRITTEN] += 1
        return Claim.REPEAT, reply or _SUCCESS

    def _keep(self, key: bytes, reply: StoredReply) -> int | None:
        position = self._ring.append(key, reply)
        if position is None:
            self._words[_TOO_LARGE] += 1
        return position
