"""The container and the systemd unit start wxgate with one and the same environment, and it starts with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def of_the_unit() -> dict[str, str]:
    unit = (ROOT / "deploy" / "wxgate.service").read_text()
    return dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.M))


def of_the_image() -> dict[str, str]:
    final = (ROOT / "Dockerfile").read_text().split("\nFROM ")[-1].replace("\\\n", " ")
    settings = re.findall(r"^ENV (.*)$", final, re.M)
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(settings)))


def test_both_set_the_same() -> None:
    image = of_the_image()
    del image["PATH"]
    assert of_the_unit() == image == {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONMALLOC": "mimalloc"}


def test_python_knows_the_allocator() -> None:
    wxgate = [sys.executable, "-c", "from proxy.cli import main; main(['--version'])"]
    done = subprocess.run(wxgate, env={**os.environ, **of_the_unit()}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
