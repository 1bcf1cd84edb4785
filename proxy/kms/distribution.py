"""One keyring on several machines: each has its file, which is what counts; Redis only carries what is new.

An exchange takes up what Redis has newer, and leaves there what this machine has newer. What Redis says is believed
only under the keyring's own integrity tag, and nothing older than the file is ever taken up. A key that was not left in
Redis yet must not become active, since the other machines could not open what it protects: its time is put off.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import replace

from proxy.crypto.data_key import KeyMismatchError
from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, KeyState, shared
from proxy.kms.redis_link import RedisDownError, RedisLink
from proxy.kms.service import KeysError
from proxy.kms.transitions import Entries

_TRIES = 5  # another machine may leave something between reading and writing


class Outcome(enum.Enum):
    """What an exchange came to."""

    SAME = "same"
    TAKEN = "taken"
    LEFT = "left"
    DOWN = "down"
    REFUSED = "refused"
    OLDER = "older"


class Distribution:
    """Of one machine. `exchange` blocks and is called by one thread at a time."""

    def __init__(self, file: KeyringFile, link: RedisLink, delay: float, now: Callable[[], float]) -> None:
        """`delay`: seconds between the making of a key and its first use. `now`: the clock, in Unix seconds."""
        self._file, self._link, self._delay, self._now = file, link, delay, now
        self._newest = 0
        self._carried: frozenset[bytes] = frozenset()
        self.problem = ""

    def exchange(self) -> tuple[Outcome, Document]:
        """What it came to, and the keyring of the file afterwards. Raises KeysError, KeyMismatchError for the file
        only; what is wrong with Redis is in `problem`."""
        try:
            with self._link.exchange():
                outcome, document = self._exchanged()
        except RedisDownError as error:
            self.problem = str(error)
            return Outcome.DOWN, self._put_off()
        except _RefusedError as error:
            self.problem = str(error)
            return Outcome.REFUSED, self._put_off()
        self._newest = max(self._newest, document.revision)
        self._carried = frozenset(entry.id for entry in document.entries)
        return outcome, document

    def _exchanged(self) -> tuple[Outcome, Document]:
        outcome = Outcome.SAME
        for _ in range(_TRIES):
            found = self._read()
            theirs = None if found is None else self._verified(found[1])
            if theirs is not None and theirs.revision < self._newest:
                # Said, and mended by what this machine has.
                self.problem = f"Redis has revision {theirs.revision} of the keyring, and had {self._newest}"
                outcome = Outcome.OLDER
            elif outcome is Outcome.SAME:
                self.problem = ""
            before = self._file.document()
            mine = before if theirs is None else self._taken_up(theirs)
            if shared(mine) != shared(before):
                outcome = Outcome.TAKEN
            if theirs is not None and shared(theirs) == shared(mine) and theirs.revision == mine.revision:
                return outcome, mine
            read = b"" if found is None else found[0]
            if self._link.swap(read, str(mine.revision).encode(), self._file.text(mine)):
                return (Outcome.LEFT if outcome is Outcome.SAME else outcome), mine
        raise RedisDownError("redis: other machines change the keyring all the time")

    def _read(self) -> tuple[bytes, bytes] | None:
        try:
            return self._link.read()
        except RedisDownError:
            raise
        except KeysError as error:
            raise _RefusedError(str(error)) from None

    def _verified(self, data: bytes) -> Document:
        """What Redis holds, under the tag key of the file. Asks no key service for another one's."""
        own = self._file.document().tag_key
        try:
            theirs = self._file.verified(data, own.key_id if own else b"of version 1")
        except (KeysError, KeyMismatchError) as error:
            raise _RefusedError(f"what Redis has is refused: {error}") from None
        return theirs

    def _taken_up(self, theirs: Document) -> Document:
        """The file with what `theirs` has newer, on the disk."""

        def edit(mine: Document) -> Document:
            if shared(mine) == shared(theirs):
                # Two machines may have counted differently on the way to the same.
                return mine if mine.revision >= theirs.revision else replace(mine, revision=theirs.revision)
            merged = transitions.merged(mine, theirs)
            if shared(merged) == shared(mine):
                return replace(mine, revision=max(mine.revision, theirs.revision + 1))
            if shared(merged) != shared(theirs):
                return replace(merged, revision=max(mine.revision, theirs.revision) + 1)
            return merged

        return self._file.change_document(edit)

    def _put_off(self) -> Document:
        """Keys that other machines cannot know stay pending."""
        now = self._now()

        def edit(entries: Entries) -> Entries:
            return tuple(
                replace(entry, activated=int(now + self._delay))
                if entry.state is KeyState.PENDING
                and entry.id not in self._carried
                and entry.activated is not None
                and entry.activated < now + self._delay / 2
                else entry
                for entry in entries
            )

        self._file.change(edit)
        return self._file.document()


class _RefusedError(KeysError):
    """What Redis holds is not believed."""
