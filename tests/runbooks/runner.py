"""Runs the commands of a runbook: its blocks marked `sh`, in order, in one shell, on an installation of the test's own.

systemctl is the test's: `wxgate` and the key service are processes that it started.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "runbooks"

_SYSTEMCTL = f"""#!{sys.executable}
import os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(os.environ["SYSTEMCTL"])
line.sendall(" ".join(sys.argv[1:]).encode() + b"\\n")
sys.exit(0 if line.recv(16) == b"done" else 1)
"""


def blocks(page: str) -> list[str]:
    """The commands of a page."""
    return re.findall(r"^```sh\n(.*?)^```$", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)


class Systemctl:
    """Answers the commands that the runbook gives, by `orders`: "restart openbao" and the like."""

    def __init__(self, orders: Mapping[str, Callable[[], object]]) -> None:
        self.orders, self.heard = orders, list[str]()
        self.place = tempfile.TemporaryDirectory(prefix="wxgate-")
        self.path = Path(self.place.name) / "socket"
        script = Path(self.place.name) / "systemctl"
        script.write_text(_SYSTEMCTL)
        script.chmod(0o700)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(self.path))
        self.server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self.server.accept()
            except OSError:
                return
            with line:
                order = line.recv(256).decode().strip()
                self.heard.append(order)
                try:
                    self.orders[order]()
                except Exception as error:  # the command then fails, and with it the page
                    sys.stderr.write(f"systemctl {order}: {error!r}\n")
                    line.sendall(b"failed")
                else:
                    line.sendall(b"done")

    def close(self) -> None:
        self.server.close()
        self.place.cleanup()


def run(
    page: str,
    directory: Path,
    orders: Mapping[str, Callable[[], object]],
    *,
    admin: int = 0,
    between: Mapping[int, Callable[[], object]] | None = None,
    without: Collection[int] = (),
) -> str:
    """Executes the page in `directory`; what it wrote. `between`: what somebody does by hand before a block, counted
    from 0. `without`: blocks of another case of the page. Fails if a command does."""
    systemctl = Systemctl(orders)
    environment = {
        "PATH": f"{systemctl.place.name}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SYSTEMCTL": str(systemctl.path),
        "ADMIN": f"http://127.0.0.1:{admin}",
        "HOME": str(directory),
    }
    said = ""
    try:
        for number, block in enumerate(blocks(page)):
            if number in without:
                continue
            if between and number in between:
                between[number]()
            result = subprocess.run(
                ["bash", "-euo", "pipefail", "-x", "-c", block],
                cwd=directory,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=100,
                check=False,
            )
            said += result.stdout
            assert result.returncode == 0, f"block {number} of {page}:\n{block}\n{said}"
    finally:
        systemctl.close()
    return said
