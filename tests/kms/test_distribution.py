"""Two machines and a real Redis: what one makes the other learns in time; nothing old or forged is believed."""

import asyncio
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.kms import transitions
from proxy.kms.budget import SharedBudget
from proxy.kms.distribution import Distribution, Outcome
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.limits import KeyLimits
from proxy.kms.redis_link import RedisDownError, RedisLink
from proxy.kms.redis_settings import RedisSettings
from proxy.kms.service import KeysError
from tests.kms.conftest import ACME, DATA, NOW, Bench, Clock
from tests.support.embedded import init_keys
from tests.support.redis_server import RedisServer

LIMITS = KeyLimits(machines=2)
DELAY = LIMITS.activate_after


class Machine:
    """A gateway's keyring with its own state directory, on the same KEKs and clock as the others."""

    def __init__(self, state: Path, unlock: bytes, clock: Clock, settings: RedisSettings) -> None:
        self.budget = SharedBudget.create(64)
        self.bench = Bench(state, unlock, clock, self.budget)
        self.link = RedisLink(settings)
        self.file = self.bench.file
        self.distribution = Distribution(self.file, self.link, DELAY, clock.now)

    def exchange(self) -> Outcome:
        return self.distribution.exchange()[0]

    def rotate(self) -> Entry:
        entry = self.bench.made(DATA, self.bench.clock.now() + DELAY)
        self.bench.change(lambda entries: transitions.added(entries, [entry], self.bench.clock.now()))
        return entry

    def entry(self, key_id: bytes) -> Entry:
        (entry,) = (entry for entry in self.file.read() if entry.id == key_id)
        return entry

    def settled(self) -> dict[bytes, Entry]:
        entries = transitions.settled(self.file.read(), self.bench.clock.now())
        return {entry.id: entry for entry in entries}

    def ids(self) -> set[bytes]:
        return {entry.id for entry in self.file.read()}

    def close(self) -> None:
        self.link.close()
        self.budget.close()


type Two = tuple[Machine, Machine]


@pytest.fixture
def machines(server: RedisServer, filled: Path, tmp_path: Path, unlock: bytes, clock: Clock) -> Iterator[Two]:
    settings = replace(server.settings, name=secrets.token_hex(4))
    shutil.copytree(filled, tmp_path / "other")
    two = Machine(filled, unlock, clock, settings), Machine(tmp_path / "other", unlock, clock, settings)
    yield two
    for machine in two:
        machine.close()


def test_what_one_machine_makes_the_other_has_on_its_disk_before_it_is_used(machines: Two) -> None:
    one, two = machines
    assert (one.exchange(), one.exchange(), two.exchange()) == (Outcome.LEFT, Outcome.SAME, Outcome.SAME)
    made = one.rotate()
    assert made.id not in two.ids() and one.exchange() is Outcome.LEFT
    assert two.exchange() is Outcome.TAKEN
    assert two.entry(made.id) == one.entry(made.id) and two.entry(made.id).activated == int(NOW + DELAY)
    assert two.file.document().revision == one.file.document().revision
    assert (one.exchange(), two.exchange()) == (Outcome.SAME, Outcome.SAME)


async def test_a_token_of_one_machine_opens_on_the_other(machines: Two, clock: Clock) -> None:
    one, two = machines
    keys = [machine.bench.open(LIMITS) for machine in machines]
    one.exchange()
    made = one.rotate()
    one.exchange()
    two.exchange()
    clock.move(DELAY)
    for each in keys:
        await each.tick()
    protecting = await keys[0].active(*DATA)
    opening = await keys[1].by_id(ACME, protecting.id)
    assert protecting.id == made.id == (await keys[1].active(*DATA)).id and opening is not None
    assert opening.open(bytes(24), protecting.seal(bytes(24), b"words", b""), b"") == b"words"
    for each in keys:
        each.close()


def test_machines_that_changed_apart_come_to_the_same(machines: Two) -> None:
    one, two = machines
    one.exchange()
    mine, theirs = one.rotate(), two.rotate()
    assert one.exchange() is Outcome.LEFT and two.exchange() is Outcome.TAKEN and one.exchange() is Outcome.TAKEN
    assert {mine.id, theirs.id} <= one.ids() == two.ids()
    assert two.exchange() is Outcome.SAME and one.file.document().revision == two.file.document().revision


def test_a_destroyed_key_is_destroyed_everywhere_and_comes_back_from_nowhere(machines: Two) -> None:
    one, two = machines
    one.exchange()
    gone = one.bench.only(DATA).id
    one.bench.change(lambda entries: transitions.destroyed(entries, [gone], NOW))
    one.exchange()
    two.rotate()  # it does not know yet, and changes something itself
    two.exchange()
    one.exchange()
    assert two.entry(gone).state is one.entry(gone).state is KeyState.DESTROYED


def test_an_older_document_is_not_taken_up_and_is_replaced(machines: Two) -> None:
    one, _ = machines
    one.exchange()
    old = one.link.read()
    assert old is not None
    made = one.rotate()
    one.exchange()
    now = one.link.read()
    assert now is not None and one.link.swap(now[0], *old)
    assert one.exchange() is Outcome.OLDER and "had" in one.distribution.problem and made.id in one.ids()
    assert one.exchange() is Outcome.SAME and one.distribution.problem == ""
    assert one.link.read() == now


@pytest.mark.parametrize("wrong", ["tag", "text", "foreign", "revision"])
def test_what_was_tampered_with_or_is_of_others_is_refused_and_left(
    machines: Two, wrong: str, state: Path, tmp_path: Path, clock: Clock
) -> None:
    one, two = machines
    two.rotate()
    two.exchange()
    found = one.link.read()
    assert found is not None
    revision, document = found
    if wrong == "tag":
        document = document.replace(b'"state": "pending"', b'"state": "active"', 1)
    elif wrong == "text":
        document = document[:-20]
    elif wrong == "revision":
        document = document.replace(b'"revision": 2', b'"revision": 9', 1)
    else:
        own = secrets.token_bytes(32)
        other = tmp_path / "foreign"
        init_keys(other, own, [DATA], NOW, secrets.token_bytes)
        document = (other / "keyring.json").read_bytes()
    assert one.link.swap(revision, b"99", document)
    before, asked = one.file.document(), one.bench.kms.unwrapped
    assert one.exchange() is Outcome.REFUSED and one.bench.kms.unwrapped == asked
    assert "refused" in one.distribution.problem
    assert one.file.document() == before and one.link.read() == (b"99", document)


def test_while_redis_is_down_the_file_serves_and_new_keys_wait(
    machines: Two, server: RedisServer, clock: Clock
) -> None:
    one, two = machines
    one.exchange()
    server.stop()
    try:
        known = one.bench.only(DATA).id
        made = one.rotate()
        for _ in range(4):
            clock.move(DELAY / 2)
            assert one.exchange() is Outcome.DOWN and "redis" in one.distribution.problem
            entries = transitions.settled(one.file.read(), clock.now())
            assert [e.id for e in entries if e.state is KeyState.ACTIVE and e.slot == DATA] == [known]
    finally:
        server.start()
    assert one.exchange() is Outcome.LEFT and one.distribution.problem == ""
    assert two.exchange() is Outcome.TAKEN
    activated = two.entry(made.id).activated
    assert activated is not None and activated > clock.now()  # the other learned of it in time
    clock.move(DELAY)
    assert two.settled() == one.settled()


def test_two_that_write_at_once_lose_nothing(machines: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = machines
    one.exchange()
    mine, theirs = one.rotate(), two.rotate()
    swap, met = one.link.swap, []

    def interrupted(*arguments: bytes) -> bool:
        if not met:
            met.append(two.exchange())
        return swap(*arguments)

    monkeypatch.setattr(one.link, "swap", interrupted)
    assert one.exchange() is Outcome.TAKEN and met == [Outcome.LEFT]
    assert {mine.id, theirs.id} <= one.ids()
    two.exchange()
    assert one.ids() == two.ids()


def test_who_has_no_password_or_trusts_another_ca_gets_nothing(server: RedisServer) -> None:
    wrong = [
        replace(server.settings, password=b"another"),
        replace(server.settings, password=b""),
        replace(server.settings, tls=False),
        replace(server.settings, ca=None),
        replace(server.settings, host="127.0.0.2"),
    ]
    for settings in wrong:
        link = RedisLink(settings)
        with pytest.raises(RedisDownError) as error:
            link.read()
        assert server.settings.password.decode() not in str(error.value) and "another" not in str(error.value)
        link.close()


def test_other_content_of_the_key_is_no_keyring(server: RedisServer) -> None:
    link = RedisLink(replace(server.settings, name="half"))
    with link.exchange(), pytest.raises(KeysError, match="no keyring"):
        link._client.hset("half:keyring", "revision", "1")
        link.read()
    link.close()


async def test_an_exchange_keeps_this_machine_s_counts(machines: Two) -> None:
    one, two = machines
    one.exchange()
    keys = two.bench.open(LIMITS)
    (await keys.active(*DATA)).seal(bytes(24), b"words", b"")
    counted = two.bench.only(DATA).uses
    one.rotate()
    one.exchange()
    await asyncio.to_thread(two.exchange)
    (mine,) = (entry for entry in two.file.read() if entry.slot == DATA and entry.state is KeyState.ACTIVE)
    assert counted and mine.uses == counted
    keys.close()
