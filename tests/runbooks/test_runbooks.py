"""The runbooks, as they stand in docs/runbooks, on installations that are in the trouble they are about."""

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.emulate.stage import API
from tests.runbooks.runner import PAGES, blocks, run
from tests.support.openbao import OpenBao
from tests.support.processes import Gateway, until
from tests.support.redis_server import RedisServer

PAGE_NAMES = sorted(path.name for path in PAGES.glob("*.md") if path.name != "README.md")


def test_every_page_is_in_the_list_and_has_commands() -> None:
    text = (PAGES / "README.md").read_text()
    assert set(re.findall(r"\]\(([a-z-]+\.md)\)", text)) == set(PAGE_NAMES)
    assert all(blocks(page) for page in PAGE_NAMES)


def test_every_page_is_run_below() -> None:
    ran = re.findall(r'"([a-z-]+\.md)"', (PAGES.parents[1] / "tests" / "runbooks" / "test_runbooks.py").read_text())
    assert set(PAGE_NAMES) <= set(ran)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(workers=2) as it:
        yield it


def orders(gateway: Gateway) -> dict[str, Callable[[], object]]:
    def stop() -> None:
        gateway.gateway.send_signal(signal.SIGTERM)
        gateway.gateway.wait(20)

    return {"stop wxgate": stop, "start wxgate": gateway.restart, "reload wxgate": lambda: reload(gateway)}


def reload(gateway: Gateway) -> None:
    gateway.signalled(signal.SIGHUP, "reloaded")
    until(gateway.is_ready, "the gateway is ready again")


# --- what the CRM has, and what an agent reads of it


def pushed(gateway: Gateway, words: str) -> str:
    """A follower writes; the record it became."""
    assert gateway.push(gateway.text(words)).status == 200
    name, fields = list(gateway.in_crm()["records"].items())[-1]
    assert fields["Text__c"].startswith("wg1.") and words not in str(fields)
    return str(name)


def read(gateway: Gateway, record: str) -> str:
    """What an agent reads of it; the code if it is refused."""
    answer = gateway.call("agent", "GET", API + record)
    return str(answer.json["Text__c"]) if answer.status == 200 else answer.code


# --- the pages


def test_suspected_dek_leak(gateway: Gateway) -> None:
    before = pushed(gateway, "before the leak")
    said = run("suspected-dek-leak.md", gateway.directory, orders(gateway), admin=gateway.admin)
    after = pushed(gateway, "after the leak")
    assert read(gateway, after) == "after the leak"
    until(lambda: read(gateway, before) != "before the leak", "the old key opens nothing")
    assert "intact" in said and "disabled" in said


def test_lost_kek_with_a_backup(gateway: Gateway) -> None:
    record = pushed(gateway, "words")
    state, backup = gateway.directory / "state", gateway.directory / "backup"
    backup.mkdir(mode=0o700)
    (state / "kek.json").rename(backup / "kek.json")
    run("lost-kek.md", gateway.directory, orders(gateway), admin=gateway.admin, without=(3, 4))
    assert read(gateway, record) == "words"


def test_lost_kek_without_a_backup(gateway: Gateway) -> None:
    record = pushed(gateway, "words")
    (gateway.directory / "state" / "kek.json").unlink()
    run("lost-kek.md", gateway.directory, orders(gateway), admin=gateway.admin, without=(1, 2))
    assert read(gateway, record) != "words"
    assert read(gateway, pushed(gateway, "new words")) == "new words"


def test_restore_from_backup(gateway: Gateway) -> None:
    record = pushed(gateway, "words")

    def lose() -> None:
        for path in (gateway.directory / "state").glob("*.json"):
            path.write_text("{")

    said = run("restore-from-backup.md", gateway.directory, orders(gateway), admin=gateway.admin, between={2: lose})
    assert read(gateway, record) == "words"
    assert "active" in said


def test_moving_kms(gateway: Gateway, bao: OpenBao) -> None:
    record = pushed(gateway, "words")
    (gateway.directory / "certs" / "vault-ca.pem").write_bytes(bao.ca.read_bytes())
    token = gateway.directory / "secrets" / "vault"
    token.write_bytes(bao.token())
    token.chmod(0o600)

    def edit() -> None:
        """What the page says in YAML."""
        old, new = re.findall(r"^```yaml\n(.*?)^```$", (PAGES / "moving-kms.md").read_text(), re.M | re.S)
        text = gateway.config.read_text()
        assert text.count(old) == 1
        gateway.config.write_text(text.replace(old, new.replace("https://vault.example.com:8200", bao.url)))

    run("moving-kms.md", gateway.directory, orders(gateway), admin=gateway.admin, between={1: edit})
    assert read(gateway, record) == "words" and read(gateway, pushed(gateway, "more")) == "more"
    assert not (gateway.directory / "state" / "kek.json").exists()


class OnVault(Gateway):
    """A gateway whose key service is OpenBao."""

    def __init__(self, bao: OpenBao) -> None:
        self.bao = bao
        super().__init__(workers=2)

    def write_config(self) -> None:
        super().write_config()
        (self.directory / "secrets" / "vault").write_bytes(self.bao.token())
        (self.directory / "secrets" / "vault").chmod(0o600)
        (self.directory / "certs" / "vault-ca.pem").write_bytes(self.bao.ca.read_bytes())
        service = f"{{kind: vault, url: '{self.bao.url}', ca: certs/vault-ca.pem, token: 'file:secrets/vault'}}"
        text = self.config.read_text()
        self.config.write_text(text.replace("keys: {unlock: 'file:secrets/unlock'}", f"keys: {{service: {service}}}"))


def test_kms_outage(bao: OpenBao) -> None:
    with OnVault(bao) as gateway:
        record = pushed(gateway, "words")
        bao.stop()
        assert read(gateway, record) == "words" and read(gateway, pushed(gateway, "meanwhile")) == "meanwhile"
        said = run("kms-outage.md", gateway.directory, {"restart openbao": bao.start}, admin=gateway.admin)
        assert "now   key service" in said
        assert read(gateway, record) == "words"


class OnRedis(Gateway):
    """A gateway that shares its keyring with another machine."""

    def __init__(self, server: RedisServer) -> None:
        self.redis = server
        super().__init__(workers=2)

    def write_config(self) -> None:
        super().write_config()
        self.redis.share(self.config)


def test_several_machines(tmp_path: Path) -> None:
    """Blocks 0, 2 and 4 are for the machine that has the keys, 1 and 3 for the other, whose gateway is not run here."""
    page = "several-machines.md"
    server = RedisServer(tmp_path)
    try:
        with OnRedis(server) as gateway:
            record = pushed(gateway, "words")
            here, there = gateway.directory, tmp_path / "there"
            shutil.copytree(here, there, ignore=shutil.ignore_patterns("state"))

            def carry() -> None:
                (here / "carried.tar").rename(there / "carried.tar")

            started: list[str] = []
            run(page, here, {}, without=(1, 2, 3, 4))
            carry()
            run(page, there, {"start wxgate": lambda: started.append("wxgate")}, without=(0, 2, 3, 4))
            run(page, here, {}, without=(0, 1, 3, 4))
            carry()
            shutil.copy(here / "state" / "keyring.json", there / "state")  # as Redis brings it
            said = run(page, there, {}, without=(0, 1, 2, 4))
            assert started and "no KEK version 2" in said and "copy kek.json from the machine" in said
            run(page, here, {}, without=(0, 1, 2, 3))
            assert read(gateway, record) == "words"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    server = OpenBao(tmp_path_factory.mktemp("bao"))
    yield server
    server.stop()
