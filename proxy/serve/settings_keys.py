"""The `keys` section of gateway.yaml: which key service wraps, which did before, which tenants brought their own."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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
from proxy.serve.settings_key_limits import read_limits
from proxy.serve.settings_parts import Parts
from proxy.source.section import Section

_KINDS = ("local", "vault", "pkcs11", "aws")
_NAME = r"[a-z][a-z0-9.-]{0,63}"
_TENANT = r"[a-z][a-z0-9-]{0,31}"
_PATH = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){0,7}"
_PATH_HINT = "names with / between them"


class KeysReader:
    """Reads it with the helpers of `parts`, which also gathers the problems."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._names: set[str] = set()

    def read(self, section: Section | None) -> KeySettings:
        """What is said; of no use if it has problems."""
        if section is None:
            return KeySettings.local(b"")
        settings = self._long(section) if section.has("service") else self._short(section)
        redis, machines = self._redis(section.section("redis"))
        place = section.place
        limits = replace(read_limits(section), machines=machines)
        if redis is not None and limits.activate_after < 3 * redis.refresh:
            message = (
                '"activate_after" must be three times the "refresh" of redis at least: every machine must know a key'
            )
            section.problem(place, "wrong-value", message + " before its use")
        section.done()
        return replace(settings, limits=limits, redis=redis)

    def _redis(self, section: Section | None) -> tuple[RedisSettings | None, int]:
        """Where it is, and how many machines share the keyring."""
        if section is None:
            return None, 1
        place = section.place
        url = self._parts.url(section, "url", required=True)
        tls = url.scheme == "rediss"
        if not (tls or (url.scheme == "redis" and _loopback(url.hostname or ""))):
            section.problem(place, "wrong-value", '"url" must begin with rediss:// (redis only to 127.0.0.1 or [::1])')
        database = url.path.removeprefix("/") or "0"
        if not url.hostname or url.username is not None or url.query or not re.fullmatch(r"[0-9]{1,4}", database):
            section.problem(place, "wrong-value", '"url" is rediss://HOST:PORT or rediss://HOST:PORT/DATABASE')
            database = "0"
        base = RedisSettings("", 0)
        settings = RedisSettings(
            url.hostname or "",
            url.port or 6379,
            tls,
            self._parts.file(section, "ca"),
            section.text("username", pattern=_PATH, hint="letters, digits, . _ and -"),
            self._header(section, "password", required=False),
            int(database),
            section.text("name", base.name, pattern=_NAME, hint="lower-case letters, digits, - and ."),
            section.duration("refresh", base.refresh, most=3600.0),
            section.duration("timeout", base.timeout, most=30.0),
        )
        machines = section.number("machines", 2, least=1, most=1000)
        section.done()
        return settings, machines

    def _short(self, section: Section) -> KeySettings:
        section.choice("provider", ("local",), "local")
        return KeySettings.local(self._parts.secret(section, "unlock"))

    def _long(self, section: Section) -> KeySettings:
        service = self._service(section.section("service", required=True), "")
        former = tuple(self._service(each, "") for each in section.sections("former"))
        tenants: dict[str, TenantKeys] = {}
        if (named := section.section("tenants")) is not None:
            for key, node in named.rest():
                if not re.fullmatch(_TENANT, key.text, re.ASCII):
                    section.problem(key.place, "wrong-value", f'no tenant can be named "{key.text}"')
                tenants[key.text] = self._tenant(Section(node, section.problems, "a tenant's keys"), key.text)
        settings = KeySettings(service, former, tenants)
        if sum(isinstance(each.reach, LocalSettings) for each in settings.all()) > 1:
            message = "two services of kind local would share one file"
            section.problem(section.place, "wrong-value", message, "a tenant's own KEK is imported into the one")
        return settings

    def _tenant(self, section: Section, name: str) -> TenantKeys:
        if section.has("service") and not section.has("cache_age"):
            message = 'a tenant with its own service needs "cache_age": how long a key may stay when it says no more'
            section.problem(section.place, "missing-key", message)
        own = section.section("service")
        service = None if own is None else self._service(own, f"{name}.")
        age = section.duration("cache_age", 0.0)
        section.done()
        return TenantKeys(service, age or None)

    def _service(self, section: Section | None, prefix: str) -> ServiceSettings:
        if section is None:
            return ServiceSettings("", LocalSettings())
        kind = section.choice("kind", _KINDS, required=True)
        place = section.place
        name = section.text("name", prefix + kind, pattern=_NAME, hint="lower-case letters, digits, - and .")
        if name in self._names:
            fix = "give one of them another `name`; a name in use stays with its service, the keyring says it"
            section.problem(place, "name-duplicate", f'there are two key services named "{name}"', fix)
        self._names.add(name)
        readers: dict[str, Callable[[Section], Reach]] = {
            "local": self._local,
            "vault": self._vault,
            "pkcs11": self._pkcs11,
            "aws": self._aws,
        }
        reach = readers[kind](section) if kind else LocalSettings()
        if kind:
            section.done()
        return ServiceSettings(name, reach)

    def _local(self, section: Section) -> LocalSettings:
        one = self._one_of(section, "unlock", "passphrase")
        secret = self._parts.secret(section, one)
        return LocalSettings(unlock=secret) if one == "unlock" else LocalSettings(passphrase=secret)

    def _vault(self, section: Section) -> VaultSettings:
        url, ca = self._endpoint(section, "url", required=True), self._parts.file(section, "ca")
        mount = section.text("mount", "transit", pattern=_PATH, hint=_PATH_HINT)
        namespace = section.text("namespace", pattern=_PATH + "/?", hint=_PATH_HINT)
        timeout = section.duration("timeout", 3.0, most=30.0)
        if self._one_of(section, "token", "approle") == "token":
            token = self._header(section, "token")
            return VaultSettings(url, ca, mount, namespace, token, timeout=timeout)
        role = section.section("approle", required=True)
        if role is None:
            return VaultSettings(url)
        role_id = role.text("role_id", required=True, pattern=r"[!-~]{1,256}", hint="text in ASCII")
        secret_id = self._header(role, "secret_id")
        auth = role.text("mount", "approle", pattern=_PATH, hint=_PATH_HINT)
        role.done()
        return VaultSettings(url, ca, mount, namespace, b"", role_id, secret_id, auth, timeout)

    def _pkcs11(self, section: Section) -> Pkcs11Settings:
        module = self._parts.file(section, "module", required=True)
        label = section.text("token_label", required=True, pattern=r"[ -~]{1,32}", hint="up to 32 characters of ASCII")
        return Pkcs11Settings(module or Path(), label, self._parts.secret(section, "pin"))

    def _aws(self, section: Section) -> AwsSettings:
        region = section.text("region", required=True, pattern=r"[a-z]{2}(-[a-z]+)+-[0-9]", hint="such as eu-west-1")
        endpoint, ca = self._endpoint(section, "endpoint"), self._parts.file(section, "ca")
        timeout = section.duration("timeout", 3.0, most=30.0)
        if not section.has("access_key_id"):
            return AwsSettings(region, endpoint, ca, timeout=timeout)
        key, secret = self._header(section, "access_key_id"), self._header(section, "secret_access_key")
        session = self._header(section, "session_token", required=False)
        return AwsSettings(region, endpoint, ca, key, secret, session, timeout)

    def _header(self, section: Section, key: str, *, required: bool = True) -> bytes:
        """A secret that is sent as text."""
        place = section.place
        secret = self._parts.secret(section, key, required=required)
        if not all(0x21 <= byte <= 0x7E for byte in secret):
            section.problem(place, "secret", f'what "{key}" leads to is not one word of ASCII')
            return b""
        return secret

    def _endpoint(self, section: Section, key: str, *, required: bool = False) -> str:
        """https://HOST[:PORT], or http to a loopback address: a wrapped DEK, or what opens it, goes over it."""
        place = section.place
        url = self._parts.url(section, key, required=required)
        if url == ("", "", "", "", ""):
            return ""
        if not (url.scheme == "https" or (url.scheme == "http" and _loopback(url.hostname or ""))):
            section.problem(place, "wrong-value", f'"{key}" must begin with https:// (http only to 127.0.0.1 or [::1])')
        if not url.hostname or url.path not in ("", "/") or url.query or url.fragment or url.username is not None:
            section.problem(place, "wrong-value", f'"{key}" is https://HOST or https://HOST:PORT')
        return f"{url.scheme}://{url.netloc}"

    def _one_of(self, section: Section, one: str, other: str) -> str:
        """Which of the two is there."""
        if section.has(one) == section.has(other):
            message = f'{section.what} needs either "{one}" or "{other}"'
            section.problem(section.place, "missing-key", message)
        return one if section.has(one) else other


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
