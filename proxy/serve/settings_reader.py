"""Reads gateway.yaml: shapes, references between its parts, files, secrets; all problems at once."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path

from proxy.edge.listener_settings import KeyPair, Limits, ListenerSettings, TlsSettings
from proxy.edge.upstream_settings import UpstreamSettings
from proxy.policy.compiled import Policy
from proxy.policy.rules import Direction
from proxy.route import Credential, Route, RouteKind, overlapping
from proxy.serve.policies import load_policy, shared_oracles
from proxy.serve.settings import AdminSettings, Settings
from proxy.serve.settings_keys import KeysReader
from proxy.serve.settings_parts import Parts
from proxy.serve.settings_region import CODE, HINT, read_region
from proxy.source.problem import Place, Problem, Problems
from proxy.source.section import Section
from proxy.source.yaml_reader import read_yaml
from proxy.wechat.account import Account, Mode
from proxy.wechat.envelope import EnvelopeKey

_NAME = r"[a-z][a-z0-9-]{0,31}"
_HOST = r"[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\]"
_NAME_HINT = "lower-case letters, digits and -"
_MIB = 1024 * 1024
_LARGEST_PUSH = 256 * 1024  # anybody may send one until its signature is checked; real ones have a few kilobytes
_WECHAT_TOKEN = re.compile(rb"[A-Za-z0-9]{3,32}")


class SettingsReader(Parts):
    """Reads one gateway.yaml."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.listeners: dict[str, ListenerSettings] = {}
        self.accounts: dict[str, Account] = {}
        self.upstreams: dict[str, UpstreamSettings] = {}
        self.policies: dict[str, Policy] = {}
        self.owner = ("", "")

    def read(self) -> Settings:
        """Raises Problems if there is anything but warnings."""
        data = self.content(self.path)
        top = Section(read_yaml(data, str(self.path)), self.problems, "a gateway configuration")
        top.number("version", 1, least=1, most=1, required=True)
        state = self.base / top.text("state", "state", required=True)
        region, disk = read_region(top)
        self.owner = (
            top.text("tenant", "default", pattern=_NAME, hint=_NAME_HINT),
            region,
        )
        keys = KeysReader(self).read(top.section("keys", required=True))
        for section in top.sections("listeners", required=True):
            self.add(self.listeners, section, self._listener(section))
        for section in top.sections("accounts"):
            self.add(self.accounts, section, self._account(section))
        for section in top.sections("upstreams", required=True):
            if (upstream := self._upstream(section)) is not None:
                self.add(self.upstreams, section, upstream)
        routes = [(section.place, self._route(section)) for section in top.sections("routes", required=True)]
        audit, audit_max = self._audit(top.section("audit"), state)
        admin = self._admin(top.section("admin"))
        drain = top.duration("drain", 10.0, most=300.0)
        entries, reply_bytes = self._deliveries(top.section("deliveries"))
        top.done()
        self._check_routes(routes)
        if any(not problem.warning for problem in self.problems):
            raise Problems(self.problems)
        return Settings(
            self.path, state, keys, tuple(self.listeners.values()), tuple(self.upstreams.values()),
            tuple(route for _, route in routes), self.policies, audit, audit_max, admin, drain, entries, reply_bytes,
            self._digest(data),
            tuple(self.problems),
            disk,
        )  # fmt: skip

    def _digest(self, data: bytes) -> str:
        revisions = "".join(policy.revision for policy in self.policies.values())
        return hashlib.sha256(data + revisions.encode()).hexdigest()[:16]

    # --- the house

    def _audit(self, section: Section | None, state: Path) -> tuple[Path, int]:
        if section is None:
            return state / "audit", 64 * _MIB
        directory = section.text("directory")
        most = section.size("rotate_at", 64 * _MIB, least=32 * 1024, most=1024 * _MIB)
        section.done()
        return (self.base / directory if directory else state / "audit"), most

    def _admin(self, section: Section | None) -> AdminSettings:
        if section is None:
            return AdminSettings()
        place = section.place
        host, port = self.address(section, "address", "127.0.0.1:9090")
        if not ipaddress.ip_address(host).is_loopback:
            section.problem(place, "admin-exposed", "the admin listener has no TLS and must be on a loopback address")
        token = self.secret(section, "token", required=False)
        section.done()
        return AdminSettings(host, port, hashlib.sha256(token).digest() if token else b"")

    def _deliveries(self, section: Section | None) -> tuple[int, int]:
        if section is None:
            return 1 << 18, 32 * _MIB
        entries = section.number("entries", 1 << 18, least=1024, most=1 << 24)
        replies = section.size("replies", 32 * _MIB, most=4096 * _MIB)
        section.done()
        return entries, replies

    # --- listeners

    def _listener(self, section: Section) -> ListenerSettings:
        name = section.text("name", "?", required=True, pattern=_NAME, hint=_NAME_HINT)
        host, port = self.address(section, "address", "")
        tls, client_names = self._tls(section.section("tls", required=True))
        limits = self._limits(section.section("limits"))
        proxy_protocol = section.flag("proxy_protocol")
        section.done()
        if port and any((item.host, item.port) == (host, port) for item in self.listeners.values()):
            message = f'listener "{name}" has the address of another: callers would meet either, by chance'
            section.problem(section.place, "address-duplicate", message)
        return ListenerSettings(name, host, port, tls, limits, proxy_protocol, client_names)

    def _tls(self, section: Section | None) -> tuple[TlsSettings, frozenset[str]]:
        if section is None:
            return TlsSettings(KeyPair(Path(), Path()), {}), frozenset()
        default = self._pair(section)
        names: dict[str, KeyPair] = {}
        if (named := section.section("names")) is not None:
            for key, value in named.rest():
                inner = Section(value, self.problems, f'the certificate for "{key.text}"')
                names[key.text.lower()] = self._pair(inner)
                inner.done()
        oldest = section.choice("oldest", ("1.2", "1.3"), "1.2")
        client = section.section("client_certificates")
        ca, required, allowed = None, False, frozenset[str]()
        if client is not None:
            ca = self.file(client, "ca", required=True)
            required = client.flag("required")
            allowed = frozenset(client.texts("names"))
            client.done()
        section.done()
        return TlsSettings(default, names, oldest == "1.3", ca, required), allowed

    def _pair(self, section: Section) -> KeyPair:
        certificate = self.file(section, "certificate", required=True)
        key = self.file(section, "key", required=True)
        return KeyPair(certificate or Path(), key or Path())

    def _limits(self, section: Section | None) -> Limits:
        if section is None:
            return Limits()
        base = Limits()
        limits = Limits(
            section.number("connections", base.connections, least=1, most=1_000_000),
            section.number("per_address", base.per_address, least=1, most=1_000_000),
            section.duration("handshake", base.handshake, most=60),
            section.duration("head", base.head, most=60),
            section.duration("body", base.body, most=600),
            base.exchange,
            section.duration("idle", base.idle, most=3600),
        )
        section.done()
        return limits

    # --- accounts, upstreams

    def _account(self, section: Section) -> Account:
        name = section.text("name", "?", required=True, pattern=_NAME, hint=_NAME_HINT)
        section.choice("kind", ("official_account", "mini_program"), "official_account")
        app_id = section.text("app_id", required=True, pattern=r"wx[0-9a-f]{16}", hint="wx and 16 hex digits")
        mode = Mode(section.choice("mode", [item.value for item in Mode], "safe", required=True))
        place = section.place
        token = self.secret(section, "token")
        if token and not _WECHAT_TOKEN.fullmatch(token):
            section.problem(place, "secret", f'the token of "{name}" is not 3 to 32 letters and digits')
        keys = tuple(self._envelope_keys(section, mode))
        window = int(section.duration("window", 300.0, most=600.0))
        section.done()
        if mode is Mode.PLAIN:
            message = f'account "{name}" is in plain mode: its pushes are not encrypted and their bodies not signed'
            section.problem(place, "plain-mode", message, "switch it to safe mode in WeChat's console", warning=True)
        return Account(name, app_id, mode, token.decode("ascii", "replace"), keys, window)

    def _envelope_keys(self, section: Section, mode: Mode) -> Iterable[EnvelopeKey]:
        for key, required in (("encoding_aes_key", mode is not Mode.PLAIN), ("previous_encoding_aes_key", False)):
            text = self.secret(section, key, required=required)
            if text:
                try:
                    yield EnvelopeKey.from_text(text.decode("ascii", "replace"))
                except ValueError as error:
                    section.problem(section.place, "secret", f'"{key}": {error}')

    def _upstream(self, section: Section) -> UpstreamSettings | None:
        name = section.text("name", "?", required=True, pattern=_NAME, hint=_NAME_HINT)
        url = self.url(section, "url", required=True)
        ca, certificate = self.file(section, "ca"), self.file(section, "client_certificate")
        key = self.file(section, "client_key")
        proxy = self.url(section, "egress_proxy")
        place = section.place
        most, warm = section.number("connections", 32, least=1, most=1024), section.number("warm", 1, most=64)
        idle, age = section.duration("idle", 30.0), section.duration("max_age", 300.0)
        connect = section.duration("connect", 2.0, most=30.0)
        largest = section.size("largest_answer", _MIB, most=64 * _MIB)
        bearer = self.secret(section, "bearer", required=False)
        section.done()
        if url.path not in ("", "/") or url.query or url.fragment or url.username:
            section.problem(place, "wrong-value", f'upstream "{name}": the url is https://HOST or https://HOST:PORT')
        try:
            return UpstreamSettings(
                name,
                url.hostname or "",
                url.port or 443,
                url.scheme,
                ca_file=_text(ca),
                client_certificate=_text(certificate),
                client_key=_text(key),
                connect_timeout=connect,
                max_connections=most,
                max_idle=idle,
                max_age=age,
                max_response_bytes=largest,
                egress_proxy=(proxy.hostname, proxy.port or 3128) if proxy.hostname else None,
                warm=min(warm, most),
                bearer=bearer,
            )
        except ValueError as error:
            section.problem(place, "wrong-value", str(error))
            return None

    # --- routes

    def _route(self, section: Section) -> Route:
        name = section.text("name", "?", required=True, pattern=_NAME, hint=_NAME_HINT)
        kind = RouteKind(section.choice("kind", [item.value for item in RouteKind], "inbound", required=True))
        listener = self.named(section, "listener", self.listeners)
        hosts = frozenset(host.lower() for host in section.texts("hosts"))
        path = section.text("path", "/?", required=True, pattern=r"/[A-Za-z0-9._~/-]{0,511}", hint="/a/path")
        upstream = self.named(section, "upstream", self.upstreams)
        policy, following = (
            self._policy(section, "policy", required=True),
            self._policy(section, "next", required=False),
        )
        account, target = None, ""
        credentials: tuple[Credential, ...] = ()
        if kind is RouteKind.INBOUND:
            account = self.accounts.get(self.named(section, "account", self.accounts))
            target = section.text("target", path, pattern=r"/[A-Za-z0-9._~/-]{0,511}", hint="the path at the upstream")
        else:
            credentials = tuple(self._credential(item) for item in section.sections("admit", required=True))
        sources = tuple(self._networks(section))
        budget = section.duration("upstream_budget", 4.0, most=60.0)
        deadline = section.duration("deadline", 4.8, most=60.0)
        max_body = section.size("largest_body", _LARGEST_PUSH if kind is RouteKind.INBOUND else _MIB, most=64 * _MIB)
        tenant = section.text("tenant", self.owner[0], pattern=_NAME, hint=_NAME_HINT)
        region = section.text("region", self.owner[1], pattern=CODE, hint=HINT)
        section.done()
        return Route(
            name, kind, listener, hosts, path, upstream, policy, tenant, region, target, account, credentials, sources,
            budget, deadline, max_body, following,
        )  # fmt: skip

    def _networks(self, section: Section) -> Iterable[str]:
        for text in section.texts("sources"):
            try:
                yield str(ipaddress.ip_network(text))
            except ValueError:
                section.problem(section.place, "wrong-value", f'"{text}" is not a network such as 101.226.0.0/16')

    def _credential(self, section: Section) -> Credential:
        subject = section.text("subject", "?", required=True, pattern=r"[A-Za-z0-9._@-]{1,64}", hint="who it is")
        role = section.text("role", "?", required=True, pattern=_NAME, hint=_NAME_HINT)
        token = self.secret(section, "bearer", required=False)
        certificate = section.text("certificate_name")
        place = section.place
        section.done()
        if not token and not certificate:
            section.problem(place, "credential-empty", f'"{subject}" shows nothing', "add bearer or certificate_name")
        if token and len(token) < 16:
            section.problem(place, "secret", f'the bearer token of "{subject}" has fewer than 16 characters')
        return Credential(subject, role, hashlib.sha256(token).digest() if token else b"", certificate)

    def _policy(self, section: Section, key: str, *, required: bool) -> str:
        node = section.take(key, required=required)
        name = section.as_text(node, key) or "" if node is not None else ""
        if node is None or not name or name in self.policies:
            return name
        try:
            policy = load_policy(self.base / name)
        except Problems as problems:
            self.problems.extend(problems.found)
        except OSError:
            section.problem(node.place, "file-unreadable", f"policy {name} cannot be read")
        else:
            self.policies[name] = policy
            self.problems.extend(policy.warnings)
        return name

    def _check_routes(self, routes: list[tuple[Place, Route]]) -> None:
        for one, two in overlapping([route for _, route in routes]):
            place = next(place for place, route in routes if route is two)
            message = f'route "{two.name}" matches requests that route "{one.name}" matches too'
            self.problems.append(Problem(place, "route-overlap", message))
        for place, route in routes:
            listener = self.listeners.get(route.listener)
            if listener and listener.tls.tls13_only and route.kind is RouteKind.INBOUND:
                message = f'listener "{listener.name}" takes TLS 1.3 only, WeChat needs 1.2 (route "{route.name}")'
                self.problems.append(Problem(place, "tls13-wechat", message))
            self._check_policy(place, route)
        self.problems += shared_oracles([route for _, route in routes], self.policies, self.base)

    def _check_policy(self, place: Place, route: Route) -> None:
        policy = self.policies.get(route.policy)
        if policy is None:
            return
        direction = Direction(route.kind.value)
        if not policy.speaks_of(direction):
            message = (
                f'policy "{route.policy}" has no {direction.value} message: route "{route.name}" refuses everything'
            )
            self.problems.append(Problem(place, "policy-empty", message))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
