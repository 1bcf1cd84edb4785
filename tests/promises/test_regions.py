"""A gateway of one region cannot open another's tokens, whatever of the other it gets into its hands."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.crypto.data_key import DataKey, Purpose
from proxy.document.json_body import read_json
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_file import FILE
from proxy.kms.local import LocalKms
from proxy.kms.service import KeysError, Slot
from proxy.observe.clock import SystemClock
from proxy.policy.carry_out import Keyset, carry_out
from proxy.policy.plan import Plan, make_plan
from proxy.policy.rules import Direction
from proxy.ports import Owner
from proxy.refusal import Refusal
from tests.policy.build import House, compiled
from tests.support.embedded import init_keys, open_keyring

HERE, THERE = Owner("acme", "in"), Owner("acme", "au")
HOUSE = House(
    compiled("""version: 1
classes:
  words: {action: encrypt}
  id: {action: encrypt, deterministic: true}
messages:
  - name: writes
    direction: agent
    match: {method: POST, path: /write}
    request:
      json:$.text: {class: words, as: words, bind: [openid]}
      json:$.openid: {class: id, as: openid}
  - name: reads
    direction: agent
    match: {method: GET, path: /read}
    response:
      json:$.text: {class: words, as: words, bind: [openid], reveal: {agent: plain}}
      json:$.openid: {class: id, as: openid, reveal: {agent: plain}}
""")
)
WRITES = HOUSE.rules(Direction.AGENT, "POST", "/write")
READS = HOUSE.rules(Direction.AGENT, "GET", "/read", response=True)
CLEAR = {"text": "words of a follower", "openid": "oFollower"}


def machine(directory: Path, *owners: Owner) -> tuple[Path, bytes]:
    """State directory and unlock key of a gateway that serves `owners`."""
    unlock = secrets.token_bytes(32)
    init_keys(directory, unlock, [(owner, "default", use) for owner in owners for use in Purpose], time.time(), random)
    return directory, unlock


def random(size: int) -> bytes:
    return secrets.token_bytes(size)


def opened(state: Path, unlock: bytes) -> Keyring:
    return open_keyring(state, unlock, SystemClock(), random)


def active(keyring: Keyring, owner: Owner, purpose: Purpose) -> DataKey:
    return asyncio.run(keyring.active(owner, "default", purpose))


async def keyset(keyring: Keyring, owner: Owner, plan: Plan) -> Keyset:
    """As the gateway asks for keys."""
    sealing = {(group, use): await keyring.active(owner, group, use) for group, use in plan.needs().groups}
    found = {key_id: await keyring.by_id(owner, key_id) for key_id in plan.needs().ids}
    return Keyset(sealing, {key_id: key for key_id, key in found.items() if key is not None})


def write(keyring: Keyring, owner: Owner) -> dict[str, str]:
    plan = make_plan(HOUSE.policy, WRITES, read_json(json.dumps(CLEAR).encode()), "", "agent")
    keys = asyncio.run(keyset(keyring, owner, plan))
    return dict(json.loads(carry_out(plan, keys, *owner, random).body))


def read(keyring: Keyring, owner: Owner, tokens: dict[str, str], *more: DataKey) -> dict[str, str]:
    plan = make_plan(HOUSE.policy, READS, read_json(json.dumps(tokens).encode()), "", "agent")
    keys = asyncio.run(keyset(keyring, owner, plan))
    keys = Keyset(keys.sealing, {**keys.opening, **{key.id: key for key in more}})
    return dict(json.loads(carry_out(plan, keys, *owner, random).body))


def assert_closed(keyring: Keyring, tokens: dict[str, str], *more: DataKey) -> None:
    """What does not open is text like any other, which this rule refuses to show."""
    try:
        found = read(keyring, THERE, tokens, *more)
    except Refusal:
        return
    assert found["text"] != CLEAR["text"] and found["openid"] != CLEAR["openid"]


def test_what_is_written_in_a_region_is_read_in_it(tmp_path: Path) -> None:
    keyring = opened(*machine(tmp_path / "a", HERE))
    tokens = write(keyring, HERE)
    assert tokens["text"].startswith("wg1.") and tokens["openid"].startswith("wd1.")
    assert read(keyring, HERE, tokens) == CLEAR


def test_a_gateway_of_another_region_has_no_such_key(tmp_path: Path) -> None:
    tokens = write(opened(*machine(tmp_path / "a", HERE)), HERE)
    assert_closed(opened(*machine(tmp_path / "b", THERE)), tokens)


def test_nor_has_the_other_region_of_one_gateway(tmp_path: Path) -> None:
    keyring = opened(*machine(tmp_path / "a", HERE, THERE))
    assert_closed(keyring, write(keyring, HERE))


def test_not_even_the_other_region_s_keys_in_the_same_hands_open_them(tmp_path: Path) -> None:
    """Tenant and region stand in every token's associated data."""
    keyring = opened(*machine(tmp_path / "a", HERE, THERE))
    keys = [active(keyring, HERE, purpose) for purpose in Purpose]
    assert_closed(keyring, write(keyring, HERE), *keys)


def test_a_keyring_of_another_region_s_machine_does_not_open(tmp_path: Path) -> None:
    there, unlock = machine(tmp_path / "b", THERE)
    (there / FILE).write_bytes((machine(tmp_path / "a", HERE)[0] / FILE).read_bytes())
    with pytest.raises(KeysError):
        opened(there, unlock)


def test_a_wrapped_key_does_not_open_as_another_region_s(tmp_path: Path) -> None:
    """The KEK is the region's own, and a wrapped DEK is bound to its region besides."""
    state, unlock = machine(tmp_path / "a", HERE, THERE)
    kms, dek = LocalKms(state, unlock, random), random(32)
    wrapped = kms.wrap(Slot(HERE, "default", Purpose.DATA), dek)
    with pytest.raises(KeysError, match=wrapped.key_id.hex()):
        kms.unwrap(Slot(THERE, "default", Purpose.DATA), replace(wrapped, kek_version=1))


def test_a_token_names_no_region(tmp_path: Path) -> None:
    keyring = opened(*machine(tmp_path / "a", HERE, THERE))
    one, other = write(keyring, HERE), write(keyring, THERE)
    assert {name: (text[:4], len(text)) for name, text in one.items()} == {
        name: (text[:4], len(text)) for name, text in other.items()
    }
