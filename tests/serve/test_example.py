"""gateway.example.yaml loads, names every key there is, and shows the defaults that count."""

from __future__ import annotations

import ast
import base64
import re
import shutil
from collections.abc import Set
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.serve.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "gateway.example.yaml").read_text()
TAKERS = {"text", "choice", "number", "flag", "duration", "size", "section", "sections", "texts", "take"}
TAKERS |= {"_secret", "_file", "_address", "_named", "_envelope_keys"}
# Keys whose comment is an example: what they do without it has no spelling.
EXAMPLES = {"names", "other.example.com", "client_certificates", "ca", "required", "previous_encoding_aes_key"}
EXAMPLES |= {"client_certificate", "client_key", "egress_proxy", "certificate_name"}


def keys_of_the_reader() -> set[str]:
    """Every key that settings_reader.py asks a section for."""
    tree = ast.parse((ROOT / "proxy/serve/settings_reader.py").read_bytes())
    found = {"encoding_aes_key", "previous_encoding_aes_key"}  # asked for in a loop
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in TAKERS:
            found |= {arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant) and _is_key(arg.value)}
    return found - {"default"}


def _is_key(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_]*", value) is not None


def uncommented(without: Set[str] = frozenset()) -> str:
    """The example with its commented-out keys in force, but for `without`."""
    known = (keys_of_the_reader() | {"other.example.com"}) - without
    line = re.compile(rf"^( *)# ( *(?:{'|'.join(map(re.escape, sorted(known)))}):(?: .*)?)$", re.M)
    return line.sub(r"\1\2", TEXT)


def load(directory: Path, text: str) -> Settings:
    """The settings of `text`, with every file it names beside it."""
    text = text.replace("/state", str(directory / "state"))
    for name in re.findall(r"certs/[a-z-]+\.(?:pem|key)", text):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).touch()
    for name in re.findall(r"file:secrets/([a-z0-9-]+)", text):
        file = directory / "secrets" / name
        file.parent.mkdir(exist_ok=True)
        value = base64.b16encode(bytes(range(32))) if name == "unlock" else b"k" * 43
        file.write_bytes(value + b"\n")
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
    assert settings.upstreams[0].egress_proxy == ("proxy.example.com", 3128)


@pytest.mark.parametrize("key", sorted(keys_of_the_reader()))
def test_it_has_every_key(key: str) -> None:
    assert re.search(rf"(^|[ {{,]){key}: ?", uncommented(), re.M), key


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
