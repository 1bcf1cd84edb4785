"""Certificates: what is read, what is found wrong, and what a live port shows (real sockets, real TLS)."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from proxy.serve import certificates as tls

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
FILES = {file.name: file.data for file in tls.development_files(["gw.example.com"], NOW, 30)}
CHAIN = tls.load_chain(FILES["gateway.pem"])
ROOT = tls.load_chain(FILES["ca.pem"])


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(Encoding.PEM) for c in certificates)


def self_made(*, san: tuple[x509.GeneralName, ...] = (), ca: bool = False, key=None, extra=()) -> x509.Certificate:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bad\x1b[31m\nname")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + dt.timedelta(days=1))
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    for extension in extra:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


@contextmanager
def tls_port(chain_pem: bytes, key_pem: bytes, directory: Path, change=lambda context: None) -> Iterator[int]:
    """A TLS server on loopback that shakes hands until the block ends."""
    (directory / "served").write_bytes(key_pem + chain_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "served")
    change(context)
    with answering(lambda plain: shake(context, plain)) as port:
        yield port


def shake(context: ssl.SSLContext, plain: socket.socket) -> None:
    try:
        with context.wrap_socket(plain, server_side=True) as session:
            session.recv(1)
    except OSError:
        pass  # the client under test may refuse us


@contextmanager
def answering(answer) -> Iterator[int]:
    """A port on loopback that hands each connection to `answer`, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stopping = threading.Event()

        def accept() -> None:
            while True:
                plain, _ = listener.accept()
                with plain:
                    if stopping.is_set():
                        return
                    plain.settimeout(5)
                    answer(plain)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stopping.set()
            socket.create_connection(listener.getsockname(), 5).close()
            thread.join()


# --- reading


def test_a_chain_is_read_in_file_order() -> None:
    assert [c.subject for c in CHAIN] == [CHAIN[0].subject, CHAIN[0].issuer]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no readable PEM"),
        (b"\x30\x82\x01\x00", "no readable PEM"),
        (FILES["gateway.key"], "no readable PEM"),
        (CHAIN[0].public_bytes(Encoding.DER), "no readable PEM"),
        (FILES["gateway.pem"][:-100], "cut off or damaged"),
        (FILES["ca.pem"].replace(b"-----BEGIN", b"----BEGIN") + FILES["ca.pem"], "cut off or damaged"),
        (FILES["ca.pem"] * (tls.MAX_CHAIN + 1), "expected 1 to 16"),
        (b" " * (tls.MAX_PEM_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_chain_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(tls.CertificateError, match=says):
        tls.load_chain(data)


def test_a_malformed_extension_is_found_on_reading() -> None:
    broken = x509.UnrecognizedExtension(x509.oid.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x03\x82\x05a")
    with pytest.raises(tls.CertificateError, match="certificate 1 is malformed"):
        tls.load_chain(pem(self_made(extra=[broken])))


# --- judging


def test_a_fit_chain_has_no_problem() -> None:
    assert tls.check_chain(CHAIN, FILES["gateway.key"], NOW) == []


def test_no_certificate_is_a_problem() -> None:
    assert tls.check_chain((), None, NOW) == ["chain is empty"]


def test_validity_includes_both_ends() -> None:
    second = dt.timedelta(seconds=1)
    start, end = CHAIN[0].not_valid_before_utc, CHAIN[0].not_valid_after_utc
    assert tls.check_chain(CHAIN, None, start) == tls.check_chain(CHAIN, None, end) == []
    assert "not yet valid" in tls.check_chain(CHAIN, None, start - second)[0]
    assert "certificate 1" in tls.check_chain(CHAIN, None, end + second)[0]
    assert "expired on" in tls.check_chain(CHAIN, None, end + second)[0]


def test_an_expired_intermediate_is_found() -> None:
    late = CHAIN[1].not_valid_after_utc + dt.timedelta(days=1)
    assert any("certificate 2" in p and "expired" in p for p in tls.check_chain(CHAIN, None, late))


def test_a_reversed_chain_is_out_of_order() -> None:
    text = " ".join(tls.check_chain(CHAIN[::-1], None, NOW))
    assert "leaf is a CA" in text
    assert "no CA certificate" in text


def test_a_stranger_in_the_chain_is_out_of_order() -> None:
    assert "out of order" in tls.check_chain((CHAIN[0], *ROOT), None, NOW)[0]


def test_an_issuer_of_the_same_name_with_another_key_is_out_of_order() -> None:
    subject = CHAIN[1].subject
    key = ec.generate_private_key(ec.SECP256R1())
    double = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW, NOW + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    assert "out of order" in tls.check_chain((CHAIN[0], double), None, NOW)[0]


def test_a_leaf_without_names_is_a_problem() -> None:
    assert "no subject alternative name" in tls.check_chain([self_made()], None, NOW)[0]


def test_another_key_is_a_mismatch() -> None:
    assert "does not belong" in tls.check_chain(CHAIN, FILES["crm.key"], NOW)[0]


def test_a_key_of_another_kind_is_a_mismatch() -> None:
    key = rsa.generate_private_key(65537, 2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert "does not belong" in tls.check_chain(CHAIN, text, NOW)[0]


def test_an_encrypted_or_broken_key_is_told_without_its_content() -> None:
    key = load_pem_private_key(FILES["gateway.key"], None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    assert "is encrypted" in tls.check_chain(CHAIN, sealed, NOW)[0]
    for broken in (b"", b"-----BEGIN PRIVATE KEY-----\nMARKER\n-----END PRIVATE KEY-----\n"):
        problem = tls.check_chain(CHAIN, broken, NOW)[0]
        assert "not readable" in problem
        assert "MARKER" not in problem


def test_days_left_is_the_first_to_expire() -> None:
    assert tls.days_left(CHAIN, NOW) == pytest.approx(30)
    assert tls.days_left(CHAIN[::-1], NOW + dt.timedelta(days=31)) == pytest.approx(-1)


def test_completeness() -> None:
    assert tls.gap(CHAIN, ROOT, NOW) is None
    assert tls.gap((*CHAIN, *ROOT), ROOT, NOW) is None
    assert tls.gap(CHAIN, None, NOW) is None
    assert "incomplete" in str(tls.gap(CHAIN[:1], None, NOW))
    assert "does not lead" in str(tls.gap(CHAIN[:1], ROOT, NOW))
    stranger = tls.load_chain(trustme.CA().cert_pem.bytes())
    assert "does not lead" in str(tls.gap(CHAIN, stranger, NOW))


def test_a_dead_or_false_anchor_anchors_nothing() -> None:
    assert "does not lead" in str(tls.gap(CHAIN, ROOT, ROOT[0].not_valid_after_utc + dt.timedelta(days=1)))
    key = ec.generate_private_key(ec.SECP256R1())
    no_ca = self_made(san=(x509.DNSName("a.test"),), key=key)
    child = (
        x509.CertificateBuilder(no_ca.subject, CHAIN[0].subject, key.public_key(), 2, NOW, NOW + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("b.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    assert "does not lead" in str(tls.gap((child,), (no_ca,), NOW))


# --- names


@pytest.mark.parametrize(
    ("name", "hit"),
    [
        ("gw.example.com", True),
        ("GW.Example.COM.", True),
        ("localhost", True),
        ("127.0.0.1", True),
        ("0:0::1", True),
        ("a.wild.test", True),
        ("a.b.wild.test", False),
        ("wild.test", False),
        ("127.0.0.2", False),
        ("10.0.0.9", False),
        ("gateway", False),
        ("bad", False),
    ],
)
def test_names(name: str, hit: bool) -> None:
    san = ["gw.example.com", "localhost", "*.wild.test", "10.0.0.9"]
    addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1")]
    assert tls.covers(self_made(san=(*map(x509.DNSName, san), *addresses)), name) is hit


@pytest.mark.parametrize("name", ["", "a b", "-a.test", "a..b", "10.0.0.0/8", "me@a.test", "300.1.1.1", "é.test",
                                  "a" * 64, "a.*.test", "fe80::1%lo", "a\n", ("a" * 60 + ".") * 5])  # fmt: skip
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(tls.CertificateError, match="neither a DNS name nor an IP address"):
        tls.canonical_name(name)


def test_texts_from_a_certificate_cannot_steer_a_terminal() -> None:
    assert tls.printable("a\x1b[31m\n\u202e") == "a\\x1b[31m\\n\\u202e"
    assert len(tls.printable("x" * 10_000)) < 400
    problem = tls.check_chain([self_made()], None, NOW + dt.timedelta(days=9))[0]
    assert problem.isprintable()
    assert tls.names_text(self_made(san=(x509.DNSName("a\x1b.test"),)))[0].isprintable()


def test_kinds_of_names_and_keys_are_named() -> None:
    san = (
        x509.UniformResourceIdentifier("spiffe://a"),
        x509.RFC822Name("a@b.test"),
        x509.RegisteredID(x509.NameOID.COMMON_NAME),
    )
    made = self_made(san=san, key=rsa.generate_private_key(65537, 2048))
    assert tls.names_text(made) == ("URI:spiffe://a", "email:a@b.test", "RegisteredID")
    assert tls.key_text(made) == "RSA 2048 bits"
    assert tls.key_text(CHAIN[0]) == "EC secp256r1 256 bits"


# --- live


def test_a_trusted_port_shows_its_chain(tmp_path: Path) -> None:
    with tls_port(FILES["gateway.pem"], FILES["gateway.key"], tmp_path) as port:
        shown = tls.fetch("127.0.0.1", port, "localhost", ROOT)
    assert shown.chain == CHAIN
    assert (shown.version, shown.distrust) == ("TLSv1.3", None)
    assert shown.cipher.startswith("TLS_")


def test_the_negotiated_version_is_told(tmp_path: Path) -> None:
    def old(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    with tls_port(FILES["gateway.pem"], FILES["gateway.key"], tmp_path, old) as port:
        assert tls.fetch("127.0.0.1", port, "localhost", ROOT).version == "TLSv1.2"


def test_the_asked_name_is_sent(tmp_path: Path) -> None:
    asked: list[str | None] = []

    def listen(context: ssl.SSLContext) -> None:
        context.sni_callback = lambda session, name, same: asked.append(name)

    with tls_port(FILES["gateway.pem"], FILES["gateway.key"], tmp_path, listen) as port:
        tls.fetch("127.0.0.1", port, "gw.example.com", ROOT)
        tls.fetch("127.0.0.1", port, "127.0.0.1", ROOT)
    assert asked == ["gw.example.com", None]


@pytest.mark.parametrize("anchors", [None, tls.load_chain(trustme.CA().cert_pem.bytes())])
def test_an_untrusted_chain_is_shown_and_told(tmp_path: Path, anchors: tls.Chain | None) -> None:
    with tls_port(FILES["gateway.pem"], FILES["gateway.key"], tmp_path) as port:
        shown = tls.fetch("127.0.0.1", port, "localhost", anchors)
    assert shown.chain == CHAIN
    assert "not trusted" in str(shown.distrust)
    assert ("--ca" in str(shown.distrust)) is (anchors is None)


def test_a_port_that_forgot_its_intermediate_is_not_trusted(tmp_path: Path) -> None:
    with tls_port(pem(CHAIN[0]), FILES["gateway.key"], tmp_path) as port:
        shown = tls.fetch("127.0.0.1", port, "localhost", ROOT)
    assert len(shown.chain) == 1
    assert "not trusted" in str(shown.distrust)


def test_a_closed_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(tls.CertificateError, match="cannot connect: connection refused"):
        tls.fetch("127.0.0.1", port, None, ROOT)


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x00" * 64])
def test_a_port_without_tls_is_told(reply: bytes) -> None:
    def answer(plain: socket.socket) -> None:
        plain.recv(4096)
        plain.sendall(reply)

    with answering(answer) as port, pytest.raises(tls.CertificateError, match="no TLS handshake"):
        tls.fetch("127.0.0.1", port, "localhost", ROOT)


def test_a_port_that_demands_a_client_certificate_is_told(tmp_path: Path) -> None:
    def demanding(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # TLS 1.3 shows its chain before it refuses
        context.verify_mode = ssl.CERT_REQUIRED

    refused = pytest.raises(tls.CertificateError, match="no TLS handshake: alert handshake failure; expected")
    with tls_port(FILES["gateway.pem"], FILES["gateway.key"], tmp_path, demanding) as port, refused:
        tls.fetch("127.0.0.1", port, "localhost", ROOT)


def test_a_silent_port_is_left_in_time() -> None:
    def say_nothing(plain: socket.socket) -> None:
        while plain.recv(1 << 16):
            pass

    with answering(say_nothing) as port, pytest.raises(tls.CertificateError, match="no answer in time"):
        tls.fetch("127.0.0.1", port, "localhost", ROOT, timeout=0.2)


# --- development certificates


def test_every_development_leaf_is_fit_and_leads_to_the_root() -> None:
    for leaf in ("gateway", "wechat", "crm", "crm-client", "agent-client"):
        chain = tls.load_chain(FILES[f"{leaf}.pem"])
        assert len(chain) == 2
        assert tls.check_chain(chain, FILES[f"{leaf}.key"], NOW) == []
        assert tls.gap(chain, ROOT, NOW) is None
        assert tls.days_left(chain, NOW) == pytest.approx(30)


def test_the_gateway_has_its_names_once_and_the_clients_none_of_them() -> None:
    made = {f.name: f.data for f in tls.development_files(["LOCALHOST", "10.1.2.3", "*.a.test"], NOW, 1)}
    names = tls.names_text(tls.load_chain(made["gateway.pem"])[0])
    assert names == ("DNS:localhost", "IP:127.0.0.1", "IP:::1", "IP:10.1.2.3", "DNS:*.a.test")
    assert tls.names_text(tls.load_chain(made["crm-client.pem"])[0]) == ("DNS:crm-client.test",)
    assert tls.names_text(tls.load_chain(made["agent-client.pem"])[0]) == ("DNS:agent-client.test",)


def test_no_ca_key_is_kept_and_no_key_is_shown() -> None:
    files = tls.development_files([], NOW, 1)
    assert {f.name for f in files if b"PRIVATE" in f.data} == {
        f"{leaf}.key" for leaf in ("gateway", "wechat", "crm", "crm-client", "agent-client")
    }
    assert "PRIVATE" not in repr(files)


@pytest.mark.parametrize("name", ["10.0.0.0/8", "ab--c.test"])
def test_a_name_no_certificate_can_carry_is_refused(name: str) -> None:
    with pytest.raises(tls.CertificateError, match="name"):
        tls.development_files([name], NOW, 1)
