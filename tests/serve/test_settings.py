"""gateway.yaml: every problem with its place, all at once, and no secret in any of them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.emulate.stage import POLICIES
from proxy.ports import Owner
from proxy.route import RouteKind
from proxy.serve.settings import Settings, load_settings
from proxy.source.problem import Problems
from proxy.wechat.account import Mode

SECRETS = {
    "unlock": "unlock-unlock-unlock",
    "token": "wechatToken9",
    "aes": "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
    "bearer": "bearer-of-sixteen-characters",
    "short": "fifteen-letters",
    "admin": "admin-token-of-the-page",
}
CONFIG = """\
version: 1
state: state
tenant: acme
region: cn
keys: {unlock: 'file:secrets/unlock'}
listeners:
  - name: public
    address: 127.0.0.1:8443
    tls: {certificate: certs/a.pem, key: certs/a.key}
  - name: internal
    address: '[::1]:8444'
    tls:
      certificate: certs/a.pem
      key: certs/a.key
      names: {WX.example.com: {certificate: certs/b.pem, key: certs/b.key}}
      oldest: '1.3'
      client_certificates: {ca: certs/ca.pem, required: true, names: [crm.internal]}
    limits: {connections: 10, per_address: 5, handshake: 1s, head: 2s, body: 3s, idle: 4s}
    proxy_protocol: true
accounts:
  - {name: shop, app_id: wx0123456789abcdef, mode: safe, token: 'file:secrets/token', encoding_aes_key: 'file:secrets/aes'}
upstreams:
  - {name: crm, url: 'https://crm.internal:8500', ca: certs/ca.pem, idle: 20s}
  - {name: wechat, url: 'https://api.weixin.qq.com', egress_proxy: 'http://proxy.internal:3129'}
routes:
  - {name: push, kind: inbound, listener: public, path: /wechat/shop, account: shop, upstream: crm, policy: policies/wechat-crm.yaml, target: /webhook, sources: [101.226.0.0/16]}
  - name: sends
    kind: outbound
    listener: internal
    hosts: [GW.internal]
    path: /cgi-bin/
    upstream: wechat
    policy: policies/wechat-crm.yaml
    admit: [{subject: crm, role: crm, bearer: 'file:secrets/bearer'}]
    upstream_budget: 9s
    deadline: 10s
    largest_body: 2MiB
audit: {directory: logs/audit, rotate_at: 1MiB}
admin: {address: '127.0.0.1:9191', token: 'file:secrets/admin'}
drain: 7s
deliveries: {entries: 2048, replies: 1MiB}
"""


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
    assert (it.unlock, it.audit_max_bytes, it.drain) == (b"unlock-unlock-unlock", 1 << 20, 7.0)
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
    inbound = CONFIG.replace("crm, policy: policies/wechat-crm.yaml", "crm, policy: inbound.yaml")
    first = settings(file, inbound).digest
    assert settings(file, inbound).digest == first
    assert settings(file, inbound + "# a word\n").digest != first
    policy = base / "inbound.yaml"
    before = policy.read_text()
    policy.write_text(before.replace("/A'", "/B'"))
    assert settings(file, inbound).digest != first
    policy.write_text(before)


PUSH = "account: shop, upstream: crm, policy: policies/wechat-crm.yaml, target: /webhook, sources: [101.226.0.0/16]"
INTERNAL = "  - name: internal\n"
SHOP = "{name: shop, app_id"
CASES = {
    # names and what they stand for
    "two listeners of one name": (INTERNAL, "  - §name: public\n", "name-duplicate"),
    "two accounts of one name": ("  - " + SHOP, f"  - {{name: shop, app_id: wx0123456789abcdef, mode: safe, token: 'file:secrets/token', encoding_aes_key: 'file:secrets/aes'}}\n  - §{SHOP}", "name-duplicate"),
    "two upstreams of one name": ("  - {name: wechat, url", "  - {name: wechat, url: 'https://a.b'}\n  - §{name: wechat, url", "name-duplicate"),
    "unknown listener": ("listener: public", "listener: §pubic", "name-unknown"),
    "unknown account": ("account: shop", "account: §shoe", "name-unknown"),
    "unknown upstream": ("upstream: wechat", "upstream: §weechat", "name-unknown"),
    "name of a wrong form": ("name: push", "name: §Push", "wrong-value"),
    # shapes
    "version of tomorrow": ("version: 1", "version: §2", "wrong-value"),
    "region of a wrong form": ("region: cn", "region: §China", "wrong-value"),
    "a key nobody knows": ("drain: 7s", "drain: 7s\n§drian: 3s", "unknown-key"),
    "a key nobody knows in a listener": ("    proxy_protocol: true", "    proxy_protocol: true\n    §tsl: 1", "unknown-key"),
    "a key nobody knows in tls": ("tls: {certificate: certs/a.pem,", "tls: {§ciphers: ALL, certificate: certs/a.pem,", "unknown-key"),
    "a key nobody knows in limits": ("limits: {connections", "limits: {§exchange: 3s, connections", "unknown-key"),
    "a key nobody knows in an account": (SHOP, "{§tokn: x, name: shop, app_id", "unknown-key"),
    "a key nobody knows in an upstream": ("idle: 20s}", "idle: 20s, §verify: false}", "unknown-key"),
    "a key nobody knows in a route": ("    largest_body", "    §default: true\n    largest_body", "unknown-key"),
    "a key nobody knows in admit": ("admit: [{subject", "admit: [{§any: true, subject", "unknown-key"),
    "a key nobody knows in keys": ("keys: {unlock", "keys: {§kek: x, unlock", "unknown-key"),
    "listeners are no list": ("accounts:\n", "accounts: §5\nx:\n", "wrong-type"),
    "a section that is none": ("audit: {directory: logs/audit, rotate_at: 1MiB}", "audit: §here", "wrong-type"),
    "a flag that is none": ("proxy_protocol: true", "proxy_protocol: §1", "wrong-type"),
    "a number that is none": ("connections: 10", "connections: §many", "wrong-value"),
    "no connections at all": ("connections: 10", "connections: §0", "wrong-value"),
    "a duration that is none": ("drain: 7s", "drain: §7", "wrong-value"),
    "a drain without end": ("drain: 7s", "drain: §301s", "wrong-value"),
    "a size that is none": ("rotate_at: 1MiB", "rotate_at: §1MB", "wrong-value"),
    "an oldest TLS that is refused": ("oldest: '1.3'", "oldest: §'1.1'", "wrong-value"),
    "a kind of route that is none": ("kind: outbound", "kind: §forward", "wrong-value"),
    "a mode that is none": ("mode: safe", "mode: §open", "wrong-value"),
    "an AppID that is none": ("app_id: wx0123456789abcdef", "app_id: §wx123", "wrong-value"),
    "a key provider that is none": ("keys: {unlock", "keys: {provider: §vault, unlock", "wrong-value"),
    "a path that is none": ("path: /cgi-bin/", "path: §cgi-bin", "wrong-value"),
    "a network that is none": ("- {name: push", "- §{name: push", "wrong-value", ("101.226.0.0/16", "101.226.0.1/16")),
    # addresses and URLs
    "no port": ("127.0.0.1:8443", "§127.0.0.1", "wrong-value"),
    "a name for an address": ("127.0.0.1:8443", "§localhost:8443", "wrong-value"),
    "port 0": ("127.0.0.1:8443", "§127.0.0.1:0", "wrong-value"),
    "a port too high": ("127.0.0.1:8443", "§127.0.0.1:65536", "wrong-value"),
    "a port of odd digits": ("127.0.0.1:8443", "§127.0.0.1:²", "wrong-value"),
    "a port without end": ("127.0.0.1:8443", "§127.0.0.1:" + "9" * 5000, "wrong-value"),
    "two listeners at one address": (INTERNAL, "  - §name: internal\n", "address-duplicate", ("'[::1]:8444'", "127.0.0.1:8443")),
    "an admin page for everybody": ("admin: {address: '127.0.0.1:9191'", "admin: §{address: '0.0.0.0:9191'", "admin-exposed"),
    "an upstream without TLS": ("  - {name: crm, url: 'https:", "  - §{name: crm, url: 'http:", "wrong-value"),
    "an upstream with a path": ("  - {name: wechat, url: 'https://api.weixin.qq.com'", "  - §{name: wechat, url: 'https://api.weixin.qq.com/a'", "wrong-value"),
    "an upstream without a host": ("  - {name: wechat, url: 'https://api.weixin.qq.com'", "  - §{name: wechat, url: 'https://'", "wrong-value"),
    "an upstream that is no URL": ("  - {name: wechat, url: 'https://api.weixin.qq.com'", "  - §{name: wechat, url: 'https://[::1'", "wrong-value"),
    "an upstream's port that is none": ("  - {name: wechat, url: 'https://api.weixin.qq.com'", "  - §{name: wechat, url: 'https://a.b:99999'", "wrong-value"),
    "an egress proxy that is no URL": ("  - {name: wechat, url", "  - §{name: wechat, url", "wrong-value", ("http://proxy.internal:3129", "http://[proxy")),
    "half a client certificate": ("  - {name: crm, url", "  - §{name: crm, client_key: certs/a.key, url", "wrong-value"),
    # files and secrets
    "no certificate there": ("tls: {certificate: certs/a.pem", "tls: {certificate: §certs/z.pem", "file-unreadable"),
    "no client CA there": ("{ca: certs/ca.pem, required", "{ca: §certs/z.pem, required", "file-unreadable"),
    "no upstream CA there": ("8500', ca: certs/ca.pem", "8500', ca: §certs/z.pem", "file-unreadable"),
    "no policy there": (PUSH, PUSH.replace("policies/", "§polices/"), "file-unreadable"),
    "a literal secret": ("token: 'file:secrets/token'", "token: §wechatToken9", "secret"),
    "a secret file that is not there": ("unlock: 'file:secrets/unlock'", "unlock: §'file:secrets/none'", "secret"),
    "a variable that is not set": ("unlock: 'file:secrets/unlock'", "unlock: §'env:WXGATE_NOT_SET'", "secret"),
    "an EncodingAESKey that is none": (SHOP, "§" + SHOP, "secret", ("file:secrets/aes", "file:secrets/token")),
    "a bearer token that can be guessed": ("[{subject: crm", "[§{subject: crm", "secret", ("file:secrets/bearer", "file:secrets/short")),
    "an entry that shows nothing": ("[{subject: crm, role: crm, bearer: 'file:secrets/bearer'}]", "[§{subject: crm, role: crm}]", "credential-empty"),
    # what does not go together
    "routes that overlap": ("  - name: sends\n", f"  - §{{name: twin, kind: inbound, listener: public, path: /wechat/shop, {PUSH}}}\n  - name: sends\n", "route-overlap"),
    "WeChat on a TLS 1.3 listener": ("  - {name: push, kind: inbound, listener: public", "  - §{name: push, kind: inbound, listener: internal", "tls13-wechat"),
    "a policy that has nothing for the route": ("  - name: sends\n", "  - §name: sends\n", "policy-empty", ("wechat\n    policy: policies/wechat-crm.yaml", "wechat\n    policy: inbound.yaml")),
}  # fmt: skip


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
    file.write_text(CONFIG.replace("crm, policy: policies/wechat-crm.yaml", "crm, policy: broken.yaml"))
    with pytest.raises(Problems) as caught:
        load_settings(file)
    assert [(it.place.file, it.place.line, it.code) for it in caught.value.found] == [("broken.yaml", 5, "unknown-key")]


def test_plain_mode_is_a_warning_only(file: Path) -> None:
    text = CONFIG.replace("mode: safe", "mode: plain").replace(", encoding_aes_key: 'file:secrets/aes'", "")
    (warning,) = settings(file, text).warnings
    assert (warning.code, warning.warning, warning.place.line) == ("plain-mode", True, 21)


def test_a_file_that_is_not_there_is_said_in_a_line(base: Path) -> None:
    with pytest.raises(Problems, match=r"nowhere.yaml:1:1: file-unreadable the file cannot be read \(no such file"):
        load_settings(base / "nowhere.yaml")


def test_yaml_that_is_none_is_said_with_its_place(file: Path) -> None:
    assert found(file, "version: 1\nlisteners: [\n")[0].startswith("3:1 yaml-syntax")
    assert found(file, "- 1\n")[0] == "1:1 wrong-type"


def test_defaults_are_the_safe_ones(file: Path, base: Path) -> None:
    text = CONFIG
    for line in CONFIG.splitlines(keepends=True):
        if line.startswith(("audit:", "admin:", "drain:", "deliveries:")):
            text = text.replace(line, "")
    it = settings(file, text)
    assert (it.audit, it.drain, it.admin.host, it.admin.port) == (base / "state/audit", 10.0, "127.0.0.1", 9090)
    assert it.admin.token_hash == b""
    assert not settings(file).listeners[0].tls.tls13_only
