"""gateway.example.yaml loads, names every key there is, and shows the defaults that count."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Set
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.serve.settings import Settings, load_settings
from proxy.source.section import Section
from proxy.source.yaml_reader import Node

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "gateway.example.yaml").read_text()
# Keys whose comment is an example: what they do without it has no spelling.
EXAMPLES = {"names", "other.example.com", "client_certificates", "ca", "required", "previous_encoding_aes_key"}
EXAMPLES |= {"redis", "password", "former", "tenants", "bank", "approle", "shop", "club", "access_key_id"}
EXAMPLES |= {"client_certificate", "client_key", "egress_proxy", "certificate_name", "bearer", "next"}


def uncommented(without: Set[str] = frozenset()) -> str:
    """The example with its commented-out keys in force, but for `without`."""

    def bare(line: re.Match[str]) -> str:
        return line[0] if line[3] in without else line[1] + line[2]

    return re.sub(r"^( *)# ( *([a-z][a-z0-9_.]*):(?: .*)?)$", bare, TEXT, flags=re.M)


def load(directory: Path, text: str) -> Settings:
    """The settings of `text`, with every file it names beside it."""
    text = text.replace("/state", str(directory / "state"))
    for name in re.findall(r"certs/[a-z-]+\.(?:pem|key)", text):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).touch()
    for name in re.findall(r"file:secrets/([a-z0-9-]+)", text):
        file = directory / "secrets" / name
        file.parent.mkdir(exist_ok=True)
        known = {"unlock": base64.b16encode(bytes(range(32))), "wechat-token": b"Token123"}
        file.write_bytes(known.get(name, b"k" * 43) + b"\n")
        file.chmod(0o600)
    shutil.copytree(ROOT / "policies", directory / "policies", dirs_exist_ok=True)
    config = directory / "gateway.yaml"
    config.write_text(text)
    return load_settings(config)


def test_the_example_loads_without_a_warning(tmp_path: Path) -> None:
    settings = load(tmp_path, TEXT)
    assert [route.name for route in settings.routes] == ["wechat-push", "crm-sends", "agents"]
    assert [listener.name for listener in settings.listeners] == ["public", "internal"]
    assert settings.warnings == ()


def test_it_loads_with_every_key_in_force(tmp_path: Path) -> None:
    settings = load(tmp_path, uncommented())
    public, internal = settings.listeners
    assert list(public.tls.names) == ["other.example.com"]
    assert internal.tls.client_ca == tmp_path / "certs/client-ca.pem"
    assert len(settings.routes[0].account.keys if settings.routes[0].account else ()) == 2
    assert [each.name for each in settings.keys.all()] == ["local", "hsm", "bank.vault", "shop.vault", "club.aws"]
    assert settings.upstreams[0].egress_proxy == ("proxy.example.com", 3128)


def test_it_has_every_key_the_reader_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[tuple[str, str], bool] = {}
    take = Section.take

    def noting(self: Section, key: str, *, required: bool = False) -> Node | None:
        node = take(self, key, required=required)
        if Path(self.place.file).name == "gateway.yaml":
            shown[self.what, key] = shown.get((self.what, key), False) or node is not None
        return node

    monkeypatch.setattr(Section, "take", noting)
    load(tmp_path, uncommented())
    assert len(shown) > 60
    assert [key for key, found in shown.items() if not found] == []


def test_what_is_commented_out_is_the_default(tmp_path: Path) -> None:
    plain = load(tmp_path, TEXT)
    text = uncommented(without=EXAMPLES)
    assert text != TEXT
    assert re.search(r"^ +connections: 4096", text, re.M)
    assert comparable(load(tmp_path, text)) == comparable(plain)


def comparable(settings: Settings) -> Settings:
    """Without the digest of the text, and without envelope keys, which are equal to themselves only."""
    routes = [
        replace(route, account=replace(route.account, keys=()) if route.account else None) for route in settings.routes
    ]
    return replace(settings, digest="", routes=tuple(routes))
