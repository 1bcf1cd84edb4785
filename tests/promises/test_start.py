"""wxgate does not listen before everything holds: one clear reason, exit 1, no trace, nothing left behind."""

import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.crypto.xaes import Xaes256Gcm
from proxy.observe.audit import AuditChain
from proxy.observe.log import StructuredLog
from proxy.serve.certificates import development_files
from proxy.serve.settings import load_settings
from proxy.serve.sockets import listen, open_descriptors
from proxy.serve.starting import StartError
from proxy.serve.supervisor import Supervisor
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def built() -> Iterator[Installation]:
    with Installation() as it:
        yield it


@pytest.fixture
def installation(built: Installation) -> Iterator[Installation]:
    """Files as they were made, whatever a test does to them."""
    kept = built.directory.with_name(built.directory.name + "-kept")
    shutil.copytree(built.directory, kept)
    yield built
    shutil.rmtree(built.directory)
    kept.rename(built.directory)


def refused(installation: Installation, *reasons: str) -> None:
    """It ends with exit code 1 and these reasons, and neither a process nor a socket of it is left."""
    memory = set(Path("/dev/shm").iterdir())
    run = installation.serve("--workers", "2")
    assert (run.returncode, run.stdout) == (1, "")
    first, *lines = run.stderr.splitlines()
    assert first == "wxgate does not start:"
    assert len(lines) == len(reasons)
    for line, reason in zip(lines, reasons, strict=True):
        assert reason in line
    assert not any(value in run.stderr for value in installation.secrets.values())
    assert set(Path("/dev/shm").iterdir()) == memory
    assert nobody_in(installation.directory)


def nobody_in(directory: Path) -> bool:
    """No process works in `directory`: it was started there."""
    places = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        try:
            places.append(os.readlink(process))
        except OSError:
            continue
    return str(directory) not in places


def taken(port: int) -> closing[socket.socket]:
    return closing(listen("127.0.0.1", port))


def in_use(place: str, port: int) -> str:
    return f"cannot listen on {place}:{port} (address already in use)"


def test_a_port_that_is_taken(installation: Installation) -> None:
    with taken(installation.internal):
        refused(installation, in_use("127.0.0.1", installation.internal))


def test_a_port_another_gateway_listens_on(installation: Installation) -> None:
    """SO_REUSEPORT would share it: callers would meet the old and the new gateway by chance."""
    with closing(listen("127.0.0.1", installation.public, shared=True)):
        refused(installation, in_use("127.0.0.1", installation.public))


def test_an_admin_port_that_is_taken(installation: Installation) -> None:
    with closing(listen("127.0.0.1", installation.admin, shared=True)):
        refused(installation, in_use("127.0.0.1", installation.admin))


def test_an_address_that_is_not_of_this_machine(installation: Installation) -> None:
    installation.edit(f"127.0.0.1:{installation.public}", f"192.0.2.1:{installation.public}")
    refused(installation, f"cannot listen on 192.0.2.1:{installation.public} (cannot assign requested address)")


def test_no_keyring(installation: Installation) -> None:
    shutil.rmtree(installation.directory / "state")
    refused(installation, "state")


def test_another_unlock_key(installation: Installation) -> None:
    (installation.directory / "secrets" / "unlock").write_text(secrets.token_hex(32))
    refused(installation, "unlock")


def test_a_keyring_that_was_tampered_with(installation: Installation) -> None:
    file = installation.directory / "state" / "keyring.json"
    content = bytearray(file.read_bytes())
    at = content.rindex(b'"wrapped"') + 20
    content[at] ^= 1
    file.write_bytes(content)
    refused(installation, "keyring.json")


def test_an_expired_certificate(installation: Installation) -> None:
    certs = installation.directory / "certs"
    for file in development_files([], datetime.now(UTC) - timedelta(days=30), 7):
        (certs / file.name).write_bytes(file.data)
    refused(installation, *["gateway.pem: certificate 1 ("] * 2)


def test_a_key_of_another_certificate(installation: Installation) -> None:
    certs = installation.directory / "certs"
    shutil.copy(certs / "crm.key", certs / "gateway.key")
    refused(installation, f"certificate {certs}/gateway.pem and key {certs}/gateway.key cannot be used together")


def test_a_secret_that_everybody_can_read(installation: Installation) -> None:
    (installation.directory / "secrets" / "wechat-key").chmod(0o644)
    refused(installation, "file:secrets/wechat-key can be read by others; chmod 600 it")


def test_an_upstream_ca_that_is_none(installation: Installation) -> None:
    (installation.directory / "certs" / "ca.pem").write_text("words")
    refused(installation, "upstream crm: ca_file")


def test_an_audit_log_open_to_others(installation: Installation) -> None:
    (installation.directory / "state" / "audit").mkdir()
    (installation.directory / "state" / "audit").chmod(0o755)
    refused(installation, "the directory is open to other users")


def test_an_audit_log_somebody_else_writes(installation: Installation) -> None:
    with closing(AuditChain.open(installation.directory / "state" / "audit", 1, max_bytes=1 << 20)):
        refused(installation, "worker-1.lock is in use by another writer")


def test_everything_wrong_with_the_configuration_at_once(installation: Installation) -> None:
    installation.edit("region: cn", "region: China")
    installation.edit("drain: 5s", "drain: soon")
    refused(installation, "gateway.yaml:4:9: wrong-value", "wrong-value")


def known_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Xaes256Gcm, "encrypt", lambda *_: bytes(28))


def test_a_cipher_that_is_not_what_it_says(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(installation.config)
    before = open_descriptors()
    known_answer_fails(monkeypatch)
    with pytest.raises(StartError, match="known-answer test of XAES-256-GCM failed"):
        Supervisor(settings, 2, StructuredLog(print))
    assert open_descriptors() == before  # it did not come as far as to bind
