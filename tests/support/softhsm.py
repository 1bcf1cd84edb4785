"""A SoftHSM token of the test's own. Its configuration is the process's: one directory for all tokens of a process."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pkcs11

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
TOOL = "softhsm2-util"


@cache
def _tokens() -> Path:
    """The library reads SOFTHSM2_CONF when it is set up: every token of this process lies in one directory."""
    base = Path(tempfile.mkdtemp(prefix="softhsm-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    (base / "tokens").mkdir()
    (base / "softhsm2.conf").write_text(f"directories.tokendir = {base / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(base / "softhsm2.conf")
    return base / "tokens"


class SoftHsm:
    """One token with a PIN. A SoftHSM has no process: its files are the device."""

    def __init__(self) -> None:
        self.label = f"wxgate-{secrets.token_hex(4)}"
        self.pin = secrets.token_hex(8).encode()
        self._tokens = _tokens()
        self._so_pin = secrets.token_hex(8)
        self._tool(
            "--init-token", "--free", "--label", self.label, "--pin", self.pin.decode(), "--so-pin", self._so_pin
        )

    def initialise(self) -> None:
        """Another token of the same label."""
        self._tool(
            "--init-token", "--free", "--label", self.label, "--pin", self.pin.decode(), "--so-pin", self._so_pin
        )

    def change_pin(self, new: bytes) -> None:
        pkcs11.lib(str(MODULE)).reinitialize()
        with pkcs11.lib(str(MODULE)).get_token(token_label=self.label).open(True, self.pin.decode()) as session:
            session.set_pin(self.pin.decode(), new.decode())
        self.pin = new

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        aside = self._tokens.with_name("aside")
        self._tokens.rename(aside)
        try:
            yield
        finally:
            aside.rename(self._tokens)

    def _tool(self, *arguments: str) -> None:
        subprocess.run([TOOL, *arguments], check=True, capture_output=True, timeout=30)
