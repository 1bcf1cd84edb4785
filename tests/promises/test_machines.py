"""A gateway whose keyring other machines share, over a real Redis: it learns, it leaves, it goes on without."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.emulate.stage import Stage
from proxy.kms.distribution import Distribution, Outcome
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Entry
from proxy.kms.local import LocalKms
from proxy.kms.making import rotate
from proxy.kms.redis_link import RedisLink
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError
from proxy.kms.service_set import ServiceSet
from proxy.kms.shredding import shred
from tests.support.embedded import keyring_file
from tests.support.processes import until
from tests.support.redis_server import RedisServer

_RANDOM = secrets.token_bytes


class Shared(Stage):
    """`other`: a second machine's keyring, with the same KEKs."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(workers=2)
        self.server = server
        self.secrets["redis"] = server.settings.password.decode()

    def write_config(self) -> None:
        super().write_config()
        self.server.share(self.config)

    def other(self, state: Path) -> tuple[Distribution, list[Entry]]:
        """The second machine, and what it makes."""
        file, kms = self.copied(state)
        made = rotate(file, ServiceSet(kms), Selection(), time.time(), _RANDOM, 10.0)
        return Distribution(file, RedisLink(self.server.settings), 10.0, time.time), made

    def copied(self, state: Path) -> tuple[KeyringFile, LocalKms]:
        """The second machine's keyring and its own embedded key service."""
        shutil.copytree(self.directory / "state", state, ignore=shutil.ignore_patterns("audit", "*.lock"))
        state.chmod(0o700)
        kms = self.embedded(state)
        return keyring_file(state, kms, _RANDOM), kms

    def embedded(self, state: Path) -> LocalKms:
        return LocalKms(state, bytes.fromhex(self.secrets["unlock"]), _RANDOM)

    def metrics(self) -> str:
        return self.ask_admin("/metrics").body.decode()

    def say(self) -> int:
        return self.push(self.pusher.deliver(self.pusher.message("oFollower", "text", Content="words"))).status


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        with Shared(server) as it:
            yield it
    finally:
        server.stop()


def test_what_another_machine_makes_is_taken_up(stage: Shared, tmp_path: Path) -> None:
    until(lambda: 'wxgate_keyring_exchanges_total{outcome="left"}' in stage.metrics(), "its keyring is in Redis")
    other, (made,) = stage.other(tmp_path / "state")
    assert other.exchange()[0] in (Outcome.TAKEN, Outcome.LEFT)
    until(lambda: f'key_id="{made.id.hex()}"' in stage.metrics(), "it knows the key")
    assert stage.say() == 200


def test_it_goes_on_while_redis_is_down_and_says_so(stage: Shared) -> None:
    stage.server.stop()
    try:
        until(lambda: "does not reach other machines" in stage.ask_admin("/readyz").body.decode(), "it warns")
        assert stage.is_ready() and stage.say() == 200
        assert stage.secrets["redis"] not in stage.ask_admin("/readyz").body.decode() + stage.log.read_text()
    finally:
        stage.server.start()
    until(lambda: not stage.ask_admin("/readyz").json["warnings"], "it is well again")


def test_what_another_machine_shredded_is_destroyed_in_its_own_kek_file(stage: Shared, tmp_path: Path) -> None:
    """Last here: there is no tenant left after it. First it cannot be put on record, and then it is not done."""
    file, kms = stage.copied(tmp_path / "state")
    backup = [entry for entry in file.read() if entry.slot.owner.tenant == "acme" and entry.wrapped.sealed]
    (owner,) = {entry.slot.owner for entry in backup}
    chain = stage.directory / "state" / "audit" / "worker-9999.jsonl"
    chain.parent.mkdir(exist_ok=True)
    chain.touch(0o644)
    chain.chmod(0o644)
    shred(file, ServiceSet(kms), owner, time.time(), several_machines=True)
    assert Distribution(file, RedisLink(stage.server.settings), 10.0, time.time).exchange()[0] is Outcome.LEFT
    until(lambda: "was shredded is still here" in stage.ask_admin("/readyz").body.decode(), "it warns")
    running = stage.embedded(stage.directory / "state")
    assert all(running.unwrap(entry.slot, entry.wrapped) for entry in backup)
    chain.unlink()
    until(lambda: not running.kek_ids(owner), "it followed")
    for entry in backup:
        with pytest.raises(KeysError, match="no KEK version 1"):
            running.unwrap(entry.slot, entry.wrapped)
    until(lambda: "shredded" not in stage.ask_admin("/readyz").body.decode(), "it is well again")
    assert '"shred_followed"' in stage.log.read_text() and '"shred_not_followed"' in stage.log.read_text()
    records = [json.loads(line) for line in chain.read_text().splitlines()]
    told = [(it["phase"], it["subject"], it.get("outcome")) for it in records if it.get("reason") == "follow_shred"]
    assert told == [("asked", f"acme/{owner.region}", None), ("ended", f"acme/{owner.region}", "done")]
