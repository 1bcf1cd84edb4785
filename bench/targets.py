"""The servers that are compared: how each is configured and started."""

import base64
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.messages import PUSH_PATH
from bench.scene import REPOSITORY, Scene, free_port, proxy_nginx

WXGATE, WXGATE_2, MITMDUMP, HANDWRITTEN, NGINX = "wxgate", "wxgate-2", "mitmdump", "by-hand", "nginx"
_BIN = REPOSITORY / ".venv" / "bin"
_HANDWRITTEN_PYTHON = REPOSITORY / ".venv-bench" / "bin" / "python"


class TargetUnavailable(Exception):
    """A target that cannot run here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to start."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


class Target(Protocol):
    """A server under test: listens for TLS on a loopback port and sends what it gets to the CRM."""

    @property
    def name(self) -> str:
        """The row's name."""

    @property
    def workers(self) -> int:
        """How many processes serve; more than one get all cores."""

    def command(self, place: Scene, directory: Path, port: int) -> Command:
        """Write the configuration into `directory` and return what to start; raises TargetUnavailable."""


@dataclass(frozen=True, slots=True)
class Wxgate:
    """wxgate doing the whole job."""

    name: str
    workers: int

    def command(self, place: Scene, directory: Path, port: int) -> Command:
        config, env = write_wxgate_config(place, directory, port)
        argv = (_executable("wxgate"), "serve", "--config", str(config), "--workers", str(self.workers))
        return Command(argv, {**env, **_shipped_environment()})


def _shipped_environment() -> dict[str, str]:
    """What wxgate is started with where it is deployed: deploy/wxgate.service."""
    lines = (REPOSITORY / "deploy" / "wxgate.service").read_text().splitlines()
    settings = [line.removeprefix("Environment=") for line in lines if line.startswith("Environment=")]
    return {name: value for name, _, value in (setting.partition("=") for setting in settings)}


_CONFIG = """\
version: 1
state: state
tenant: bench
region: cn
keys: {{unlock: file:unlock}}
listeners:
  - name: public
    address: 127.0.0.1:{port}
    tls: {{certificate: {certificate}, key: {key}}}
accounts:
  - {{name: shop, app_id: {app_id}, mode: safe, token: file:token, encoding_aes_key: file:aes-key}}
upstreams:
  - {{name: crm, url: '{crm}', ca: {ca}, warm: 8}}
routes:
  - {{name: push, kind: inbound, listener: public, path: {path}, account: shop, upstream: crm,
      target: /crm/hook, policy: {policy}}}
admin: {{address: '127.0.0.1:{admin}'}}
"""


def write_wxgate_config(place: Scene, directory: Path, port: int) -> tuple[Path, Mapping[str, str]]:
    """Write gateway.yaml and its secrets into `directory` and make the keys; the shipped policy is used as it is.

    Returns the file and the environment it refers to (none).
    """
    account = place.account
    values = {"unlock": secrets.token_hex(32), "token": account.token, "aes-key": account.encoding_aes_key}
    for name, value in values.items():
        (directory / name).write_text(value)
        (directory / name).chmod(0o600)
    config = directory / "gateway.yaml"
    config.write_text(
        _CONFIG.format(
            port=port,
            certificate=place.certificate,
            key=place.key,
            app_id=account.app_id,
            crm=f"https://localhost:{place.crm_port}",
            ca=place.ca,
            path=PUSH_PATH,
            policy=REPOSITORY / "policies" / "wechat-crm.yaml",
            admin=free_port(),
        )
    )
    subprocess.run(
        [_executable("wxgate"), "keys", "init", "--config", str(config)], check=True, stdout=subprocess.DEVNULL
    )
    return config, {}


@dataclass(frozen=True, slots=True)
class Mitmdump:
    """Bare mitmdump in reverse mode with its default add-ons, doing nothing but printing nothing."""

    name: str = MITMDUMP
    workers: int = 1

    def command(self, place: Scene, directory: Path, port: int) -> Command:
        certificate = directory / "certificate.pem"  # mitmdump wants key and chain in one file
        certificate.write_bytes(place.key.read_bytes() + place.certificate.read_bytes())
        options = {
            "confdir": directory,
            "ssl_verify_upstream_trusted_ca": place.ca,
            "listen_host": "127.0.0.1",
            "listen_port": port,
            "certs": f"*={certificate}",
        }
        settings = [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
        upstream = f"reverse:https://localhost:{place.crm_port}"
        return Command((_executable("mitmdump"), "--quiet", "--mode", upstream, *settings))


@dataclass(frozen=True, slots=True)
class HandWritten:
    """The hand-written service of bench/handwritten.py."""

    name: str = HANDWRITTEN
    workers: int = 1

    def command(self, place: Scene, directory: Path, port: int) -> Command:
        if not _HANDWRITTEN_PYTHON.exists():
            raise TargetUnavailable("its environment .venv-bench is missing: run `make bench`")
        env = {
            "WECHAT_PATH": PUSH_PATH,
            "WECHAT_TOKEN": place.account.token,
            "WECHAT_ENCODING_AES_KEY": place.account.encoding_aes_key,
            "WECHAT_APP_ID": place.account.app_id,
            "CRM_URL": place.crm_url,
            "CRM_CA": str(place.ca),
            "FIELD_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        }
        serve = (str(_HANDWRITTEN_PYTHON), "-m", "uvicorn", "bench.handwritten:create_app", "--factory")
        listen = ("--host", "127.0.0.1", "--port", str(port), "--workers", str(self.workers))
        engine = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
        tls = ("--ssl-certfile", str(place.certificate), "--ssl-keyfile", str(place.key))
        return Command((*serve, *listen, *engine, *tls), env)


@dataclass(frozen=True, slots=True)
class Nginx:
    """nginx as a plain TLS reverse proxy."""

    name: str = NGINX
    workers: int = 1

    def command(self, place: Scene, directory: Path, port: int) -> Command:
        config = directory / "nginx.conf"
        config.write_text(proxy_nginx(place, port))
        return Command(nginx_argv(config))


ALL: tuple[Target, ...] = (
    Wxgate(WXGATE, 1),
    Wxgate(WXGATE_2, 2),
    Mitmdump(),
    HandWritten(),
    Nginx(),
)


def nginx_argv(config: Path) -> tuple[str, ...]:
    """Return the command that runs nginx in the foreground with `config`."""
    return ("nginx", "-e", "stderr", "-p", str(config.parent), "-c", str(config))


def _executable(name: str) -> str:
    path = _BIN / name
    if not path.exists():
        raise TargetUnavailable(f"{path} is missing: run `make setup`")
    return str(path)
