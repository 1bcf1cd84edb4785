"""The `keys` section: every kind of key service arrives as written, every problem has its place, no secret shows."""

import re
from pathlib import Path

import pytest

from proxy.kms.redis_settings import RedisSettings
from proxy.kms.service_settings import (
    AwsSettings,
    KeySettings,
    LocalSettings,
    Pkcs11Settings,
    Reach,
    ServiceSettings,
    TenantKeys,
    VaultSettings,
)
from proxy.serve.settings_keys import KeysReader
from proxy.serve.settings_parts import Parts
from proxy.source.section import Section
from proxy.source.yaml_reader import read_yaml

SECRETS = {"unlock": b"unlock-unlock", "words": b"six words of a list by dice", "token": b"s.token", "pin": b"123 456"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name, value in SECRETS.items():
        (tmp_path / name).write_bytes(value + b"\n")
        (tmp_path / name).chmod(0o600)
    for name in ("ca.pem", "hsm.so"):
        (tmp_path / name).write_text("any")
    return tmp_path


def read(base: Path, text: str) -> tuple[KeySettings, list[str]]:
    """What `keys: {text}` says, and `column code` of each problem; columns count within `text` from 0."""
    parts = Parts(base / "gateway.yaml")
    line = f"keys: {{{text}}}"
    section = Section(read_yaml(line.encode(), "gateway.yaml"), parts.problems, "a gateway configuration")
    settings = KeysReader(parts).read(section.section("keys"))
    said = " ".join(map(str, parts.problems)) + repr(settings)
    assert not any(value.decode() in said for value in SECRETS.values())
    return settings, [f"{it.place.column - 8} {it.code}" for it in parts.problems]


ROLE = "approle: {role_id: r-1, secret_id: file:token"
ARRIVE: dict[str, tuple[str, Reach]] = {
    "kind: local, unlock: file:unlock": ("local", LocalSettings(b"unlock-unlock")),
    "kind: local, passphrase: file:words": ("local", LocalSettings(passphrase=SECRETS["words"])),
    "kind: vault, url: https://v.internal:8200/, token: file:token": (
        "vault",
        VaultSettings("https://v.internal:8200", token=b"s.token"),
    ),
    f"kind: vault, name: eu, url: http://127.0.0.1:82, ca: ca.pem, mount: a/t, namespace: n/m/, timeout: 1s, {ROLE}, "
    "mount: wx}}": (
        "eu",
        VaultSettings("http://127.0.0.1:82", Path("ca.pem"), "a/t", "n/m/", b"", "r-1", b"s.token", "wx", 1.0),
    ),
    "kind: pkcs11, module: hsm.so, token_label: wxgate 1, pin: file:pin": (
        "pkcs11",
        Pkcs11Settings(Path("hsm.so"), "wxgate 1", b"123 456"),
    ),
    "kind: aws, region: eu-west-1": ("aws", AwsSettings("eu-west-1")),
    "kind: aws, region: us-gov-west-1, endpoint: 'http://[::1]:5000', timeout: 2s, access_key_id: file:token, "
    "secret_access_key: file:unlock, session_token: file:token": (
        "aws",
        AwsSettings("us-gov-west-1", "http://[::1]:5000", None, b"s.token", b"unlock-unlock", b"s.token", 2.0),
    ),
}


@pytest.mark.parametrize("text", ARRIVE)
def test_what_is_written_arrives(text: str, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    settings, problems = read(Path(), f"service: {{{text.removesuffix('}')}}}")
    name, reach = ARRIVE[text]
    assert (problems, settings) == ([], KeySettings(ServiceSettings(name, reach)))


def test_the_short_form_is_the_embedded_service(base: Path) -> None:
    for text in ("unlock: file:unlock", "provider: local, unlock: file:unlock"):
        assert read(base, text) == (KeySettings.local(b"unlock-unlock"), [])


def test_former_services_and_tenants_arrive(base: Path) -> None:
    settings, problems = read(
        base,
        "service: {kind: aws, region: eu-west-1}, former: [{kind: local, unlock: file:unlock}], tenants: {acme: "
        "{service: {kind: aws, region: eu-west-2}, cache_age: 60s}, beta: {}, gamma: {cache_age: 1h}}",
    )
    acme = ServiceSettings("acme.aws", AwsSettings("eu-west-2"))
    assert problems == []
    assert settings.former == (ServiceSettings("local", LocalSettings(b"unlock-unlock")),)
    assert settings.tenants == {
        "acme": TenantKeys(acme, 60.0),
        "beta": TenantKeys(None, None),
        "gamma": TenantKeys(None, 3600.0),
    }
    assert [each.name for each in settings.all()] == ["aws", "local", "acme.aws"]


VAULT = "kind: vault, url: https://v, "
WRONG = [
    "service: §{unlock: file:unlock} missing-key",
    "service: {kind: §gcp} wrong-value",
    "service: §{kind: local} missing-key",
    "service: §{kind: local, unlock: file:unlock, passphrase: file:words} missing-key",
    "service: {kind: local, unlock: §file:none} secret",
    "service: {kind: local, unlock: §correct-horse} secret",
    "service: {kind: local, unlock: file:unlock}, §unlock: file:unlock unknown-key",
    "service: {kind: local, unlock: file:unlock, §url: x} unknown-key",
    "service: {kind: local, name: §Local, unlock: file:unlock} wrong-value",
    "service: §{kind: vault, url: http://v.internal:8200, token: file:token} wrong-value",
    "service: §{kind: vault, url: http://localhost:8200, token: file:token} wrong-value",
    "service: §{kind: vault, url: https://v/v1, token: file:token} wrong-value",
    "service: §{kind: vault, url: 'https://u@v', token: file:token} wrong-value",
    "service: §{kind: vault, url: ftp://127.0.0.1, token: file:token} wrong-value",
    "service: §{kind: vault, token: file:token} missing-key",
    f"service: §{{{VAULT}}} missing-key",
    f"service: §{{{VAULT}token: file:token, approle: {{}}}} missing-key",
    f"service: §{{{VAULT}token: file:pin}} secret",
    f"service: {{{VAULT}ca: §none.pem, token: file:token}} file-unreadable",
    f"service: {{{VAULT}mount: §../sys, token: file:token}} wrong-value",
    f"service: {{{VAULT}timeout: §31s, token: file:token}} wrong-value",
    f"service: {{{VAULT}approle: §{{role_id: r}}}} missing-key",
    f"service: {{{VAULT}approle: §{{secret_id: file:token}}}} missing-key",
    "service: {kind: pkcs11, module: §none.so, token_label: a, pin: file:pin} file-unreadable",
    "service: §{kind: pkcs11, module: hsm.so, pin: file:pin} missing-key",
    "service: {kind: pkcs11, module: hsm.so, token_label: a, pin: §'1234'} secret",
    "service: §{kind: aws} missing-key",
    "service: {kind: aws, region: §Frankfurt} wrong-value",
    "service: §{kind: aws, region: eu-west-1, access_key_id: file:token} missing-key",
    "service: §{kind: aws, region: eu-west-1, endpoint: 'http://10.0.0.1'} wrong-value",
    "service: {kind: aws, region: eu-west-1}, former: [§{kind: aws, region: eu-west-2}] name-duplicate",
    "service: {kind: aws, region: eu-west-1}, tenants: {§Acme: {}} wrong-value",
    "service: {kind: aws, region: eu-west-1}, tenants: {acme: {§cache: 1s}} unknown-key",
    "service: {kind: aws, region: eu-west-1}, tenants: {acme: {cache_age: §0s}} wrong-value",
    "service: {kind: aws, region: eu-west-1}, tenants: {acme: §{service: {kind: aws, region: a-b-1}}} missing-key",
]


@pytest.mark.parametrize("case", WRONG)
def test_a_problem_is_found_at_its_place(case: str, base: Path) -> None:
    text, _, code = case.rpartition(" ")
    _, problems = read(base, text.replace("§", ""))
    assert f"{text.index('§')} {code}" in problems


def test_two_embedded_services_would_share_a_file(base: Path) -> None:
    local = "{kind: local, unlock: file:unlock%s}"
    _, problems = read(base, f"service: {local % ''}, former: [{local % ', name: old'}]")
    assert [re.sub("-?[0-9]+ ", "", each) for each in problems] == ["wrong-value"]


LOCAL = "unlock: file:unlock, "


def test_redis_is_read_with_all_it_takes(base: Path) -> None:
    text = (
        LOCAL + "redis: {url: 'rediss://r.internal:6380/3', ca: ca.pem, username: wx, password: file:token, name: a, "
        "refresh: 2s, timeout: 1s, machines: 3}"
    )
    settings, said = read(base, text)
    assert said == [] and settings.limits.machines == 3
    expected = RedisSettings("r.internal", 6380, True, base / "ca.pem", "wx", b"s.token", 3, "a", 2.0, 1.0)
    assert settings.redis == expected
    settings, said = read(base, LOCAL + "redis: {url: 'redis://127.0.0.1', refresh: 1s}")
    assert (said, settings.redis) == ([], RedisSettings("127.0.0.1", 6379, tls=False, refresh=1.0))
    assert read(base, LOCAL)[0].redis is None


@pytest.mark.parametrize(
    "redis",
    [
        *("url: 'redis://r.internal:6379'", "url: 'https://r.internal'", "url: 'rediss:///0'", "name: x"),
        *("url: 'rediss://u:p@r.internal'", "url: 'rediss://r.internal/x'", "url: 'rediss://r.internal', machines: 0"),
        *("url: 'rediss://r.internal', refresh: 4s", "url: 'rediss://r.internal', password: secret"),
        "url: 'rediss://r.internal', more: 1",
    ],
)
def test_redis_that_makes_no_sense_is_refused(base: Path, redis: str) -> None:
    assert read(base, LOCAL + f"redis: {{{redis}}}")[1]
