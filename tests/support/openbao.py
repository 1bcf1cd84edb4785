"""A real OpenBao server of the test's own: TLS from a CA made at run time, keys that outlive a restart."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import hvac
import requests

from proxy.emulate.stage import free_ports
from tests.support.processes import freeze, until
from tests.support.servers import Authority

BAO = Path(sys.executable).parent / "bao"
# What docs/keys.md tells deployers to allow, and nothing more.
POLICY = """
path "transit/keys/wxgate.*"        { capabilities = ["create", "read", "update", "delete"] }
path "transit/encrypt/wxgate.*"     { capabilities = ["update"] }
path "transit/decrypt/wxgate.*"     { capabilities = ["update"] }
path "transit/rewrap/wxgate.*"      { capabilities = ["update"] }
"""
CONFIG = """
storage "raft" {{
  path = "{data}"
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_cert_file = "{certificate}"
  tls_key_file = "{key}"
}}
api_addr = "https://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster}"
"""


class OpenBao:
    """Started, unsealed, with a transit engine, the policy `wxgate` and AppRole. Stop it with `stop`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        authority = Authority(directory)
        self.ca = Path(authority.ca_file)
        self.port = free_ports(1)[0]
        self.url = f"https://127.0.0.1:{self.port}"
        certificate, key = authority.client_files("127.0.0.1")
        (directory / "data").mkdir()
        (directory / "server.hcl").write_text(
            CONFIG.format(
                data=directory / "data", port=self.port, cluster=free_ports(1)[0], certificate=certificate, key=key
            )
        )
        self.secret_id = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._launch()
        try:
            self._set_up()
        except BaseException:
            self.stop()
            raise

    def _set_up(self) -> None:
        init = self.client().sys.initialize(1, 1)
        self._unseal_key, self.root_token = init["keys"][0], init["root_token"]
        self.unseal()
        root = self.root()
        root.sys.enable_secrets_engine("transit")
        root.sys.enable_auth_method("approle")
        root.sys.create_or_update_policy("wxgate", POLICY)

    def client(self, token: str = "", namespace: str | None = None) -> hvac.Client:
        return hvac.Client(self.url, token=token, verify=str(self.ca), timeout=10, namespace=namespace)

    def root(self, namespace: str | None = None) -> hvac.Client:
        return self.client(self.root_token, namespace)

    def token(self, ttl: str = "1h", policies: tuple[str, ...] = ("wxgate",), **options: Any) -> bytes:
        answer = self.root().auth.token.create(policies=list(policies), ttl=ttl, **options)
        return str(answer["auth"]["client_token"]).encode()

    def approle(self, name: str = "wxgate", **options: Any) -> tuple[str, bytes]:
        """role_id and secret_id of a role with the policy. `options`: as AppRole has them."""
        approle = self.root().auth.approle
        approle.create_or_update_approle(name, token_policies=["wxgate"], **options)
        secret = approle.generate_secret_id(name)["data"]["secret_id"]
        return approle.read_role_id(name)["data"]["role_id"], secret.encode()

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def start(self) -> None:
        """Again, with what it had."""
        self._launch()
        self.unseal()

    def freeze(self) -> None:
        """It accepts connections from now on and says nothing."""
        assert self._process is not None
        freeze(self._process.pid)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _launch(self) -> None:
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [BAO, "server", f"-config={self.directory / 'server.hcl'}"],
                stdout=log,
                stderr=log,
                env={"HOME": str(self.directory), "PATH": ""},
            )
        until(self._answers, "OpenBao answers", 30)

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.directory / "server.log").read_text()
        try:
            return self.client().sys.read_seal_status() is not None
        except requests.RequestException:
            return False

    def unseal(self) -> None:
        self.client().sys.submit_unseal_key(self._unseal_key)
        until(self._leads, "OpenBao is unsealed and leads", 30)

    def _leads(self) -> bool:
        health = requests.get(f"{self.url}/v1/sys/health", verify=str(self.ca), timeout=10)
        return health.status_code == 200  # 429 while it stands by
