"""gateway.yaml: every problem with its place, all at once, and no secret in any of them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.emulate.stage import POLICIES
from proxy.kms.service_settings import KeySettings
from proxy.ports import Owner
from proxy.route import RouteKind
from proxy.serve.settings import Settings, load_settings
from proxy.source.problem import Problems
from proxy.wechat.account import Mode
from tests.serve.settings_cases import CASES, CONFIG, SECRETS


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("settings")
    (directory / "certs").mkdir()
    for name in ("a.pem", "a.key", "b.pem", "b.key", "ca.pem"):
        (directory / "certs" / name).write_text("any")
    (directory / "secrets").mkdir()
    for name, value in SECRETS.items():
        (directory / "secrets" / name).write_text(value + "\n")
        (directory / "secrets" / name).chmod(0o600)
    (directory / "policies").symlink_to(POLICIES)
    inbound = "version: 1\ndefaults: {unmatched: encrypt}\nmessages:\n"
    inbound += "  - {name: a, direction: inbound, match: {type: text}, request: {'xml:/xml/A': allow}}\n"
    (directory / "inbound.yaml").write_text(inbound)
    (directory / "broken.yaml").write_text(inbound + "oops: 1\n")
    return directory


@pytest.fixture
def file(base: Path) -> Iterator[Path]:
    path = base / "gateway.yaml"
    yield path
    path.unlink(missing_ok=True)


def found(file: Path, text: str) -> list[str]:
    """`line:column code` of every problem with `text`; secrets must not be among the words."""
    file.write_text(text)
    with pytest.raises(Problems) as caught:
        load_settings(file)
    assert not any(value in str(caught.value) for value in SECRETS.values())
    return [f"{it.place.line}:{it.place.column} {it.code}" for it in caught.value.found if not it.warning]


def changed(old: str, new: str) -> tuple[str, str]:
    """CONFIG with `old` replaced, and the place that the mark § in `new` points at."""
    assert CONFIG.count(old) == 1, old
    text = CONFIG.replace(old, new)
    before = text[: text.index("§")]
    return text.replace("§", ""), f"{before.count(chr(10)) + 1}:{len(before) - (before.rfind(chr(10)) + 1) + 1}"


def settings(file: Path, text: str = CONFIG) -> Settings:
    file.write_text(text)
    return load_settings(file)


def test_everything_that_is_written_arrives(file: Path, base: Path) -> None:
    it = settings(file)
    assert (it.file, it.state, it.audit) == (file, base / "state", base / "logs/audit")
    assert it.keys == KeySettings.local(b"unlock-unlock-unlock")
    assert (it.audit_max_bytes, it.drain) == (1 << 20, 7.0)
    assert (it.delivery_entries, it.delivery_reply_bytes) == (2048, 1 << 20)
    assert (it.admin.host, it.admin.port) == ("127.0.0.1", 9191)
    assert it.admin.token_hash == hashlib.sha256(SECRETS["admin"].encode()).digest()
    assert it.owners == [Owner("acme", "cn")]
    assert it.groups == ["default"]
    assert [route.kind for route in it.routes] == [RouteKind.INBOUND, RouteKind.OUTBOUND]
    assert not it.warnings


def test_listeners_arrive(file: Path, base: Path) -> None:
    public, internal = settings(file).listeners
    assert (public.name, public.host, public.port, public.proxy_protocol) == ("public", "127.0.0.1", 8443, False)
    assert (internal.host, internal.port, internal.proxy_protocol) == ("::1", 8444, True)
    assert internal.tls.tls13_only
    assert internal.tls.client_required
    assert internal.tls.client_ca == base / "certs/ca.pem"
    assert internal.client_names == {"crm.internal"}
    assert internal.tls.names["wx.example.com"].key == base / "certs/b.key"
    limits = internal.limits
    assert (limits.connections, limits.per_address, limits.handshake, limits.head) == (10, 5, 1.0, 2.0)
    assert (limits.body, limits.idle) == (3.0, 4.0)


def test_routes_accounts_and_upstreams_arrive(file: Path, base: Path) -> None:
    it = settings(file)
    push, sends = it.routes
    assert push.account is not None
    assert (push.account.mode, push.account.window, push.account.token) == (Mode.SAFE, 300, SECRETS["token"])
    assert (push.target, push.sources, push.upstream_budget, push.deadline) == ("/webhook", ("101.226.0.0/16",), 4, 4.8)
    assert (sends.hosts, sends.max_body, sends.deadline) == ({"gw.internal"}, 2 << 20, 10.0)
    assert sends.credentials[0].token_hash == hashlib.sha256(SECRETS["bearer"].encode()).digest()
    crm, wechat = it.upstreams
    assert (crm.host, crm.port, crm.ca_file, crm.max_idle) == ("crm.internal", 8500, str(base / "certs/ca.pem"), 20.0)
    assert (wechat.port, wechat.egress_proxy, wechat.ca_file) == (443, ("proxy.internal", 3129), None)


def test_no_repr_shows_a_secret(file: Path) -> None:
    it = settings(file)
    text = repr(it) + repr(it.routes[0].account) + repr(it.routes) + repr(it.admin)
    assert not any(value in text for value in SECRETS.values())


def test_the_digest_tells_configurations_and_policies_apart(file: Path, base: Path) -> None:
    inbound = CONFIG.replace("policy: policies/wechat-crm.yaml, target", "policy: inbound.yaml, target")
    first = settings(file, inbound).digest
    assert settings(file, inbound).digest == first
    assert settings(file, inbound + "# a word\n").digest != first
    policy = base / "inbound.yaml"
    before = policy.read_text()
    policy.write_text(before.replace("/A'", "/B'"))
    assert settings(file, inbound).digest != first
    policy.write_text(before)


@pytest.mark.parametrize("name", CASES)
def test_a_problem_is_found_at_its_place(name: str, file: Path) -> None:
    old, new, code, *also = CASES[name]
    text, place = changed(old, new)
    for one, other in also:
        assert text.count(one) == 1
        text = text.replace(one, other)
    assert f"{place} {code}" in found(file, text)


@pytest.mark.parametrize("key", ["version", "state", "region", "keys", "listeners", "upstreams", "routes"])
def test_what_must_be_there_is_missed(key: str, file: Path) -> None:
    lines = CONFIG.splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.startswith(f"{key}:"))
    end = next((n for n in range(at + 1, len(lines)) if not lines[n].startswith(" ")), len(lines))
    assert "1:1 missing-key" in found(file, "".join(lines[:at] + lines[end:]))


def test_everything_wrong_is_told_at_once_and_in_order(file: Path) -> None:
    text = CONFIG
    for old, new in (
        ("region: cn", "region: China"),
        ("127.0.0.1:8443", "localhost:8443"),
        ("token: 'file:secrets/token'", "token: literal"),
        ("listener: internal", "listener: internals"),
        ("drain: 7s", "drain: soon"),
    ):
        text = text.replace(old, new)
    codes = [line.split(" ")[1] for line in found(file, text)]
    assert codes == ["wrong-value", "wrong-value", "secret", "name-unknown", "wrong-value"]


def test_problems_of_a_policy_are_told_with_its_own_file(file: Path, base: Path) -> None:
    file.write_text(CONFIG.replace("policy: policies/wechat-crm.yaml, target", "policy: broken.yaml, target"))
    with pytest.raises(Problems) as caught:
        load_settings(file)
    (problem,) = caught.value.found
    assert (problem.place.file, problem.place.line, problem.code) == (str(base / "broken.yaml"), 5, "unknown-key")


def test_a_policy_that_fails_its_own_tests_is_not_loaded(file: Path, base: Path) -> None:
    policy = base / "tested.yaml"
    test = "tests:\n  - {sample: sample.xml, expect: {'xml:/xml/A': encrypted}}\n"
    policy.write_text((base / "inbound.yaml").read_text() + test)
    (base / "sample.xml").write_text("<xml><MsgType>text</MsgType><A>words</A></xml>")
    text = CONFIG.replace("policy: policies/wechat-crm.yaml, target", "policy: tested.yaml, target")
    with pytest.raises(Problems, match=rf"{policy}:6:5: test-failed .* should be encrypted and is allowed"):
        settings(file, text)
    policy.write_text(policy.read_text().replace("encrypted}", "allowed}"))
    assert settings(file, text).policies["tested.yaml"].tests
    (base / "sample.xml").unlink()
    with pytest.raises(Problems, match="sample-missing"):
        settings(file, text)


def test_plain_mode_is_a_warning_only(file: Path) -> None:
    text = CONFIG.replace("mode: safe", "mode: plain").replace(", encoding_aes_key: 'file:secrets/aes'", "")
    (warning,) = settings(file, text).warnings
    assert (warning.code, warning.warning, warning.place.line) == ("plain-mode", True, 21)


def test_a_file_that_is_not_there_is_said_in_a_line(base: Path) -> None:
    with pytest.raises(Problems, match=r"nowhere.yaml:1:1: file-unreadable the file cannot be read \(no such file"):
        load_settings(base / "nowhere.yaml")


def test_yaml_that_is_none_is_said_with_its_place(file: Path) -> None:
    assert found(file, "version: 1\nlisteners: [\n")[0].startswith("3:1 yaml-syntax")
    assert "1:1 wrong-type" in found(file, "- 1\n")


def test_defaults_are_the_safe_ones(file: Path, base: Path) -> None:
    text = CONFIG
    for line in CONFIG.splitlines(keepends=True):
        if line.startswith(("audit:", "admin:", "drain:", "deliveries:")):
            text = text.replace(line, "")
    it = settings(file, text)
    assert (it.audit, it.drain, it.admin.host, it.admin.port) == (base / "state/audit", 10.0, "127.0.0.1", 9090)
    assert it.admin.token_hash == b""
    assert not settings(file).listeners[0].tls.tls13_only
