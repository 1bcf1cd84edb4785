"""Keys change while messages pass: nothing is lost, nothing refused; what is taken out of use is out within seconds."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from proxy.emulate.stage import API, Stage
from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import KeyState
from proxy.kms.local import LocalKms
from tests.support.embedded import keyring_file

_KEYS = "keys: {unlock: 'file:secrets/unlock', refresh: 300ms, activate_after: 1s, rotate_after: 3s}"
_BOUND = 5.0  # seconds; docs/keys.md says twice `refresh` and the time a reading takes


class Rotating(Stage):
    """Its data keys are replaced every two seconds."""

    def write_config(self) -> None:
        super().write_config()
        text = self.config.read_text()
        assert text.count("keys: {unlock: 'file:secrets/unlock'}") == 1
        self.config.write_text(text.replace("keys: {unlock: 'file:secrets/unlock'}", _KEYS))

    def keyring(self) -> KeyringFile:
        unlock = bytes.fromhex(self.secrets["unlock"])
        state = self.directory / "state"
        return keyring_file(state, LocalKms(state, unlock, secrets.token_bytes), secrets.token_bytes)

    def say(self, text: str) -> int:
        """A follower writes; the status WeChat gets."""
        message = self.pusher.message("oFollower", "text", Content=text)
        return self.push(self.pusher.deliver(message)).status

    def first(self) -> str:
        """Path of the first message in the CRM."""
        return API + next(key for key in self.in_crm()["records"] if key.startswith("WeChat_Message__c/"))

    def last(self) -> str:
        return API + [key for key in self.in_crm()["records"] if key.startswith("WeChat_Message__c/")][-1]


@pytest.fixture(scope="module")
def stage() -> Iterator[Rotating]:
    with Rotating(workers=2) as it:
        yield it


def until(holds: Callable[[], bool], seconds: float = 20.0) -> float:
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < seconds
        time.sleep(0.05)
    return time.monotonic() - begun


def key_ids(stage: Rotating, state: KeyState) -> set[str]:
    entries = transitions.settled(stage.keyring().read(), time.time())
    return {entry.id.hex() for entry in entries if entry.slot.purpose.value == "data" and entry.state is state}


def test_no_message_is_lost_or_refused_while_keys_rotate(stage: Rotating) -> None:
    assert stage.say("the first words") == 200
    path = stage.first()
    answers: Counter[object] = Counter()
    over = threading.Event()

    def drive(lane: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            answers[stage.say(f"words {lane} {number}")] += 1
            shown = stage.call("agent", "GET", path)
            answers[shown.status, shown.json.get("Text__c")] += 1

    lanes = [threading.Thread(target=drive, args=(lane,)) for lane in range(3)]
    for lane in lanes:
        lane.start()
    until(lambda: len(key_ids(stage, KeyState.RETIRING)) >= 4, 60.0)
    over.set()
    for lane in lanes:
        lane.join()
    assert answers.keys() == {200, (200, "the first words")} and answers[200] >= 20, answers
    stored = stage.in_crm()["webhook"]
    assert len(stored) == answers[200] + 1
    metrics = stage.ask_admin("/metrics").body.decode()
    assert set(re.findall(r'wxgate_exchanges_total\{outcome="([a-z_]+)"', metrics)) == {"answered"}
    assert metrics.count("wxgate_key_uses{") >= 5
    assert stage.ask_admin("/readyz").json == {"ready": True, "reasons": [], "warnings": []}


def test_a_key_taken_out_of_use_is_out_of_every_worker_within_the_bound(stage: Rotating) -> None:
    assert stage.say("to be shredded") == 200
    path = stage.last()
    assert stage.call("agent", "GET", path).json["Text__c"] == "to be shredded"
    old = key_ids(stage, KeyState.ACTIVE) | key_ids(stage, KeyState.RETIRING)
    until(lambda: not key_ids(stage, KeyState.ACTIVE) <= old)  # another one protects by now
    stage.keyring().change(lambda entries: transitions.destroyed(entries, [*map(bytes.fromhex, old)], time.time()))
    begun = time.monotonic()
    until(lambda: stage.call("agent", "GET", path).status != 200, _BOUND)
    time.sleep(max(begun + _BOUND - time.monotonic(), 0.0))  # the bound is what is promised
    shown = [stage.call("agent", "GET", path) for _ in range(12)]  # connections come to either worker
    assert {answer.code for answer in shown} == {"token_refused"}
    assert stage.say("goes on") == 200
