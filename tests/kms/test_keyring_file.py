"""The keyring file: what it keeps comes back, everything else is refused, and no death of a writer tears it."""

import hmac
import json
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.crypto.data_key import KeyMismatchError
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState, encode, tagged_text
from proxy.kms.local import LocalKms
from proxy.kms.service import KeysError, Slot, Wrapped
from proxy.kms.service_set import ServiceSet
from proxy.kms.tag_key import TagKeys
from proxy.kms.transitions import counted
from proxy.ports import Owner
from tests.kms.conftest import DATA, FOREIGN, LOOKUP, Counting, Swapping
from tests.support.embedded import keyring_file

TAG_KEY = bytes(range(32))
RANDOM = secrets.token_bytes


def entry(number: int, slot: Slot = DATA, state: KeyState = KeyState.ACTIVE, *times: int | None) -> Entry:
    sealed = b"" if state is KeyState.DESTROYED else bytes(72)
    created, activated, retired = (*(times or (1, 2)), None)[:3]
    wrapped = Wrapped(number.to_bytes(16, "big"), "local", 1, sealed)
    return Entry(slot, wrapped, state, created or 0, activated, retired, number, 10 * number)


ALL = (
    entry(1),
    entry(2, LOOKUP),
    entry(3, FOREIGN),
    entry(4, DATA, KeyState.PENDING, 1, 9),
    entry(5, DATA, KeyState.PENDING, 1, None),
    entry(6, DATA, KeyState.RETIRING, 1, 2, 3),
    entry(7, DATA, KeyState.DISABLED, 1, None, 3),
    entry(8, DATA, KeyState.DISABLED, 1, 2, 3),
    entry(9, DATA, KeyState.DESTROYED, 1, 2, 3),
    entry(10, LOOKUP, KeyState.RETIRING, 1, 2, None),
    entry(11, LOOKUP, KeyState.RETIRING, 1, 2, 3),
    replace(entry(12, FOREIGN), wrapped=Wrapped(bytes(32), "vault", 3, b"vault:v1:x"), state=KeyState.DISABLED),
)


@pytest.fixture
def empty(state: Path, kms: LocalKms) -> KeyringFile:
    """Not written yet; the key of its tag is TAG_KEY."""
    return keyring_file(state, kms, lambda count: TAG_KEY[:count])


@pytest.fixture
def file(empty: KeyringFile) -> KeyringFile:
    empty.change(lambda _: ALL)
    return empty


def document(state: Path) -> dict[str, Any]:
    return dict(json.loads((state / "keyring.json").read_bytes()))


def rewrite(state: Path, found: object) -> None:
    (state / "keyring.json").write_bytes(found if isinstance(found, bytes) else json.dumps(found).encode())


def test_every_state_comes_back_as_it_was(file: KeyringFile) -> None:
    assert file.read() == ALL


def test_without_a_file_reading_names_the_command_and_changing_starts_from_nothing(empty: KeyringFile) -> None:
    with pytest.raises(KeysError, match="wxgate keys init"):
        empty.read()
    empty.change(lambda entries: (*entries, entry(1)))
    assert empty.read() == (entry(1),)


def test_a_change_that_changes_nothing_writes_nothing(file: KeyringFile, state: Path) -> None:
    before = (state / "keyring.json").stat().st_ino
    file.change(lambda entries: entries)
    assert (state / "keyring.json").stat().st_ino == before


def test_a_change_that_raises_or_cannot_be_read_back_leaves_the_file(file: KeyringFile, state: Path) -> None:
    before = (state / "keyring.json").read_bytes()

    def fails(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        raise KeysError("no")

    with pytest.raises(KeysError, match="no"):
        file.change(fails)
    for wrong in (
        (entry(1), entry(1, LOOKUP)),
        (entry(1), entry(2)),
        (entry(1, Slot(Owner("a b", "in"), "g", DATA.purpose)),),
        (entry(1, Slot(Owner("a", "in"), "", DATA.purpose)),),
        (replace(entry(1), created=-1),),
    ):
        with pytest.raises(KeysError, match="cannot be kept"):
            file.change(lambda _, wrong=wrong: wrong)  # type: ignore[misc]
    assert (state / "keyring.json").read_bytes() == before


Edit = Callable[[dict[str, Any]], object]
TAMPERED: list[Edit] = [
    lambda d: d["entries"].pop(),
    lambda d: d["entries"].reverse(),
    lambda d: d["entries"][5].update(state="disabled"),
    lambda d: d["entries"][2].update(tenant="acme2"),
    lambda d: d["entries"][0].update(group="agent"),
    lambda d: d["entries"][0].update(created=0),
    lambda d: d["entries"][0].update(kek_version=2),
    lambda d: d["entries"][0].update(wrapped="AAAA"),
    lambda d: d["entries"][0].update(id="ff" * 16),
    lambda d: d["entries"][0].update(service="vault"),
    lambda d: d["entries"][0].update(uses=8),
    lambda d: d["entries"][0].update(bytes=0),
    lambda d: d.update(revision=2),
    lambda d: d["tag_key"].update(region="au"),
    lambda d: d["tag_key"].update(kek_version=2),
    lambda d: d["tag_key"].update(service="other"),
    lambda d: d.update(tag="0" * 64),
]


@pytest.mark.parametrize("edit", TAMPERED)
def test_an_edit_breaks_the_tag(file: KeyringFile, state: Path, edit: Edit) -> None:
    found = document(state)
    edit(found)
    rewrite(state, found)
    for use in (file.read, lambda: file.change(lambda entries: entries)):
        with pytest.raises(KeysError, match="integrity tag does not match"):
            use()


def test_a_tag_key_that_is_another_one_is_refused(file: KeyringFile, state: Path, kms: LocalKms) -> None:
    other = file.document().tag_key
    assert other is not None
    with pytest.raises(KeyMismatchError, match="does not match key id"):
        keyring_file(state, cast(LocalKms, Swapping(kms)), RANDOM).read()
    with pytest.raises(KeysError, match="KEK does not open"):
        keyring_file(state, LocalKms(state, RANDOM(32), RANDOM), RANDOM).read()


def test_the_tag_key_is_unwrapped_once(file: KeyringFile, state: Path, kms: LocalKms) -> None:
    counting = Counting(kms)
    again = keyring_file(state, cast(LocalKms, counting), RANDOM)
    for _ in range(3):
        assert again.read() == ALL
    again.change(lambda entries: entries[1:])
    assert again.read() == ALL[1:] and counting.unwrapped == 1


def test_revisions_count_changes_but_not_counts(file: KeyringFile) -> None:
    assert file.document().revision == 1
    file.change(lambda entries: counted(entries, {ALL[0].id: (5, 50)}))
    assert (file.document().revision, file.read()[0].uses) == (1, 5)
    file.change(lambda entries: entries[:-1])
    assert file.document().revision == 2
    file.change_document(lambda document: replace(document, revision=9))
    assert file.document().revision == 9


def test_format_1_is_read_and_written_as_format_2(state: Path, kms: LocalKms) -> None:
    plain = tuple(replace(each, uses=0, size=0) for each in ALL[:-1])
    old = Document(plain)
    tag = hmac.new(kms.tag_key, tagged_text(old), "sha256").hexdigest()
    (state / "keyring.json").write_bytes(encode(old, tag))
    (state / "keyring.json").chmod(0o600)
    file = keyring_file(state, kms, RANDOM)
    assert document(state)["version"] == 1 and file.read() == plain
    file.change(lambda entries: counted(entries, {ALL[0].id: (5, 50)}))
    found = document(state)
    assert (found["version"], found["revision"], found["entries"][0]["service"]) == (2, 1, "local")
    assert keyring_file(state, kms, RANDOM).read() == (replace(plain[0], uses=5, size=50), *plain[1:])
    (state / "keyring.json").write_bytes(encode(old, "0" * 64))
    with pytest.raises(KeysError, match="integrity tag"):
        file.read()
    with pytest.raises(KeysError, match="format 1"):
        KeyringFile(state, TagKeys(ServiceSet(kms), RANDOM)).read()


DAMAGED: list[Edit] = [
    lambda d: d.update(version=3),
    lambda d: d.update(version=1),
    lambda d: d.update(revision=0),
    lambda d: d.pop("tag_key"),
    lambda d: d["tag_key"].update(more=1),
    lambda d: d["tag_key"].update(id="0" * 31),
    lambda d: d["tag_key"].update(region="IN"),
    lambda d: d["entries"][1].update(state="retiring", purpose="data"),
    lambda d: d.update(more=1),
    lambda d: d.pop("tag"),
    lambda d: d.update(tag="A" * 64),
    lambda d: d.update(entries={}),
    lambda d: d["entries"].append(None),
    lambda d: d["entries"].append(d["entries"][5]),
    lambda d: d["entries"][3].update(state="active", activated=1),
    *(
        lambda d, change=change: d["entries"][0].update(change)
        for change in (
            *({"id": "0" * 31}, {"id": "F" * 32}, {"id": None}, {"tenant": "a b"}, {"region": "IN"}, {"group": ""}),
            *({"purpose": "both"}, {"state": "Active"}, {"created": 1.5}, {"created": 10**13}, {"created": True}),
            *({"activated": "1"}, {"activated": None}, {"retired": 3}, {"kek_version": 0}, {"wrapped": ""}),
            *({"wrapped": "AA"}, {"wrapped": "A" * 10_000}, {"more": 1}, {"state": "destroyed"}),
            *({"state": "retiring"}, {"state": "retiring", "retired": 1, "activated": None}),
            *({"state": "pending", "retired": 1}, {"uses": -1}, {"bytes": 1.5}, {"uses": None}, {"service": ""}),
        )
    ),
]


@pytest.mark.parametrize("edit", DAMAGED)
def test_other_than_the_format_is_refused(file: KeyringFile, state: Path, edit: Edit) -> None:
    found = document(state)
    edit(found)
    rewrite(state, found)
    with pytest.raises(KeysError, match=r"keyring\.json: damaged"):
        file.read()


@pytest.mark.parametrize("data", [b"", b"[]", b'{"version":1,"version":1,"entries":[],"tag":""}', b"\xff"])
def test_other_than_strict_json_is_refused(file: KeyringFile, state: Path, data: bytes) -> None:
    rewrite(state, data)
    with pytest.raises(KeysError, match="damaged"):
        file.read()


def test_cuts_and_flipped_bits_are_refused(state: Path, empty: KeyringFile) -> None:
    file = empty
    file.change(lambda _: (entry(1),))
    whole = (state / "keyring.json").read_bytes()
    places = range(0, len(whole) - 1, 5)
    wrong = [whole[:end] for end in places]
    wrong += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places]
    for data in wrong:
        rewrite(state, data)
        with pytest.raises(KeysError):
            file.read()


def test_mode_owner_and_links_are_checked(file: KeyringFile, state: Path) -> None:
    path = state / "keyring.json"
    path.chmod(0o640)
    with pytest.raises(KeysError, match="mode 0640"):
        file.read()
    path.chmod(0o600)
    path.rename(state / "moved")
    path.symlink_to(state / "moved")
    with pytest.raises(KeysError, match="symbolic link"):
        file.read()


def test_the_tag_is_as_documented(file: KeyringFile, state: Path) -> None:
    found = document(state)
    given = found.pop("tag")
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    openssl = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{TAG_KEY.hex()}"]
    answer = subprocess.run(openssl, input=text, capture_output=True, check=True).stdout
    assert answer.decode().split()[-1] == given


def test_killed_writers_leave_the_old_or_the_new_file(state: Path) -> None:
    command = [sys.executable, "-m", "tests.kms.killed_writer", str(state), "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["calls"]["old"] >= 5 and seen["calls"]["new"] >= 2, seen
    assert seen["parts"] == 51
    assert seen["moments"]["rounds"] == 60 and seen["moments"]["written"] >= 60, seen
