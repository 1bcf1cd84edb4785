"""`wxgate keys shred` beside a running gateway: every worker forgets the keys, and nothing brings them back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.emulate.stage import API
from tests.support.installation import wxgate
from tests.support.processes import Gateway, until

WORKERS = 3


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(workers=WORKERS) as it:
        yield it


def record_of(gateway: Gateway, words: str) -> str:
    """A follower writes; the record it became in the CRM."""
    assert gateway.push(gateway.text(words)).status == 200
    return str(list(gateway.in_crm()["records"])[-1])


def read(gateway: Gateway, record: str) -> str:
    """What an agent reads of it; the code if it is refused."""
    answer = gateway.call("agent", "GET", API + record)
    return str(answer.json["Text__c"]) if answer.status == 200 else answer.code


def keys(gateway: Gateway, *arguments: str) -> str:
    result = wxgate("keys", *arguments, "--config", str(gateway.config), cwd=gateway.directory, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def everywhere(gateway: Gateway, record: str) -> set[str]:
    """What many reads over connections of their own give: every worker takes its share of them."""
    return {read(gateway, record) for _ in range(10 * WORKERS)}


def test_every_worker_forgets_the_keys_and_no_backup_of_the_keyring_revives_them(gateway: Gateway) -> None:
    record = record_of(gateway, "words of a follower")
    assert everywhere(gateway, record) == {"words of a follower"}
    keyring = gateway.directory / "state" / "keyring.json"
    backup = keyring.read_bytes()
    receipt = json.loads(keys(gateway, "shred", "--tenant", "acme", "--yes"))
    assert receipt["key_ids"]
    until(lambda: "words of a follower" not in everywhere(gateway, record), "no worker opens it any more")
    assert gateway.push(gateway.text("more words")).status == 503
    replaced(keyring, backup)
    until(lambda: not gateway.is_ready() or everywhere(gateway, record), "it was looked at")
    assert "words of a follower" not in everywhere(gateway, record)
    assert "words of a follower" not in gateway.log.read_text()


def replaced(path: Path, data: bytes) -> None:
    """As restoring a backup does."""
    new = path.with_name("restored")
    new.write_bytes(data)
    new.chmod(0o600)
    new.rename(path)


def test_a_disabled_key_opens_nothing_until_it_is_enabled_again(gateway: Gateway) -> None:
    record = record_of(gateway, "words of a follower")
    key_id = _key_of(gateway, record)
    keys(gateway, "rotate", "--now")
    keys(gateway, "disable", key_id, "--yes")
    until(lambda: "words of a follower" not in everywhere(gateway, record), "no worker opens it any more")
    keys(gateway, "enable", key_id)
    until(lambda: everywhere(gateway, record) == {"words of a follower"}, "every worker opens it again")


def _key_of(gateway: Gateway, record: str) -> str:
    """The key that the record's token names."""
    token = gateway.in_crm()["records"][record]["Text__c"]
    told = wxgate("token", "inspect", token, "--json")
    return str(json.loads(told.stdout)["key_id"])
