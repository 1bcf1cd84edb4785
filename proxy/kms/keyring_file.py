"""The keyring on disk: wrapped DEKs with their states, under an integrity tag. docs/spec/keyring.md is normative."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from proxy.crypto.data_key import DEK_SIZE, hkdf
from proxy.crypto.secret_bytes import SecretBytes
from proxy.kms.keyring_format import Document, Entry, decode, encode, noted, shared, tagged_text
from proxy.kms.private_file import LOCK_PATIENCE, PrivateFile
from proxy.kms.service import KeysError, Wrapped
from proxy.kms.strict_json import MalformedError
from proxy.kms.tag_key import TagKeys

FILE = "keyring.json"
# More than 30 000 entries.
MAX_BYTES = 16 * 1024 * 1024

Edit = Callable[[tuple[Entry, ...]], tuple[Entry, ...]]
# A tag key changes by hand only: when another keyring is put in the file's place.
_TRIES = 3


class _NeedsTagKeyError(Exception):
    """The tag key of `document`, or a new one if it has none, must be had before the file can be changed."""

    def __init__(self, document: Document) -> None:
        super().__init__()
        self.document = document


class KeyringFile:
    """`<state>/keyring.json`. All methods raise KeysError, and KeyMismatchError for a tag key that is another one, and
    then leave the file as it was."""

    def __init__(self, state: Path, tag_keys: TagKeys) -> None:
        """`state`: the directory (0700)."""
        self._file = PrivateFile(state / FILE, MAX_BYTES)
        self._tag_keys = tag_keys

    def __repr__(self) -> str:
        return f"KeyringFile({self._file.path})"

    def adopt(self, other: KeyringFile) -> None:
        """Takes over the tag key that `other` knows, so that reading asks no key service for it."""
        self._tag_keys.adopt(other._tag_keys)

    def stamp(self) -> tuple[int, ...] | None:
        """What differs after every change, had without reading the file; None if there is none."""
        return self._file.stamp()

    def read(self) -> tuple[Entry, ...]:
        """All entries, checked against each other and against the tag."""
        return self.document().entries

    def document(self) -> Document:
        """The same with what stands around the entries."""
        data = self._file.read()
        if data is None:
            raise KeysError(f"{self._file.path}: there is no keyring; make one with `wxgate keys init`")
        return self._decoded(data)

    def change(self, edit: Edit) -> tuple[Entry, ...]:
        """Puts `edit(entries)` in the place of the entries while no other process can; `edit` of () if there is no
        file yet. The entries that hold afterwards; on the disk when this returns, in the newest format."""

        def whole(document: Document) -> Document:
            after = edit(document.entries)
            return document if after == document.entries else replace(document, entries=after)

        return self.change_document(whole).entries

    def change_document(
        self,
        edit: Callable[[Document], Document],
        seconds: float = LOCK_PATIENCE,
        kept: Callable[[Document], None] = lambda document: None,
    ) -> Document:
        """As `change`, for the whole document; the one that holds afterwards. Its revision is one more than before,
        unless `edit` gave it a greater one or changed nothing but this machine's counts.

        Nobody can change the file meanwhile, so `edit` must ask no key service, as nothing here does; it may be called
        more than once. `seconds`: how long to wait for another process that changes the file. `kept` is called with
        what holds afterwards, when it is on the disk and before anybody else can change it.
        """
        made: dict[str, Wrapped] = {}
        for _ in range(_TRIES):
            try:
                with self._file.locked(seconds=seconds):
                    after = self._changed(edit, made)
                    kept(after)
                    return after
            except _NeedsTagKeyError as needs:
                self._get_tag_key(needs.document, made)
        raise KeysError(f"{self._file.path}: its tag key is another one each time it is read")

    @contextmanager
    def making(self, services: Iterable[str], seconds: float = LOCK_PATIENCE) -> Iterator[None]:
        """Keeps other processes from making keys with the key services of these names meanwhile, so that they find them
        made; from nothing else. `seconds`: how long to wait for each that does."""
        with ExitStack() as locks:
            for name in sorted(set(services)):  # in one order, so that no two wait for each other
                locks.enter_context(self._file.locked(f"{name}.making.lock", seconds))
            yield

    def verified(self, data: bytes, tag_key: bytes | None = None) -> Document:
        """The document in `data`, a keyring that came another way than from the file. `tag_key`: the id its tag key
        must have, so that no key service is asked for another. Raises KeysError, KeyMismatchError."""
        return self._decoded(data, "a copy of the keyring", tag_key)

    def text(self, document: Document) -> bytes:
        """`document` as it stands in the file."""
        return self._encoded(document)

    def secret(self, info: bytes) -> SecretBytes:
        """32 bytes of the gateway's own for another use, derived from the keyring's tag key; of format 1 there are
        none. `info`: the use."""
        document = self.document()
        if document.tag_key is None:
            raise KeysError(
                f"{self._file.path}: has format 1; any change of it, such as `wxgate keys rotate`, renews it"
            )
        return hkdf(self._tag_keys.of(document), info, DEK_SIZE)

    def _changed(self, edit: Callable[[Document], Document], made: Mapping[str, Wrapped]) -> Document:
        """While the file is locked. `made`: new tag keys, by region. Raises _NeedsTagKeyError if another is needed."""
        data = self._file.read()
        before = Document(()) if data is None else self._decoded(data, ask=False)
        after = edit(before)
        after = replace(after, entries=noted(after.entries, before.entries))
        if after == before:
            return before
        if before.tag_key is None or shared(after) != shared(before):
            after = replace(after, revision=max(after.revision, before.revision + 1))
        if after.tag_key is None:
            if not after.entries:
                raise KeysError("an empty keyring is not kept")
            region = after.entries[0].slot.owner.region
            after = replace(after, tag_key=made.get(region), region=region)
        if after.tag_key is None or not self._tag_keys.knows(after):
            raise _NeedsTagKeyError(after)
        self._file.replace(self._encoded(after))
        return after

    def _get_tag_key(self, document: Document, made: dict[str, Wrapped]) -> None:
        """Unwraps the tag key of `document`; makes one first if it has none. While the file is not locked."""
        if document.tag_key is None:
            made[document.region] = self._tag_keys.made(document.region)
            document = replace(document, tag_key=made[document.region])
        self._tag_keys.of(document)

    def _decoded(self, data: bytes, where: str = "", tag_key: bytes | None = None, *, ask: bool = True) -> Document:
        """Unless `ask`, raises _NeedsTagKeyError instead of asking a key service."""
        where = where or str(self._file.path)
        try:
            document, tag = decode(data)
        except MalformedError as error:
            raise KeysError(f"{where}: damaged: {error}; restore it from a backup") from None
        theirs = document.tag_key.key_id if document.tag_key else b""
        if tag_key is not None and not hmac.compare_digest(theirs, tag_key):
            raise KeysError(f"{where}: its tag key is another one: it is of another installation")
        if not ask and not self._tag_keys.knows(document):
            raise _NeedsTagKeyError(document)
        if not hmac.compare_digest(tag, self._tag(document)):
            raise KeysError(
                f"{where}: the integrity tag does not match: it belongs to other keys (another unlock key), or was "
                "changed; check `keys:` in gateway.yaml, then restore it"
            )
        return document

    def _encoded(self, document: Document) -> bytes:
        try:
            return encode(document, self._tag(document))
        except MalformedError as error:
            raise KeysError(f"{self._file.path}: this cannot be kept: {error}; the file stays as it was") from None

    def _tag(self, document: Document) -> str:
        """HMAC-SHA-256, in hex."""
        return hmac.new(self._tag_keys.of(document), tagged_text(document), hashlib.sha256).hexdigest()
