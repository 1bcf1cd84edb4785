"""What all targets share in one benchmark: certificates, the account, the CRM and a directory that goes away."""

import os
import pwd
import shutil
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from bench.messages import Account

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run (None: anywhere): the target on one core, wrk and the CRM on another."""

    target: int | None
    load: int | None

    def of(self, core: int | None) -> list[int] | None:
        """Return `core` as a list for taskset, or None."""
        return None if core is None else [core]


@dataclass(frozen=True, slots=True)
class Scene:
    """Paths and ports a target needs. `certificate` holds the leaf and its chain for `localhost`, `ca` the root."""

    directory: Path
    ca: Path
    certificate: Path
    key: Path
    account: Account
    crm_port: int
    crm_status_port: int

    @property
    def crm_url(self) -> str:
        """The CRM's webhook."""
        return f"https://localhost:{self.crm_port}/crm/hook"

    def crm_requests(self) -> int:
        """Return how many requests the CRM has served, this question included."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.crm_status_port}/", timeout=5) as answer:
            return int(answer.read().split()[9])  # stub_status: the third of "accepts handled requests"


@contextmanager
def scene(key_type: str) -> Iterator[Scene]:
    """Set a scene in a temporary directory, removed at the end; certificates have a `key_type` key (ecdsa or rsa)."""
    directory = Path(tempfile.mkdtemp(prefix="wxgate-bench-"))
    try:
        authority = trustme.CA()
        leaf = authority.issue_cert("localhost", key_type=trustme.KeyType[key_type.upper()])
        place = Scene(
            directory=directory,
            ca=directory / "ca.pem",
            certificate=directory / "localhost.pem",
            key=directory / "localhost.key",
            account=Account.generate(),
            crm_port=free_port(),
            crm_status_port=free_port(),
        )
        authority.cert_pem.write_to_path(str(place.ca))
        for blob in leaf.cert_chain_pems:
            blob.write_to_path(str(place.certificate), append=True)
        leaf.private_key_pem.write_to_path(str(place.key))
        yield place
    finally:
        shutil.rmtree(directory)


def free_port() -> int:
    """Return a loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def crm_nginx(place: Scene) -> str:
    """Return the nginx configuration of the CRM: TLS, `success` to everything, and a counter on another port."""
    return nginx(
        place,
        "crm",
        f"""
  server {{
    listen 127.0.0.1:{place.crm_port} ssl;
    location / {{ default_type text/plain; return 200 "success"; }}
  }}
  server {{
    listen 127.0.0.1:{place.crm_status_port};
    location / {{ stub_status; }}
  }}""",
    )


def proxy_nginx(place: Scene, port: int) -> str:
    """Return the nginx configuration of a plain TLS reverse proxy with a warm, verified upstream."""
    return nginx(
        place,
        "proxy",
        f"""
  upstream crm {{ server 127.0.0.1:{place.crm_port}; keepalive 32; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    location / {{
      proxy_pass https://crm;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost;
      proxy_ssl_name localhost;
      proxy_ssl_server_name on;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {place.ca};
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
    }}
  }}""",
    )


def nginx(place: Scene, name: str, servers: str) -> str:
    """Return a one-worker nginx configuration around `servers`, all its files in the scene's directory."""
    # A master run by root would give its worker another user, who cannot enter the scene's directory.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    # nginx removes its pid file when it ends, so that must be a file of its own.
    temporary = " ".join(
        f"{kind}_temp_path {place.directory}/nginx-{name}-{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off; {user} worker_processes 1; pid {place.directory}/nginx-{name}.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; {temporary}
  keepalive_requests 1000000000; keepalive_timeout 300s;
  ssl_certificate {place.certificate}; ssl_certificate_key {place.key}; ssl_protocols TLSv1.2 TLSv1.3;
{servers}
}}
"""
