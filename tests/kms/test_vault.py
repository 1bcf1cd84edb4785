"""Vault and OpenBao: who is let in and stays in, what TLS must show, and what a transit key must be like."""

import base64
import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from proxy.crypto.data_key import Purpose
from proxy.kms.service import KeysError, KeyService, KeyServiceDownError, Slot, Wrapped
from proxy.kms.service_settings import KeySettings, ServiceSettings, VaultSettings
from proxy.kms.services import open_services
from proxy.kms.vault import VaultKms, key_name
from proxy.ports import Owner
from tests.support.openbao import POLICY, OpenBao
from tests.support.servers import Authority, Server, replies

ACME = Owner("acme", "in")
DATA = Slot(ACME, "follower", Purpose.DATA)
DEK = bytes(range(32))


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    server = OpenBao(tmp_path_factory.mktemp("bao"))
    yield server
    server.stop()


def by_token(bao: OpenBao, **options: Any) -> VaultSettings:
    return VaultSettings(bao.url, bao.ca, token=bao.token(**options), timeout=30.0)


def by_role(bao: OpenBao, **options: Any) -> VaultSettings:
    role, secret = bao.approle(f"role-{secrets.token_hex(4)}", **options)
    return VaultSettings(bao.url, bao.ca, role_id=role, secret_id=secret, timeout=30.0)


def wrapped_by(kms: KeyService, slot: Slot = DATA) -> Wrapped:
    kms.create_kek(slot.owner)
    return kms.wrap(slot, DEK)


def seen(bao: OpenBao, kms: VaultKms) -> dict[str, Any]:
    """What the server knows of the token in use."""
    return dict(bao.root().auth.token.lookup(kms._session._client.token)["data"])


def let_the_lease_run_down(kms: VaultKms, **also: Any) -> None:
    lease = kms._session._lease
    assert lease is not None
    kms._session._lease = lease._replace(renew_at=0.0, **also)


@pytest.mark.parametrize("login", [by_token, by_role])
def test_the_factory_opens_it_with_a_token_or_an_approle(
    bao: OpenBao, tmp_path: Path, login: Callable[[OpenBao], VaultSettings]
) -> None:
    settings = KeySettings(ServiceSettings("bao", login(bao)))
    services = open_services(settings, tmp_path, secrets.token_bytes)
    wrapped = wrapped_by(services)
    assert (wrapped.service, services.unwrap(DATA, wrapped)) == ("bao", DEK)
    services.check()


@pytest.mark.parametrize("login", [by_token, by_role])
def test_a_lease_is_renewed_before_it_ends(bao: OpenBao, login: Callable[[OpenBao], VaultSettings]) -> None:
    kms = VaultKms(login(bao))
    wrapped = wrapped_by(kms)
    before = seen(bao, kms)
    assert "last_renewal" not in before
    kms.check()
    assert "last_renewal" not in seen(bao, kms)
    let_the_lease_run_down(kms)
    kms.check()
    after = seen(bao, kms)
    assert after["id"] == before["id"] and after["last_renewal"]
    assert kms.unwrap(DATA, wrapped) == DEK


def test_a_token_at_the_end_of_its_life_is_replaced_by_a_new_login(bao: OpenBao) -> None:
    kms = VaultKms(by_role(bao))
    wrapped = wrapped_by(kms)
    first = kms._session._client.token
    let_the_lease_run_down(kms, seconds=1e9)  # what renewing gives is then less than half
    assert kms.unwrap(DATA, wrapped) == DEK
    second = kms._session._client.token
    let_the_lease_run_down(kms, renewable=False)
    assert kms.unwrap(DATA, wrapped) == DEK
    assert len({first, second, kms._session._client.token}) == 3


def test_a_revoked_token_is_replaced_by_a_new_login_and_a_given_one_is_denied(bao: OpenBao) -> None:
    role, token = VaultKms(by_role(bao)), VaultKms(by_token(bao))
    wrapped = wrapped_by(role)
    for kms in (role, token):
        kms.check()
        bao.root().auth.token.revoke(kms._session._client.token)
    assert role.unwrap(DATA, wrapped) == DEK
    with pytest.raises(KeysError, match="denied") as caught:
        token.unwrap(DATA, wrapped)
    assert not isinstance(caught.value, KeyServiceDownError)


def test_a_token_that_may_not_look_at_itself_is_used_as_it_is(bao: OpenBao) -> None:
    settings = replace(by_token(bao), token=bao.token(no_default_policy=True))
    kms = VaultKms(settings)
    assert kms.unwrap(DATA, wrapped_by(kms)) == DEK


@pytest.mark.parametrize("wrong", [{"token": b"s.none"}, {"role_id": "none"}, {"secret_id": b"none"}])
def test_wrong_credentials_are_denied_for_good_and_not_repeated(bao: OpenBao, wrong: dict[str, Any]) -> None:
    kms = VaultKms(replace(by_token(bao) if "token" in wrong else by_role(bao), **wrong))
    for ask in (kms.check, lambda: kms.create_kek(ACME), lambda: kms.destroy_kek(ACME)):
        with pytest.raises(KeysError) as caught:
            ask()
        assert not isinstance(caught.value, KeyServiceDownError)
        assert "none" not in str(caught.value)


def test_what_the_policy_does_not_allow_is_denied(bao: OpenBao) -> None:
    wrapped = wrapped_by(VaultKms(by_role(bao)))
    kms = VaultKms(by_token(bao, policies=("default",)))
    with pytest.raises(KeysError, match=r"denied \(403\).*docs/keys\.md") as caught:
        kms.unwrap(DATA, wrapped)
    assert not isinstance(caught.value, KeyServiceDownError)


def test_rewrap_needs_no_right_to_decrypt(bao: OpenBao) -> None:
    """So the DEK does not leave the server."""
    slot = DATA._replace(owner=Owner("rewrap", "in"))
    kms = VaultKms(by_role(bao))
    old = wrapped_by(kms, slot)
    kms.rotate_kek(slot.owner)
    bao.root().sys.create_or_update_policy(
        "blind", POLICY.replace("/decrypt/", "/none/").replace("/encrypt/", "/none/")
    )
    blind = VaultKms(by_token(bao, policies=("blind",)))
    with pytest.raises(KeysError, match="denied"):
        blind.unwrap(slot, old)
    new = blind.rewrap(slot, old)
    assert (new.kek_version, kms.unwrap(slot, new)) == (2, DEK)


def test_destroying_deletes_the_transit_key(bao: OpenBao) -> None:
    owner = Owner("destroyed", "in")
    kms = VaultKms(by_role(bao))
    wrapped_by(kms, DATA._replace(owner=owner))
    kms.rotate_kek(owner)
    transit = bao.root().secrets.transit
    assert key_name(owner) in transit.list_keys()["data"]["keys"]
    assert kms.destroy_kek(owner).operation == f"deleted transit key wxgate.destroyed.in of VaultSession({bao.url})"
    assert key_name(owner) not in transit.list_keys()["data"]["keys"]


@pytest.mark.parametrize("wrong", [{"mount": "elsewhere"}, {"namespace": "none"}])
def test_a_wrong_mount_or_namespace_is_not_taken_for_a_destroyed_key(bao: OpenBao, wrong: dict[str, str]) -> None:
    settings = replace(by_token(bao), token=bao.root_token.encode())
    wrapped_by(VaultKms(settings))
    kms = VaultKms(replace(settings, **wrong))  # type: ignore[arg-type]
    for ask in (lambda: kms.destroy_kek(ACME), lambda: kms.create_kek(ACME), lambda: kms.wrap(DATA, DEK)):
        with pytest.raises(KeysError, match=r"no such mount or namespace"):
            ask()


def test_destroying_again_says_that_there_is_nothing(bao: OpenBao) -> None:
    assert VaultKms(by_role(bao)).destroy_kek(Owner("never", "in")).operation.startswith("found no KEK: no transit key")


def test_destroying_that_did_not_happen_is_not_reported(bao: OpenBao) -> None:
    owner = Owner("kept", "in")
    wrapped_by(VaultKms(by_role(bao)), DATA._replace(owner=owner))
    bao.root().sys.create_or_update_policy("keeps", POLICY.replace(', "delete"', ""))
    with pytest.raises(KeysError, match="denied"):
        VaultKms(by_token(bao, policies=("keeps",))).destroy_kek(owner)


@pytest.mark.parametrize(
    "made",
    [{"exportable": True}, {"allow_plaintext_backup": True}, {"derived": False}, {"key_type": "chacha20-poly1305"}],
)
def test_a_transit_key_that_is_not_as_ours_is_refused(bao: OpenBao, made: dict[str, Any]) -> None:
    owner = Owner(f"theirs-{next(iter(made))}".replace("_", "-"), "in")
    bao.root().secrets.transit.create_key(key_name(owner), **{"key_type": "aes256-gcm96", "derived": True, **made})
    kms = VaultKms(by_role(bao))
    for ask in (lambda: kms.create_kek(owner), lambda: kms.wrap(DATA._replace(owner=owner), DEK)):
        with pytest.raises(KeysError, match="neither exportable nor"):
            ask()


def test_a_key_that_the_tenant_imported_is_taken_as_its_kek(bao: OpenBao) -> None:
    """By the server's own means, as docs/keys.md tells: wrapped for the server, and never seen by wxgate."""
    owner, kek, once = Owner("brings", "in"), secrets.token_bytes(32), secrets.token_bytes(32)
    transit = bao.root().adapter
    public = load_pem_public_key(transit.get("/v1/transit/wrapping_key")["data"]["public_key"].encode())
    assert isinstance(public, RSAPublicKey)
    carried = public.encrypt(once, OAEP(MGF1(SHA256()), SHA256(), None)) + aes_key_wrap_with_padding(once, kek)
    transit.post(
        f"/v1/transit/keys/{key_name(owner)}/import",
        json={"ciphertext": base64.b64encode(carried).decode(), "type": "aes256-gcm96", "derived": True},
    )
    kms, slot = VaultKms(by_role(bao)), DATA._replace(owner=owner)
    assert kms.create_kek(owner) == 1
    assert kms.unwrap(slot, kms.wrap(slot, DEK)) == DEK


def test_the_context_is_what_binds(bao: OpenBao) -> None:
    """Written from docs/keys.md: what the server must be asked to open a wrapped DEK."""
    kms = VaultKms(by_role(bao))
    wrapped = wrapped_by(kms)
    names = ("wxgate/1 wrapped dek", "acme", "in", wrapped.key_id.hex(), "data", "follower")
    context = b"".join(len(name).to_bytes(2, "big") + name.encode() for name in names)
    opened = bao.root().secrets.transit.decrypt_data(
        "wxgate.acme.in", wrapped.sealed.decode(), base64.b64encode(context).decode()
    )
    assert base64.b64decode(opened["data"]["plaintext"]) == DEK


def test_a_namespace_is_a_world_of_its_own(bao: OpenBao) -> None:
    root = bao.root()
    root.adapter.post("/v1/sys/namespaces/team", json={})
    inside = bao.root("team")
    inside.sys.enable_secrets_engine("transit", path="wx/transit")
    inside.sys.create_or_update_policy("wxgate", POLICY.replace('"transit/', '"wx/transit/'))
    inside.sys.enable_auth_method("approle", path="machines")
    inside.auth.approle.create_or_update_approle("wxgate", token_policies=["wxgate"], mount_point="machines")
    secret = inside.auth.approle.generate_secret_id("wxgate", mount_point="machines")["data"]["secret_id"]
    role = inside.auth.approle.read_role_id("wxgate", mount_point="machines")["data"]["role_id"]
    settings = VaultSettings(
        bao.url, bao.ca, "wx/transit", "team", role_id=role, secret_id=secret.encode(), auth="machines", timeout=30.0
    )
    kms = VaultKms(settings)
    wrapped = wrapped_by(kms)
    assert kms.unwrap(DATA, wrapped) == DEK
    with pytest.raises(KeysError):
        VaultKms(by_role(bao)).unwrap(DATA, wrapped)


def test_a_sealed_server_is_down_and_serves_again_when_unsealed(bao: OpenBao) -> None:
    kms = VaultKms(by_role(bao))
    wrapped = wrapped_by(kms)
    bao.root().sys.seal()
    try:
        with pytest.raises(KeyServiceDownError, match="cannot serve"):
            kms.unwrap(DATA, wrapped)
    finally:
        bao.unseal()
    assert kms.unwrap(DATA, wrapped) == DEK


# --- TLS, and what else a stranger's server could try


def test_another_authority_and_another_name_are_not_trusted(bao: OpenBao, tmp_path: Path) -> None:
    stranger = Path(Authority(tmp_path).ca_file)
    for settings in (
        replace(by_token(bao), ca=stranger),
        replace(by_token(bao), ca=None),
        replace(by_token(bao), url=bao.url.replace("127.0.0.1", "localhost")),
    ):
        with pytest.raises(KeyServiceDownError, match="TLS failed"):
            VaultKms(settings).check()


def test_old_tls_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Server(authority.old_server("127.0.0.1"), replies()) as server:
        settings = VaultSettings(f"https://127.0.0.1:{server.port}", Path(authority.ca_file), token=b"s.token")
        with pytest.raises(KeyServiceDownError, match="TLS failed"):
            VaultKms(settings).check()


@pytest.mark.parametrize("pem", [b"", b"no certificate", None])
def test_a_ca_that_is_none_is_said_at_once(bao: OpenBao, tmp_path: Path, pem: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if pem is not None:
        file.write_bytes(pem)
    with pytest.raises(KeysError, match="not a CA certificate"):
        VaultKms(replace(by_token(bao), ca=file))


def test_the_token_does_not_follow_a_redirect(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Server(authority.server("127.0.0.1"), replies(b"HTTP/1.1 404 Not Found\r\n\r\n")) as thief:
        head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://127.0.0.1:{thief.port}/v1/x\r\n"
        answer = f"{head}Content-Length: 0\r\n\r\n".encode()
        with Server(authority.server("127.0.0.1"), replies(*[answer] * 4)) as server:
            settings = VaultSettings(f"https://127.0.0.1:{server.port}", Path(authority.ca_file), token=b"s.token")
            with pytest.raises(KeysError):
                VaultKms(settings).check()
        assert (server.accepted, thief.accepted) == (1, 0)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data":{}}', b'{"data":null}', b""])
def test_answers_of_another_form_are_no_answers(tmp_path: Path, body: bytes) -> None:
    authority = Authority(tmp_path)
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with Server(authority.server("127.0.0.1"), replies(*[answer] * 8)) as server:
        settings = VaultSettings(f"https://127.0.0.1:{server.port}", Path(authority.ca_file), token=b"s.token")
        kms = VaultKms(settings)
        for ask in (lambda: kms.create_kek(ACME), lambda: kms.wrap(DATA, DEK)):
            with pytest.raises(KeysError):
                ask()


def test_the_environment_changes_nothing(bao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = by_role(bao)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "VAULT_ADDR"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("VAULT_TOKEN", "VAULT_CACERT", "VAULT_NAMESPACE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "/none")
    VaultKms(settings).check()


FORKING = """
import json, os, sys
from pathlib import Path
from proxy.crypto.data_key import Purpose
from proxy.kms.service import Slot
from proxy.kms.service_settings import VaultSettings
from proxy.kms.vault import VaultKms
from proxy.ports import Owner
url, ca, role, secret = json.load(sys.stdin)
kms = VaultKms(VaultSettings(url, Path(ca), role_id=role, secret_id=secret.encode(), timeout=30.0))
slot = Slot(Owner("forked", "in"), "follower", Purpose.DATA)
kms.create_kek(slot.owner)
wrapped = kms.wrap(slot, bytes(32))
children = []
for _ in range(3):
    if (pid := os.fork()) == 0:
        os._exit(0 if all(kms.unwrap(slot, wrapped) == bytes(32) for _ in range(20)) else 1)
    children.append(pid)
mine = all(kms.unwrap(slot, wrapped) == bytes(32) for _ in range(20))
assert mine and all(os.waitpid(pid, 0)[1] == 0 for pid in children)
"""


def test_processes_forked_from_one_ask_over_connections_of_their_own(bao: OpenBao) -> None:
    role, secret = bao.approle("forks")
    said = json.dumps([bao.url, str(bao.ca), role, secret.decode()])
    subprocess.run([sys.executable, "-c", FORKING], input=said, text=True, check=True, timeout=60)
