"""The HSM: what a KEK in it is like, logins that are lost and found, PINs that are not tried twice."""

import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pkcs11 import Attribute, KeyType, ObjectClass

from proxy.crypto.data_key import Purpose
from proxy.kms import pkcs11_session
from proxy.kms.own_thread import in_own_thread
from proxy.kms.pkcs11 import Pkcs11Kms
from proxy.kms.pkcs11_session import TokenSession
from proxy.kms.service import KeysError, KeyServiceDownError, Slot
from proxy.kms.service_settings import KeySettings, Pkcs11Settings, ServiceSettings
from proxy.kms.services import open_services
from proxy.ports import Owner
from tests.support.softhsm import MODULE, SoftHsm

ACME = Owner("acme", "in")
DATA = Slot(ACME, "follower", Purpose.DATA)
DEK = bytes(range(32))
RANDOM = secrets.token_bytes


@pytest.fixture
def token() -> Iterator[SoftHsm]:
    yield SoftHsm()
    pkcs11_session._SESSIONS.clear()


@pytest.fixture
def settings(token: SoftHsm) -> Pkcs11Settings:
    return Pkcs11Settings(MODULE, token.label, token.pin)


@pytest.fixture
def kms(settings: Pkcs11Settings) -> Pkcs11Kms:
    kms = Pkcs11Kms(settings, RANDOM)
    kms.create_kek(ACME)
    return kms


def objects(kms: Pkcs11Kms) -> list[Any]:
    return kms._token.use(lambda session: list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})))


def test_the_factory_opens_it(settings: Pkcs11Settings, tmp_path: Path) -> None:
    services = open_services(KeySettings(ServiceSettings("hsm", settings)), tmp_path, secrets.token_bytes)
    services.check()
    assert services.create_kek(ACME) == 1
    wrapped = services.wrap(DATA, DEK)
    assert (wrapped.service, services.unwrap(DATA, wrapped)) == ("hsm", DEK)


def test_a_kek_is_made_in_the_token_and_cannot_be_taken_out(kms: Pkcs11Kms) -> None:
    kms.rotate_kek(ACME)
    found = objects(kms)
    assert sorted(kek[Attribute.LABEL] for kek in found) == ["wxgate.acme.in.v1", "wxgate.acme.in.v2"]
    yes = (Attribute.LOCAL, Attribute.SENSITIVE, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE)
    no = (Attribute.EXTRACTABLE, Attribute.MODIFIABLE, Attribute.WRAP, Attribute.UNWRAP, Attribute.DERIVE)
    for kek in found:
        assert all(kek[each] for each in (*yes, Attribute.PRIVATE, Attribute.TOKEN))
        assert not any(kek[each] for each in no)
        assert (kek[Attribute.KEY_TYPE], kek[Attribute.VALUE_LEN]) == (KeyType.AES, 32)
        with pytest.raises(pkcs11.AttributeSensitive):
            kek[Attribute.VALUE]


@pytest.mark.parametrize("wrong", [{Attribute.EXTRACTABLE: True}, {Attribute.SENSITIVE: False}])
def test_a_kek_that_can_be_taken_out_is_not_used(
    kms: Pkcs11Kms, monkeypatch: pytest.MonkeyPatch, wrong: dict[Attribute, bool]
) -> None:
    wrapped = kms.wrap(DATA, DEK)
    from proxy.kms import pkcs11 as room

    monkeypatch.setattr(room, "_RIGHTS", {**room._RIGHTS, **wrong})
    kms.rotate_kek(ACME)
    with pytest.raises(KeysError, match=r"wxgate\.acme\.in\.v2: can be taken out"):
        kms.wrap(DATA, DEK)
    assert kms.unwrap(DATA, wrapped) == DEK


def test_an_imported_kek_wraps_as_the_document_says(kms: Pkcs11Kms) -> None:
    """AES-256-GCM with the context as associated data, opened with nothing but the customer's copy of the KEK."""
    kek = RANDOM(32)
    assert kms.import_kek(ACME, kek) == 2
    wrapped = kms.wrap(DATA, DEK)
    names = ("wxgate/1 wrapped dek", "acme", "in", wrapped.key_id.hex(), "data", "follower")
    context = b"".join(len(name).to_bytes(2, "big") + name.encode() for name in names)
    assert AESGCM(kek).decrypt(wrapped.sealed[:12], wrapped.sealed[12:], context) == DEK
    assert (wrapped.kek_version, kms.unwrap(DATA, wrapped)) == (2, DEK)
    imported = next(each for each in objects(kms) if each[Attribute.LABEL] == "wxgate.acme.in.v2")
    assert imported[Attribute.SENSITIVE] and not imported[Attribute.EXTRACTABLE]
    assert kms.import_kek(Owner("new", "in"), kek) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # python-pkcs11 ends the lost search
@pytest.mark.parametrize("lost", ["session", "library"])
def test_a_lost_session_is_replaced_by_a_new_login(kms: Pkcs11Kms, settings: Pkcs11Settings, lost: str) -> None:
    other = Pkcs11Kms(settings, RANDOM)
    wrapped = kms.wrap(DATA, DEK)
    for _ in range(2):
        if lost == "session":
            pkcs11_session._SESSIONS[str(MODULE), settings.token_label][1].close()
        else:
            pkcs11.lib(str(MODULE)).finalize()
        assert kms.unwrap(DATA, wrapped) == other.unwrap(DATA, wrapped) == DEK
        kms.check()


def test_two_tokens_of_one_library_lose_and_find_their_logins_together(kms: Pkcs11Kms) -> None:
    second = SoftHsm()
    other = Pkcs11Kms(Pkcs11Settings(MODULE, second.label, second.pin), RANDOM)
    other.create_kek(ACME)
    mine, theirs = kms.wrap(DATA, DEK), other.wrap(DATA, DEK)
    for _ in range(2):
        with pytest.raises(KeysError, match="does not open"):
            kms.unwrap(DATA, theirs)  # sets the library up anew
        assert other.unwrap(DATA, theirs) == kms.unwrap(DATA, mine) == DEK


def test_a_wrong_pin_is_told_and_not_tried_again(token: SoftHsm, settings: Pkcs11Settings) -> None:
    wrong = Pkcs11Kms(replace(settings, pin=b"87654321"), RANDOM)
    for attempt in range(2):
        with pytest.raises(KeysError, match=r"the PIN is refused \(PinIncorrect\)") as caught:
            wrong.create_kek(ACME)
        assert "87654321" not in str(caught.value) and not isinstance(caught.value, KeyServiceDownError)
        if attempt == 0:
            token.change_pin(b"87654321")  # right by now, but it had its chance
    Pkcs11Kms(replace(settings, pin=b"87654321"), RANDOM).check()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"token_label": "none"}, KeyServiceDownError, "NoSuchToken"),
        ({"module": Path("/etc/hostname")}, KeyServiceDownError, "check `module`"),
        ({"pin": b"\xff\xfe"}, KeyServiceDownError, "not at hand"),
    ],
)
def test_what_is_not_there_is_told(
    settings: Pkcs11Settings, change: dict[str, Any], error: type[KeysError], words: str
) -> None:
    with pytest.raises(error, match=words):
        Pkcs11Kms(replace(settings, **change), RANDOM).check()


def test_two_tokens_of_one_label_are_not_chosen_between(token: SoftHsm, settings: Pkcs11Settings) -> None:
    token.initialise()
    with pytest.raises(KeysError, match="several of that label"):
        Pkcs11Kms(settings, RANDOM).check()


def test_an_empty_token_passes_the_check(settings: Pkcs11Settings) -> None:
    Pkcs11Kms(settings, RANDOM).check()


def test_no_repr_shows_the_pin(settings: Pkcs11Settings, kms: Pkcs11Kms) -> None:
    assert settings.pin.decode() not in repr(kms) + repr(settings) + repr(kms._token)


PREAMBLE = """
import json, os, secrets, sys
from pathlib import Path
from proxy.crypto.data_key import Purpose
from proxy.kms.pkcs11 import Pkcs11Kms
from proxy.kms.service import KeysError, KeyServiceDownError, Slot
from proxy.kms.service_settings import Pkcs11Settings
from proxy.ports import Owner
module, label, pin = sys.argv[1:4]
kms = Pkcs11Kms(Pkcs11Settings(Path(module), label, pin.encode()), secrets.token_bytes)
slot = Slot(Owner("acme", "in"), "follower", Purpose.DATA)
"""
FORKING = """
kms.create_kek(slot.owner)
wrapped = kms.wrap(slot, bytes(32))

def unwraps():
    # While one process sets the library up, SoftHSM may not see the token for a moment: to be tried again.
    for _ in range(50):
        try:
            return kms.unwrap(slot, wrapped) == bytes(32)
        except KeyServiceDownError:
            pass

children = []
for _ in range(3):
    if (pid := os.fork()) == 0:
        os._exit(0 if all(unwraps() for _ in range(20)) else 1)
    children.append(pid)
mine = all(unwraps() for _ in range(20))
assert mine and all(os.waitpid(pid, 0)[1] == 0 for pid in children)
"""

# A thread of the parent is in a call that hangs, and holds the lock that lets one caller at a time into the library.
FORKING_WHILE_IT_HANGS = """
import signal, threading
from proxy.kms import pkcs11_session
kms.create_kek(slot.owner)
wrapped = kms.wrap(slot, bytes(32))
held = threading.Event()
def hang():
    (lock,) = pkcs11_session._LOCKS.values()
    with lock:
        held.set()
        threading.Event().wait()
threading.Thread(target=hang, daemon=True).start()
held.wait()
if (pid := os.fork()) == 0:
    signal.alarm(20)
    os._exit(0 if kms.unwrap(slot, wrapped) == bytes(32) else 1)
print(os.waitpid(pid, 0)[1])
"""


def elsewhere(settings: Pkcs11Settings, program: str) -> str:
    """What `program` prints in a process of its own."""
    command = [sys.executable, "-c", PREAMBLE + program, str(MODULE), settings.token_label, settings.pin.decode()]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout


def test_forked_processes_log_in_for_themselves(settings: Pkcs11Settings) -> None:
    elsewhere(settings, FORKING)


def test_a_forked_process_waits_for_no_call_of_its_parent_that_hangs(settings: Pkcs11Settings) -> None:
    assert elsewhere(settings, FORKING_WHILE_IT_HANGS) == "0\n"


def test_what_another_process_does_is_seen(kms: Pkcs11Kms, settings: Pkcs11Settings) -> None:
    first = kms.wrap(DATA, DEK)
    assert elsewhere(settings, "print(kms.rotate_kek(slot.owner))") == "2\n"
    made = json.loads(
        elsewhere(
            settings,
            "w = kms.wrap(slot, bytes(32)); print(json.dumps([w.key_id.hex(), w.kek_version, w.sealed.hex()]))",
        )
    )
    theirs = replace(first, key_id=bytes.fromhex(made[0]), kek_version=made[1], sealed=bytes.fromhex(made[2]))
    assert (theirs.kek_version, kms.unwrap(DATA, theirs)) == (2, bytes(32))
    assert kms.rewrap(DATA, first).kek_version == kms.wrap(DATA, DEK).kek_version == 2
    elsewhere(settings, "kms.destroy_kek(slot.owner)")
    for refused in (lambda: kms.unwrap(DATA, first), lambda: kms.unwrap(DATA, theirs), lambda: kms.wrap(DATA, DEK)):
        with pytest.raises(KeysError):
            refused()


def test_a_library_that_hangs_holds_up_nobody_who_uses_another(
    settings: Pkcs11Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two are of one process, as the gateway's own HSM and that of a tenant are."""
    monkeypatch.setattr(TokenSession, "_session", lambda _: None)
    hanging, other = (TokenSession(replace(settings, module=tmp_path / name)) for name in ("tenant.so", "own.so"))
    begun, over = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        begun.set()
        over.wait(20)

    thread = threading.Thread(target=hanging.use, args=(hang,))
    thread.start()
    try:
        assert begun.wait(10)
        assert in_own_thread("other", other.use, lambda _: "answers").result(10) == "answers"
    finally:
        over.set()
        thread.join()
