"""tools/open-token, which knows the specification and the library only, agrees with every vector of the project."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
_VECTORS: list[dict[str, Any]] = json.loads((_ROOT / "tests/vectors/wxgate/token.json").read_text())["vectors"]
# What `cryptography` is made of; nothing else is in sight of the script.
_PACKAGES = ("cryptography", "cffi", "pycparser")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the library, and nothing of wxgate."""
    place, packages = tmp_path_factory.mktemp("library"), Path(sysconfig.get_path("platlib"))
    for found in packages.iterdir():
        if found.name in _PACKAGES or found.name.startswith("_cffi_backend"):
            (place / found.name).symlink_to(found)
    return place


def python(elsewhere: Path, *arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-S", "-P", *arguments]
    environment = {"PYTHONPATH": str(elsewhere), "PATH": os.environ["PATH"]}
    return subprocess.run(
        command, input=input, capture_output=True, cwd=elsewhere, env=environment, timeout=60, check=False
    )


def test_wxgate_cannot_be_imported_there(elsewhere: Path) -> None:
    assert b"No module named 'proxy'" in python(elsewhere, "-c", "import proxy").stderr
    assert python(elsewhere, "-c", "import cryptography").returncode == 0


# One of each step, and all that open: a process for each of 71 vectors would only be slow.
_CHOSEN = [
    vector
    for number, vector in enumerate(_VECTORS)
    if vector["kind"] != "keyring"
    and "\n" not in vector["inputs"]["token"]
    and (
        vector["expected"]["result"] == "valid"
        or vector["expected"]["reason"] not in {it["expected"].get("reason") for it in _VECTORS[:number]}
        or vector["name"].startswith(("refuse-wrong-commitment", "two-deks"))
    )
]


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in _CHOSEN])
def test_it_agrees_with_the_vector(elsewhere: Path, vector: dict[str, Any]) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    scope = [f"--{name}={inputs[name]}" for name in ("tenant", "region", "as")]
    asked = "".join(f"{line}\n" for line in (inputs["dek_hex"], inputs["token"], *inputs["bind"])).encode()
    result = python(elsewhere, str(_ROOT / "tools" / "open-token"), *scope, input=asked)
    if expected["result"] == "valid":
        assert (result.returncode, result.stdout.decode()) == (0, expected["text"] + "\n"), result.stderr
    else:
        assert (result.returncode, result.stderr.decode()) == (1, f"refused: {expected['reason']}\n")


def test_every_step_is_among_them() -> None:
    assert {vector["expected"].get("reason", "") for vector in _CHOSEN} == {
        "",
        "prefix",
        "spelling",
        "length",
        "key id",
        "tag",
    }
