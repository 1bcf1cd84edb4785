"""The gateway on each key service as it really is, and a tenant who holds its own keys and takes them away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.emulate.stage import API
from tests.support.moto import Moto
from tests.support.openbao import POLICY, OpenBao
from tests.support.processes import Gateway, until
from tests.support.softhsm import MODULE, SoftHsm

SHORT = "keys: {unlock: 'file:secrets/unlock'}\n"
WORDS = "words of a follower"


class OnService(Gateway):
    """A stage whose `keys` section is another. `files`: secrets it names."""

    def __init__(self, keys: str, files: dict[str, bytes]) -> None:
        super().__init__(workers=2)
        self._keys = keys
        self.secrets |= {name: value.decode() for name, value in files.items()}

    def write_config(self) -> None:
        super().write_config()
        text = self.config.read_text()
        assert text.count(SHORT) == 1
        self.config.write_text(text.replace(SHORT, self._keys))


def passphrase(directory: Path) -> Iterator[OnService]:
    yield OnService(
        "keys: {service: {kind: local, passphrase: file:secrets/words}}\n", {"words": b"six words of a list by dice"}
    )


def vault(directory: Path) -> Iterator[OnService]:
    server = OpenBao(directory)
    try:
        yield OnService(f"keys: {{service: {of(server)}}}\n", {"vault": server.secret_id})
    finally:
        server.stop()


def of(server: OpenBao) -> str:
    """The settings of a service at `server`, which notes the secret id that goes with them."""
    role, server.secret_id = server.approle()
    login = f"approle: {{role_id: {role}, secret_id: file:secrets/vault}}"
    return f"{{kind: vault, url: '{server.url}', ca: {server.ca}, timeout: 20s, {login}}}"


def pkcs11(directory: Path) -> Iterator[OnService]:
    token = SoftHsm()
    keys = f"{{kind: pkcs11, module: {MODULE}, token_label: {token.label}, pin: file:secrets/pin}}"
    yield OnService(f"keys: {{service: {keys}}}\n", {"pin": token.pin})


def aws(directory: Path) -> Iterator[OnService]:
    server = Moto(directory)
    reach = f"region: eu-west-1, endpoint: '{server.url}', timeout: 20s"
    login = "access_key_id: file:secrets/aws, secret_access_key: file:secrets/aws"
    try:
        yield OnService(f"keys: {{service: {{kind: aws, {reach}, {login}}}}}\n", {"aws": b"testing"})
    finally:
        server.stop()


def record_of(gateway: Gateway) -> str:
    """A follower writes; the record it became in the CRM."""
    assert gateway.push(gateway.text(WORDS)).status == 200
    return str(list(gateway.in_crm()["records"])[-1])


def read(gateway: Gateway, record: str) -> str:
    """What an agent reads of it; the code if it is refused."""
    answer = gateway.call("agent", "GET", API + record)
    return str(answer.json["Text__c"]) if answer.status == 200 else answer.code


@pytest.mark.parametrize("service", [passphrase, vault, pkcs11, aws], ids=lambda it: it.__name__)
def test_a_message_goes_through_on(service: Callable[[Path], Iterator[OnService]], tmp_path: Path) -> None:
    with contextmanager(service)(tmp_path) as stage, stage as gateway:
        record = record_of(gateway)
        assert gateway.in_crm()["records"][record]["Text__c"].startswith("wg1.")
        assert read(gateway, record) == WORDS
        gateway.gateway.kill()
        gateway.gateway.wait()
        gateway.restart()
        assert read(gateway, record) == WORDS


def test_a_tenant_that_holds_its_own_key_can_take_it_away_and_give_it_back(tmp_path: Path) -> None:
    server = OpenBao(tmp_path)
    own = f"tenants: {{acme: {{cache_age: 1s, service: {of(server)}}}}}"
    keys = f"keys: {{service: {{kind: local, unlock: file:secrets/unlock}}, {own}}}\n"
    try:
        with OnService(keys, {"vault": server.secret_id}) as gateway:
            record = record_of(gateway)
            assert gateway.in_crm()["records"][record]["Text__c"].startswith("wg2.")
            assert read(gateway, record) == WORDS
            server.root().sys.create_or_update_policy("wxgate", POLICY.replace("/decrypt/", "/none/"))
            until(lambda: read(gateway, record) == "key_unavailable", "nothing is read any more")
            # The other worker may have had its answer a moment later.
            until(lambda: gateway.push(gateway.text(WORDS)).status == 503, "nothing is written any more")
            server.root().sys.create_or_update_policy("wxgate", POLICY)
            until(lambda: read(gateway, record) == WORDS, "it is read again", 60)
    finally:
        server.stop()
