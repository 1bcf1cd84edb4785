"""moto's server: AWS KMS over HTTP on loopback, with keys that live as long as it does."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.emulate.stage import free_ports
from tests.support.processes import freeze, until

MOTO = Path(sys.executable).parent / "moto_server"


class Moto:
    """Started. Stop it with `stop`."""

    def __init__(self, directory: Path) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        with (directory / "moto.log").open("ab") as log:
            self._process = subprocess.Popen([MOTO, "-H", "127.0.0.1", "-p", str(self.port)], stdout=log, stderr=log)
        until(self._answers, "moto answers", 60)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections and says nothing."""
        freeze(self._process.pid)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
