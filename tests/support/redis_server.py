"""A real redis-server with TLS and a password, that can be stopped and started again where it was."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from proxy.emulate.stage import free_ports
from proxy.kms.redis_link import RedisDownError, RedisLink
from proxy.kms.redis_settings import RedisSettings
from proxy.serve.certificates import development_files


class RedisServer:
    """Keeps nothing on the disk: what was in it is gone when it was stopped."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for file in development_files([], datetime.now(UTC), 2):
            (directory / file.name).write_bytes(file.data)
        (self.port,) = free_ports(1)
        password = secrets.token_hex(16)
        self.settings = RedisSettings(
            "localhost", self.port, ca=directory / "ca.pem", password=password.encode(), refresh=0.2
        )
        config = directory / "redis.conf"
        config.write_text(
            f"port 0\ntls-port {self.port}\nbind 127.0.0.1\ntls-auth-clients no\nsave ''\nappendonly no\n"
            f"tls-cert-file {directory}/gateway.pem\ntls-key-file {directory}/gateway.key\n"
            f"tls-ca-cert-file {directory}/ca.pem\nrequirepass {password}\ndir {directory}\n"
        )
        config.chmod(0o600)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def share(self, config: Path) -> None:
        """Has the gateway of `config` share its keyring through this server."""
        plain = "keys: {unlock: 'file:secrets/unlock'}"
        shutil.copy(self.directory / "ca.pem", config.parent / "certs" / "redis-ca.pem")
        password = config.parent / "secrets" / "redis"
        password.touch(0o600)
        password.write_bytes(self.settings.password)
        url = f"rediss://localhost:{self.port}/0"
        redis = f"{{url: '{url}', ca: certs/redis-ca.pem, password: 'file:secrets/redis', refresh: 200ms, machines: 2}}"
        text = config.read_text()
        assert text.count(plain) == 1
        config.write_text(text.replace(plain, f"{plain[:-1]}, refresh: 200ms, redis: {redis}}}"))

    def start(self) -> None:
        """Returns when it answers."""
        command = ["redis-server", str(self.directory / "redis.conf")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                return self._ask()
            except RedisDownError:
                assert self.process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)

    def _ask(self) -> None:
        link = RedisLink(replace(self.settings, name="none"))
        try:
            link.read()
        finally:
            link.close()

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
