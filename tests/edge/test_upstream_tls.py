"""The client context: what is fixed in it, and files that cannot be used. Handshakes: test_upstream_dial.py."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from proxy.edge.upstream_tls import client_context
from tests.edge.upstream_support import settings
from tests.support.servers import Authority


def test_the_context_verifies_and_takes_no_weak_suite(authority: Authority) -> None:
    context = client_context(settings(443, authority))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname and not context.hostname_checks_common_name
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION and context.options & ssl.OP_NO_RENEGOTIATION
    for suite in context.get_ciphers():
        assert suite["aead"] and suite["kea"] in ("kx-ecdhe", "kx-any"), suite["name"]
    assert len(context.get_ca_certs()) == 1


def test_the_environment_cannot_have_session_keys_written(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert client_context(settings(443, authority)).keylog_filename is None


def test_unusable_ca_files_are_named(authority: Authority, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nonsense")
    for file in (bad, tmp_path / "missing.pem"):
        with pytest.raises(ValueError, match=r"upstream crm: ca_file .*check the file"):
            client_context(settings(443, authority, ca_file=str(file)))


def _locked(key: str, to: Path) -> str:
    """A copy of the key file, encrypted with a password."""
    private = load_pem_private_key(Path(key).read_bytes(), None)
    to.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")))
    return str(to)


def test_unusable_client_files_are_named(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.client_files("a.example")
    _, other = authority.client_files("b.example")
    for file in (other, _locked(key, tmp_path / "locked.key"), str(tmp_path / "missing.key")):
        with pytest.raises(ValueError, match=r"upstream crm: client_certificate .*check both files"):
            client_context(settings(443, authority, client_certificate=certificate, client_key=file))


def test_nobody_is_asked_for_the_password_of_a_key(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.client_files("a.example")
    locked = _locked(key, tmp_path / "locked.key")
    program = (
        "from proxy.edge.upstream_settings import UpstreamSettings as S; from proxy.edge.upstream_tls import *;"
        f"client_context(S(name='crm', host='a.example', client_certificate={certificate!r}, client_key={locked!r}))"
    )
    # Without a terminal OpenSSL asks on standard error and reads standard input.
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="password\n",
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=30,
    )
    assert "are not a readable, unencrypted, matching pair" in done.stderr
    assert "pass phrase" not in done.stderr
