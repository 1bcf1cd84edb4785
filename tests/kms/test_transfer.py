"""Keys that come from another place: nothing they bring undoes what is known here, or replaces what stands here."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.crypto.data_key import Purpose
from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.keystore import keyring_file_of
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.shredded import KEK_ID_SIZE, Shredded
from proxy.kms.shredding import shred, signing_key
from proxy.kms.transfer import Losses, Source, export_wrapped, import_wrapped, losses
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, NOW, OTHER

RANDOM = secrets.token_bytes
MORE = Slot(ACME, "agent", Purpose.LOOKUP)


@pytest.fixture
def services(filled: Path, unlock: bytes) -> ServiceSet:
    return ServiceSet(LocalKms(filled, unlock, RANDOM))


@pytest.fixture
def file(filled: Path, services: ServiceSet) -> KeyringFile:
    return keyring_file_of(services, filled, RANDOM)


@pytest.fixture
def another(services: ServiceSet, tmp_path: Path) -> KeyringFile:
    """Another installation's keyring on the same key services, changed more often than the first."""
    state = tmp_path / "another"
    state.mkdir(mode=0o700)
    file = keyring_file_of(services, state, RANDOM)
    made = make_missing(file, services, [DATA, LOOKUP, MORE], NOW + 50, RANDOM)
    for number in range(1, 20):
        counted(file, made[0].id, 10 * number, 1000 * number)
        file.change(lambda entries: transitions.disabled(entries, {made[1].id}, NOW))
        file.change(lambda entries: transitions.enabled(entries, {made[1].id}, NOW))
    return file


def counted(file: KeyringFile, key_id: bytes, uses: int, size: int) -> None:
    file.change(lambda entries: transitions.counted(entries, {key_id: (uses, size)}))


def only(file: KeyringFile, slot: Slot) -> Entry:
    (entry,) = (entry for entry in file.read() if entry.slot == slot)
    return entry


def by_id(file: KeyringFile, key_id: bytes) -> Entry:
    (entry,) = (entry for entry in file.read() if entry.id == key_id)
    return entry


def exported(file: KeyringFile) -> bytes:
    return export_wrapped(file, Selection())[0]


def bare(file: KeyringFile) -> dict[bytes, Entry]:
    return {entry.id: entry for entry in file.read()}


def test_of_another_keyring_the_keys_open_and_protect_nothing(
    file: KeyringFile, another: KeyringFile, services: ServiceSet
) -> None:
    before, theirs = bare(file), bare(another)
    imported = import_wrapped(file, services, exported(another), NOW + 99)
    assert imported.source is Source.ANOTHER and {entry.id for entry in imported.new} == theirs.keys()
    after = bare(file)
    assert {key_id: after[key_id] for key_id in before} == before, "what was here is as it was"
    data = after[only(another, DATA).id]
    assert (data.state, data.retired) == (KeyState.RETIRING, int(NOW + 99))
    assert (data.uses, data.size) == (190, 19000)
    assert services.unwrap(data.slot, data.wrapped)
    lookup = after[only(another, LOOKUP).id]
    assert lookup.state is KeyState.RETIRING and not lookup.being_replaced, "beside the one that is here"
    assert after[only(another, MORE).id].state is KeyState.ACTIVE, "where there was none, equal values stay equal"


def test_another_keyring_replaces_neither_the_tag_key_nor_the_key_of_receipts(
    file: KeyringFile, another: KeyringFile, services: ServiceSet
) -> None:
    before, signer = file.document(), signing_key(file).private_bytes_raw()
    assert another.document().revision > before.revision + 20
    import_wrapped(file, services, exported(another), NOW)
    after = file.document()
    assert (after.tag_key, after.region) == (before.tag_key, before.region)
    assert signing_key(file).private_bytes_raw() == signer
    assert after.revision == before.revision + 1


def test_another_keyring_s_shreddings_are_its_own_matter(
    file: KeyringFile, another: KeyringFile, services: ServiceSet
) -> None:
    other = make_missing(another, services, [FOREIGN], NOW, RANDOM)
    shred(another, services, OTHER, NOW)
    assert another.document().shredded and other
    assert import_wrapped(file, services, another.text(another.document()), NOW).source is Source.ANOTHER
    assert not file.document().shredded


def test_what_another_keyring_has_destroyed_or_disabled_stays_what_it_is_here(
    file: KeyringFile, another: KeyringFile, services: ServiceSet
) -> None:
    """As of a tenant who moved there, and left."""
    import_wrapped(another, services, exported(file), NOW)
    before, data, lookup = bare(file), only(file, DATA).id, only(file, LOOKUP).id
    another.change(lambda entries: transitions.disabled(entries, {lookup}, NOW))
    another.change(lambda entries: transitions.destroyed(entries, {data}, NOW))
    assert not losses(file, exported(another))
    imported = import_wrapped(file, services, exported(another), NOW)
    assert {key_id: bare(file)[key_id] for key_id in before} == before
    assert [entry.id for entry in imported.left] == [data]


def test_what_a_copy_has_destroyed_is_destroyed_if_that_was_agreed(file: KeyringFile, services: ServiceSet) -> None:
    before, made = (file._file.read() or b""), file.read()
    gone = {made[0].id}
    file.change(lambda entries: transitions.destroyed(entries, gone, NOW))
    copy = exported(file)
    file._file.replace(before)
    lost = losses(file, copy)
    assert [entry.id for entry in lost.keys] == list(gone) and not lost.owners
    for agreed in (None, Losses(), Losses([made[1]])):
        with pytest.raises(KeysError, match="nobody said so"):
            import_wrapped(file, services, copy, NOW, agreed)
        assert file.read() == made
    assert import_wrapped(file, services, copy, NOW, lost).new == []
    assert by_id(file, made[0].id).state is KeyState.DESTROYED
    assert not losses(file, copy), "nothing is left to lose"


def test_what_a_copy_says_is_shredded_must_be_agreed_too(file: KeyringFile, services: ServiceSet) -> None:
    """Of a tenant whose keys here the copy does not know: they would follow their KEK."""
    before = file.document()
    shredded = frozenset({Shredded(OTHER, bytes(KEK_ID_SIZE))})
    copy = file.text(replace(before, shredded=shredded))
    lost = losses(file, copy)
    assert lost == Losses([], [OTHER])
    with pytest.raises(KeysError, match="nobody said so"):
        import_wrapped(file, services, copy, NOW)
    import_wrapped(file, services, copy, NOW, lost)
    assert file.document().shredded == shredded


def test_nothing_is_lost_where_there_was_no_keyring(file: KeyringFile, services: ServiceSet, tmp_path: Path) -> None:
    file.change(lambda entries: transitions.destroyed(entries, {only(file, DATA).id}, NOW))
    (tmp_path / "empty").mkdir(mode=0o700)
    assert not losses(keyring_file_of(services, tmp_path / "empty", RANDOM), exported(file))


@pytest.mark.parametrize(("here", "there"), [((9, 5), (3, 70)), ((3, 70), (9, 5))])
def test_counts_never_go_down(
    file: KeyringFile, services: ServiceSet, here: tuple[int, int], there: tuple[int, int]
) -> None:
    key_id = only(file, DATA).id
    counted(file, key_id, *there)
    copy = exported(file)
    counted(file, key_id, *here)
    assert import_wrapped(file, services, copy, NOW).source is Source.COPY
    after = by_id(file, key_id)
    assert (after.uses, after.size) == (9, 70)


def test_a_key_that_came_back_counts_what_the_copy_says(file: KeyringFile, services: ServiceSet) -> None:
    """As on a machine whose keyring was restored from a backup, with another machine's export."""
    made = make_missing(file, services, [Slot(ACME, "agent", Purpose.DATA)], NOW, RANDOM)[0]
    counted(file, made.id, 7, 77)
    copy = exported(file)
    file.change(lambda entries: tuple(entry for entry in entries if entry.id != made.id))
    assert [entry.id for entry in import_wrapped(file, services, copy, NOW).new] == [made.id]
    after = by_id(file, made.id)
    assert (after.state, after.uses, after.size) == (KeyState.ACTIVE, 7, 77)


def test_where_there_was_none_the_keyring_begins_as_a_copy(
    file: KeyringFile, services: ServiceSet, tmp_path: Path, filled: Path
) -> None:
    copy = exported(file)
    counted(file, only(file, DATA).id, 7, 77)
    later = exported(file)
    (tmp_path / "empty").mkdir(mode=0o700)
    shutil.copy(filled / "kek.json", tmp_path / "empty")
    begun = keyring_file_of(services, tmp_path / "empty", RANDOM)
    assert import_wrapped(begun, services, later, NOW).source is Source.FIRST
    assert begun.document() == file.document()
    assert import_wrapped(begun, services, copy, NOW).source is Source.COPY and only(begun, DATA).uses == 7


def test_an_export_says_what_was_shredded_of_whom_it_is_about(
    file: KeyringFile, services: ServiceSet, tmp_path: Path
) -> None:
    shred(file, services, OTHER, NOW)
    everything, of_acme = exported(file), export_wrapped(file, Selection(tenant="acme"))[0]
    for data, shredded in ((everything, file.document().shredded), (of_acme, frozenset())):
        assert file.verified(data).shredded == shredded
    (tmp_path / "empty").mkdir(mode=0o700)
    begun = keyring_file_of(services, tmp_path / "empty", RANDOM)
    import_wrapped(begun, services, everything, NOW)
    assert {each.owner for each in begun.document().shredded} == {OTHER}


def test_keys_that_nobody_counted_protect_no_more(
    file: KeyringFile, services: ServiceSet, filled: Path, tmp_path: Path, unlock: bytes
) -> None:
    """Of format 1, which knew no counts."""
    old = file.text(Document(tuple(replace(entry, uses=0, size=0, changes=0) for entry in file.read())))
    (tmp_path / "empty").mkdir(mode=0o700)
    shutil.copy(filled / "kek.json", tmp_path / "empty")
    own = ServiceSet(LocalKms(tmp_path / "empty", unlock, RANDOM))
    begun = keyring_file_of(own, tmp_path / "empty", RANDOM)
    import_wrapped(begun, own, old, NOW)
    assert {(entry.slot, entry.state) for entry in begun.read()} == {
        (DATA, KeyState.RETIRING),
        (FOREIGN, KeyState.RETIRING),
        (LOOKUP, KeyState.ACTIVE),
    }


def test_what_was_changed_on_its_way_or_does_not_open_is_not_taken(file: KeyringFile, services: ServiceSet) -> None:
    before, document = file.read(), file.document()
    with pytest.raises(KeysError, match="integrity tag"):
        import_wrapped(file, services, exported(file).replace(b'"uses": 0', b'"uses": 1'), NOW)
    closed = replace(before[0], wrapped=replace(before[0].wrapped, sealed=bytes(72)))
    with pytest.raises(KeysError, match=closed.id.hex()):
        import_wrapped(file, services, file.text(replace(document, entries=(closed,))), NOW)
    assert file.read() == before


type Step = Callable[[tuple[Entry, ...], set[bytes], float], tuple[Entry, ...]]


@pytest.mark.parametrize("step", [transitions.destroyed, transitions.disabled])
def test_a_copy_brings_nothing_back(file: KeyringFile, services: ServiceSet, step: Step) -> None:
    copy, key_id = exported(file), only(file, DATA).id
    file.change(lambda entries: step(entries, {key_id}, NOW))
    before = bare(file)
    assert import_wrapped(file, services, copy, NOW).new == [] and bare(file) == before
