"""What `wxgate serve` needs, on disk, without the systems around it; and the command itself as a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

from proxy.emulate.stage import Stage, free_ports


class Installation(Stage):
    """`with Installation() as it:` has certificates, keys, policies and gateway.yaml; nothing runs, nobody listens."""

    def __enter__(self) -> Self:
        try:
            self.prepare()
        except BaseException:
            self.close()
            raise
        return self

    def emulate(self, who: str) -> int:
        (port,) = free_ports(1)
        return port

    def edit(self, old: str, new: str, times: int = 1) -> None:
        """Replaces text in gateway.yaml, which must be there."""
        text = self.config.read_text()
        assert text.count(old) == times, (old, text)
        self.config.write_text(text.replace(old, new))

    def serve(self, *more: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Runs `wxgate serve` until it ends by itself."""
        return wxgate("serve", "--config", str(self.config), *more, cwd=self.directory, timeout=timeout)


def wxgate(*arguments: str, cwd: Path | None = None, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    """The command with what it wrote; it must end within `timeout` seconds."""
    command = [sys.executable, "-m", "proxy", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False, start_new_session=True
    )
