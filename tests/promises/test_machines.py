"""A gateway whose keyring other machines share, over a real Redis: it learns, it leaves, it goes on without."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.emulate.stage import Stage
from proxy.kms.distribution import Distribution, Outcome
from proxy.kms.keyring_format import Entry
from proxy.kms.local import LocalKms
from proxy.kms.making import rotate
from proxy.kms.redis_link import RedisLink
from proxy.kms.selection import Selection
from proxy.kms.service_set import ServiceSet
from tests.support.embedded import keyring_file
from tests.support.processes import until
from tests.support.redis_server import RedisServer

_PLAIN = "keys: {unlock: 'file:secrets/unlock'}"
_RANDOM = secrets.token_bytes


class Shared(Stage):
    """`other`: a second machine's keyring, with the same KEKs."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(workers=2)
        self.server = server
        self.secrets["redis"] = server.settings.password.decode()

    def write_config(self) -> None:
        super().write_config()
        shutil.copy(self.server.directory / "ca.pem", self.directory / "certs" / "redis-ca.pem")
        url = f"rediss://localhost:{self.server.port}/0"
        redis = f"{{url: '{url}', ca: certs/redis-ca.pem, password: 'file:secrets/redis', refresh: 200ms, machines: 2}}"
        text = self.config.read_text()
        assert text.count(_PLAIN) == 1
        self.config.write_text(text.replace(_PLAIN, f"{_PLAIN[:-1]}, refresh: 200ms, redis: {redis}}}"))

    def other(self, state: Path) -> tuple[Distribution, list[Entry]]:
        """The second machine, and what it makes."""
        shutil.copytree(self.directory / "state", state, ignore=shutil.ignore_patterns("audit", "*.lock"))
        state.chmod(0o700)
        kms = LocalKms(state, bytes.fromhex(self.secrets["unlock"]), _RANDOM)
        file = keyring_file(state, kms, _RANDOM)
        made = rotate(file, ServiceSet(kms), Selection(), time.time(), _RANDOM, 10.0)
        return Distribution(file, RedisLink(self.server.settings), 10.0, time.time), made

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
