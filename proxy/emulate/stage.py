"""A whole installation on loopback: certificates, keys, configuration, emulated WeChat and CRM, and the real gateway,
each its own process, everything in a temporary directory that goes away with it."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import socket
import ssl
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from proxy.crypto.data_key import Purpose
from proxy.emulate.wechat import Delivery, Pusher
from proxy.kms.keystore import keyring_file_of
from proxy.kms.making import make_missing
from proxy.kms.private_file import make_private_directory
from proxy.kms.service import Slot
from proxy.kms.services import open_services
from proxy.serve.certificates import development_files
from proxy.serve.settings import load_settings

POLICIES = Path(__file__).resolve().parents[2] / "policies"
PUSH_PATH = "/wechat/shop"
API = "/services/data/v61.0/sobjects/"
SEND = "/cgi-bin/message/custom/send"
_START_SECONDS = 30.0
_FIRST_PORT, _PORTS = 12_000, 20_000

_CONFIG = """\
version: 1
state: state
tenant: acme
region: cn
keys: {{unlock: 'file:secrets/unlock'}}
listeners:
  - name: public
    address: 127.0.0.1:{public}
    tls: {{certificate: certs/gateway.pem, key: certs/gateway.key}}
    limits: {{{limits}}}
  - name: internal
    address: 127.0.0.1:{internal}
    tls: {{certificate: certs/gateway.pem, key: certs/gateway.key}}
accounts:
  - name: shop
    app_id: {app_id}
    mode: safe
    token: file:secrets/wechat-token
    encoding_aes_key: file:secrets/wechat-key
upstreams:
  - {{name: crm, url: 'https://localhost:{crm}', ca: certs/ca.pem, idle: 20s}}
  - {{name: wechat, url: 'https://localhost:{wechat}', ca: certs/ca.pem, idle: 20s}}
routes:
  - {{name: wechat-push, kind: inbound, listener: public, path: {push}, account: shop, upstream: crm,
      target: /webhook/wechat, policy: policies/wechat-crm.yaml}}
  - name: crm-sends
    kind: outbound
    listener: internal
    path: /cgi-bin/
    upstream: wechat
    policy: policies/wechat-crm.yaml
    admit: [{{subject: crm, role: crm, bearer: 'file:secrets/crm-bearer'}}]
  - name: agents
    kind: agent
    listener: internal
    path: /services/data/
    upstream: crm
    policy: policies/wechat-crm.yaml
    admit:
      - {{subject: li.na, role: agent, bearer: 'file:secrets/agent-bearer'}}
      - {{subject: audit, role: analyst, bearer: 'file:secrets/analyst-bearer'}}
admin: {{address: '127.0.0.1:{admin}', token: 'file:secrets/admin-token'}}
drain: {drain}
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a refusal."""
        return str(self.json["error"]["code"])


class Stage:
    """`with Stage() as stage:` has everything running."""

    certificate_days = 90

    def __init__(self, *, workers: int = 1, limits: str = "", drain: str = "5s") -> None:
        self.workers, self.limits, self.drain = workers, limits, drain
        self.directory = Path(tempfile.mkdtemp(prefix="wxgate-"))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.secrets = {
            "wechat-token": _letters(24),
            "wechat-key": _letters(43),
            "unlock": secrets.token_hex(32),
            **{f"{who}-bearer": secrets.token_urlsafe(32) for who in ("crm", "agent", "analyst")},
            "admin-token": secrets.token_urlsafe(32),
        }
        self.app_id = "wx" + secrets.token_hex(8)
        self.pusher = Pusher(self.secrets["wechat-token"], self.secrets["wechat-key"], self.app_id)
        self.public, self.internal, self.admin = free_ports(3)

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start_gateway()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    # --- setting up

    def prepare(self) -> None:
        """Files, keys and the two emulated systems."""
        for name in ("certs", "secrets"):
            (self.directory / name).mkdir(mode=0o700)
        for file in development_files([], datetime.now(UTC), self.certificate_days):
            _write(self.directory / "certs" / file.name, file.data)
        for name, value in self.secrets.items():
            _write(self.directory / "secrets" / name, value.encode())
        shutil.copytree(POLICIES, self.directory / "policies")
        self.crm_port, self.wechat_port = self.emulate("crm"), self.emulate("wechat")
        self.config = self.directory / "gateway.yaml"
        self.write_config()
        settings = load_settings(self.config)
        make_private_directory(settings.state)
        services = open_services(settings.keys, settings.state, secrets.token_bytes)
        keyring = keyring_file_of(services, settings.state, secrets.token_bytes)
        wanted = [Slot(owner, group, use) for owner in settings.owners for group in settings.groups for use in Purpose]
        make_missing(keyring, services, wanted, time.time(), secrets.token_bytes)

    def write_config(self) -> None:
        self.config.write_text(
            _CONFIG.format(
                public=self.public,
                internal=self.internal,
                admin=self.admin,
                app_id=self.app_id,
                crm=self.crm_port,
                wechat=self.wechat_port,
                push=PUSH_PATH,
                limits=self.limits,
                drain=self.drain,
            )
        )

    def emulate(self, who: str) -> int:
        certificate = self.directory / "certs" / f"{who}.pem"
        key = certificate.with_suffix(".key")
        command = [sys.executable, "-m", f"proxy.emulate.{who}", str(certificate), str(key)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.processes.append(process)
        if process.stdout is None or not (line := process.stdout.readline()):
            raise RuntimeError(f"the emulated {who} did not start")
        return int(line)

    def start_gateway(self) -> None:
        """Starts `wxgate serve` and waits until it says it is ready; its log goes to a file."""
        self.log = self.directory / "gateway.log"
        command = [sys.executable, "-m", "proxy", "serve", "--config", str(self.config), "--workers", str(self.workers)]
        with self.log.open("ab") as log:
            self.gateway = subprocess.Popen(command, stderr=log, cwd=self.directory)
        self.processes.append(self.gateway)
        deadline = time.monotonic() + _START_SECONDS
        while not self.is_ready():
            if self.gateway.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the gateway did not become ready:\n{self.log.read_text()}")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        try:
            return self.ask_admin("/readyz").status == 200
        except OSError:
            return False

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- callers

    def tls(self) -> ssl.SSLContext:
        """What a client needs to trust the gateway."""
        return ssl.create_default_context(cafile=str(self.directory / "certs" / "ca.pem"))

    def ask(
        self, port: int, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request over a connection of its own."""
        connection = http.client.HTTPSConnection("localhost", port, timeout=15, context=self.tls())
        try:
            connection.request(method, target, body or None, dict(headers or {}))
            return _reply(connection.getresponse())
        finally:
            connection.close()

    def ask_admin(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=10)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            return _reply(connection.getresponse())
        finally:
            connection.close()

    def push(self, delivery: Delivery) -> Reply:
        """WeChat delivers."""
        headers = {"User-Agent": "Mozilla/4.0", "Content-Type": "text/xml"}
        return self.ask(self.public, "POST", f"{PUSH_PATH}?{delivery.query}", delivery.body, headers)

    def call(self, who: str, method: str, target: str, value: object = None) -> Reply:
        """The CRM or an agent calls, with the bearer token of `who`."""
        body = b"" if value is None else json.dumps(value, ensure_ascii=False).encode()
        token = self.secrets[f"{who}-bearer"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return self.ask(self.internal, method, target, body, headers)

    def in_crm(self) -> Any:
        """What the CRM stored."""
        return self.ask(self.crm_port, "GET", "/_stored").json

    def crm_behaves(self, behaviour: str) -> None:
        self.ask(self.crm_port, "POST", "/_behave", behaviour.encode())

    def at_followers(self) -> Any:
        """What followers received through WeChat's API."""
        return self.ask(self.wechat_port, "GET", "/_sent").json


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, below those that the kernel gives to whoever connects somewhere: one of these
    could be taken before it is listened on."""
    ports: list[int] = []
    while len(ports) < count:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            ports += [port] if port not in ports else []
    return ports


def _reply(response: http.client.HTTPResponse) -> Reply:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, response.read())


def _letters(count: int) -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(count))


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
