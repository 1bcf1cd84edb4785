"""TLS towards callers, asked from outside: by the openssl command, by Python's ssl, and byte by byte."""

from __future__ import annotations

import datetime
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.edge.listener_settings import KeyPair, TlsSettings
from proxy.edge.tls import ContextSet, TlsConfigurationError
from tests.support.edge import GET, Answer, Edge, RecordCaller, cut_in_silence, key_pair, until
from tests.support.servers import Authority

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
EVERY_GROUP = "X25519:P-256:P-384:P-521:X448:ffdhe2048:ffdhe3072:ffdhe4096"
EVERY_TLS13 = (
    "TLS_AES_128_CCM_8_SHA256:TLS_AES_128_CCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:"
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
)


@pytest.fixture(scope="module")
def edge(authority: Authority) -> Iterator[Edge]:
    names = {"api.example": key_pair(authority, "api.example")}
    default = key_pair(authority, "localhost", "127.0.0.1", "*.shop.example")
    with Edge(authority, names=names, default=default) as one:
        yield one


@pytest.fixture(scope="module")
def with_rsa(authority: Authority) -> Iterator[Edge]:
    with Edge(authority, default=key_pair(authority, "localhost", rsa=True)) as one:
        yield one


def s_client(edge: Edge, *arguments: str, send: bytes = b"", name: str = "localhost") -> str:
    """What the openssl command says about a handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", "-servername", name, *arguments]
    done = subprocess.run(command, input=send, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
    return done.stdout.decode("utf-8", "replace")


def accepted(edge: Edge, option: str, everything: str, pattern: str, *arguments: str) -> list[str]:
    """What the server accepts of a list, in the order it prefers: whatever it takes is left out of the next offer."""
    left, found = everything.split(":"), []
    while left:
        match = re.search(pattern, s_client(edge, option, ":".join(left), *arguments))
        if match is None or match[1] not in left:
            break
        found.append(match[1])
        left.remove(match[1])
    return found


# --- versions and suites


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_get_a_protocol_version_alert(edge: Edge, version: str) -> None:
    said = s_client(edge, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "SSL alert number 70" in said
    assert "BEGIN CERTIFICATE" not in said


@pytest.mark.parametrize(("version", "name"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_the_versions_of_today_are_served(edge: Edge, version: str, name: str) -> None:
    request = GET.replace(b"Host", b"Connection: close\r\nHost")
    said = s_client(edge, version, "-ign_eof", "-CAfile", edge.authority.ca_file, send=request)
    assert f"New, {name}, Cipher is" in said
    assert "Verification: OK" in said
    assert "HTTP/1.1 200 OK" in said
    assert "Compression: NONE" in said
    assert "Max Early Data: 0" in said or version == "-tls1_2"
    assert edge.gateway.arrived[-1].peer.tls_version == name


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_exactly_these_suites_of_tls_1_2_in_this_order(edge: Edge, with_rsa: Edge, kind: str) -> None:
    """Offered every suite the openssl command knows, one after the other taken away."""
    asked = subprocess.run(["openssl", "ciphers", "ALL:@SECLEVEL=0"], capture_output=True, text=True, check=True)
    every = [name for name in asked.stdout.strip().split(":") if not name.startswith("TLS_")]
    assert len(every) > 100
    one = edge if kind == "ECDSA" else with_rsa
    found = accepted(one, "-cipher", ":".join([*every, "@SECLEVEL=0"]), r"Cipher is (\S+)", "-tls1_2")
    assert found == [f"ECDHE-{kind}-{rest}" for rest in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305")]
    assert "alert handshake failure" in s_client(one, "-tls1_2", "-cipher", "AES256-GCM-SHA384:AES128-SHA:AES256-SHA")


def test_exactly_these_suites_of_tls_1_3_in_this_order(edge: Edge) -> None:
    found = accepted(edge, "-ciphersuites", EVERY_TLS13, r"Cipher is (\S+)", "-tls1_3")
    assert found == ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_exactly_these_groups(with_rsa: Edge, version: str) -> None:
    spelled = {"prime256v1": "P-256", "secp384r1": "P-384"}
    found, left = [], EVERY_GROUP.split(":")
    temporary = r"Server Temp Key: (?:ECDH, )?([^,]+)"
    while match := re.search(temporary, s_client(with_rsa, version, "-groups", ":".join(left))):
        found.append(spelled.get(match[1], match[1]))
        left.remove(found[-1])
    assert set(found) == {"X25519", "P-256", "P-384"}


def test_renegotiation_is_refused(edge: Edge) -> None:
    said = s_client(edge, "-tls1_2", send=b"R\n")
    assert "Secure Renegotiation IS supported" in said
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


def test_no_udp_socket_answers_on_the_port(edge: Edge) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(5)
        udp.connect(("127.0.0.1", edge.port))
        udp.send(b"\x16\xfe\xfd" + bytes(60))
        with pytest.raises(ConnectionRefusedError):
            udp.recv(1)


def test_tls_1_3_only_refuses_1_2_with_an_alert(authority: Authority) -> None:
    with Edge(authority, tls13_only=True) as edge:
        assert "SSL alert number 70" in s_client(edge, "-tls1_2")
        assert "New, TLSv1.3" in s_client(edge, "-tls1_3")


# --- names


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["unknown.example", "shop.example", "a.b.shop.example", "localhost.example", "api"])
def test_an_unknown_name_gets_alert_112_and_no_certificate(edge: Edge, version: ssl.TLSVersion, name: str) -> None:
    handshakes = sum(count for key, count in edge.ledger.counts.items() if key[0] == "handshakes")
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"), edge.caller(only(edge, version), name=name):
        pass
    assert sum(count for key, count in edge.ledger.counts.items() if key[0] == "handshakes") == handshakes
    assert edge.ledger.faults == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost", "localhost"),
        ("LocalHost", "localhost"),
        ("a.shop.example", "localhost"),
        ("api.example", "api.example"),
        ("API.Example", "api.example"),
        (None, "localhost"),
    ],
)
def test_every_name_has_its_certificate(edge: Edge, version: ssl.TLSVersion, name: str | None, expected: str) -> None:
    with edge.caller(only(edge, version), name=name) as caller:
        shown = caller.tls.getpeercert() or {}
        assert caller.ask(GET).status == 200
    assert ("DNS", expected) in shown["subjectAltName"]
    assert edge.gateway.arrived[-1].peer.sni.lower() == (name or "").lower()


def test_the_whole_chain_is_shown(tmp_path: Path) -> None:
    """A caller that knows the root only can verify the leaf."""
    authority = Authority(tmp_path)
    authority.ca = authority.ca.create_child_ca()
    with Edge(authority) as edge:
        assert edge.ask(GET).status == 200


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (["h2"], None), ([], None)]
)
def test_http_1_1_is_all_that_is_agreed_on(edge: Edge, offered: list[str], chosen: str | None) -> None:
    context = edge.trust()
    if offered:
        context.set_alpn_protocols(offered)
    with edge.caller(context) as caller:
        assert caller.tls.selected_alpn_protocol() == chosen
        assert caller.ask(GET).status == 200


# --- resumption and client certificates


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_are_resumed(edge: Edge, version: ssl.TLSVersion) -> None:
    context = only(edge, version)
    with edge.caller(context) as caller:
        assert caller.ask(GET).status == 200
        session = caller.tls.session
    with edge.caller(context, session=session) as caller:
        assert caller.ask(GET).status == 200
        assert caller.tls.session_reused


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module")
def mutual(authority: Authority, clients: Authority) -> Iterator[Edge]:
    allowed = frozenset({"crm.internal", "spiffe://acme/crm"})
    ca = Path(clients.ca_file)
    with Edge(authority, client_ca=ca, client_required=True, client_names=allowed) as one:
        yield one


def shows(edge: Edge, version: ssl.TLSVersion, authority: Authority | None, *names: str) -> ssl.SSLContext:
    """A client of one version with a certificate for `names`."""
    context = only(edge, version)
    if authority:
        authority.ca.issue_cert(*names).configure_cert(context)
    return context


@pytest.mark.parametrize("version", VERSIONS)
def test_a_good_client_certificate_is_let_in_and_named(
    mutual: Edge, clients: Authority, version: ssl.TLSVersion
) -> None:
    context = shows(mutual, version, clients, "crm.internal", "other.internal")
    with mutual.caller(context) as caller:
        assert caller.ask(GET).status == 200
        session = caller.tls.session
    with mutual.caller(context, session=session) as caller:
        assert caller.ask(GET).status == 200
        assert caller.tls.session_reused
    names = [arrived.peer.certificate_names for arrived in mutual.gateway.arrived[-2:]]
    assert names == [("crm.internal", "other.internal")] * 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", ["nobody", "stranger", "expired"])
def test_no_or_an_unverified_client_certificate_gets_an_alert(
    mutual: Edge, clients: Authority, tmp_path: Path, version: ssl.TLSVersion, who: str
) -> None:
    if who == "expired":
        context = only(mutual, version)
        clients.ca.issue_cert("crm.internal", not_after=_past(1), not_before=_past(9)).configure_cert(context)
    else:
        context = shows(mutual, version, None if who == "nobody" else Authority(tmp_path), "crm.internal")
    alert = {"nobody": r"(?i)certificate.required|handshake.failure", "stranger": r"(?i)unknown.ca"}
    _turned_away(mutual, context, alert.get(who, r"(?i)certificate.expired"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_verified_certificate_of_another_name_is_cut(
    mutual: Edge, clients: Authority, version: ssl.TLSVersion
) -> None:
    cut = mutual.cuts.get("client_name", 0)
    _turned_away(mutual, shows(mutual, version, clients, "crm.internal.evil", "xcrm.internal"), None)
    assert (mutual.cuts.get("client_name", 0), mutual.ledger.faults) == (cut + 1, [])
    assert mutual.ledger.faults == []


def test_a_request_that_comes_with_the_end_of_the_handshake_is_not_let_in_either(
    mutual: Edge, clients: Authority
) -> None:
    """The last flight of the handshake and a request in one segment: the certificate's name is judged first."""
    count, faults = len(mutual.gateway.arrived), len(mutual.ledger.faults)
    context = shows(mutual, ssl.TLSVersion.TLSv1_3, clients, "crm.internal.evil")
    with mutual.dial() as sock:
        sock.sendall(RecordCaller(sock, context).written(GET))
        assert cut_in_silence(sock)
    until(lambda: mutual.listener.connections == 0)
    assert (len(mutual.gateway.arrived), len(mutual.ledger.faults)) == (count, faults)


def _turned_away(edge: Edge, context: ssl.SSLContext, alert: str | None) -> None:
    count = len(edge.gateway.arrived)
    with pytest.raises((ssl.SSLError, ConnectionError), match=alert), edge.caller(context) as caller:
        caller.send(GET + GET)
        raise AssertionError(caller.answer())
    until(lambda: edge.listener.connections == 0)
    assert len(edge.gateway.arrived) == count


def test_a_session_of_one_listener_is_no_pass_at_another(
    edge: Edge, mutual: Edge, clients: Authority, authority: Authority
) -> None:
    """A ticket from a listener that asks for no certificate does not open the one that does."""
    context = only(edge, ssl.TLSVersion.TLSv1_2)
    with edge.caller(context) as caller:
        assert caller.ask(GET).status == 200
        session = caller.tls.session
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"), mutual.caller(context, session=session):
        pass


@pytest.mark.parametrize("version", VERSIONS)
def test_where_it_is_optional_a_certificate_is_still_verified(
    authority: Authority, clients: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    with Edge(authority, client_ca=Path(clients.ca_file)) as edge:
        for context, names in ((only(edge, version), ()), (shows(edge, version, clients, "a.b"), ("a.b",))):
            with edge.caller(context) as caller:
                assert caller.ask(GET).status == 200
            assert edge.gateway.arrived[-1].peer.certificate_names == names
        _turned_away(edge, shows(edge, version, Authority(tmp_path), "a.b"), r"(?i)unknown.ca")


def test_names_of_a_certificate_nobody_asked_for_count_for_nothing(edge: Edge, clients: Authority) -> None:
    with edge.caller(shows(edge, ssl.TLSVersion.TLSv1_3, clients, "crm.internal")) as caller:
        assert caller.ask(GET).status == 200
    assert edge.gateway.arrived[-1].peer.certificate_names == ()


# --- ends


@pytest.mark.parametrize("version", VERSIONS)
def test_an_orderly_end_says_so(edge: Edge, version: ssl.TLSVersion) -> None:
    """close_notify, so that a caller can tell an end from a cut."""
    with edge.caller(only(edge, version)) as caller:
        answer: Answer = caller.ask(GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert (answer.status, caller.end()) == (200, "close_notify")


# --- certificates are exchanged while it runs


def test_new_connections_get_a_new_certificate_and_old_ones_go_on(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Edge(authority) as edge:
        context = edge.trust()
        with edge.caller(context) as old:
            before = old.tls.getpeercert()
            assert old.ask(GET).status == 200
            key_pair(authority, "localhost", "127.0.0.1")  # the same files
            edge.listener.contexts = ContextSet(edge.listener.settings.tls)
            with edge.caller(context, session=old.tls.session) as new:
                assert new.ask(GET).status == 200
                assert new.tls.getpeercert() != before
            assert old.ask(GET).status == 200


def broken(tmp_path: Path, what: str) -> TlsSettings:
    good = key_pair(Authority(tmp_path), "localhost")
    other = key_pair(Authority(tmp_path, "other"), "localhost", file="other")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    pairs = {
        "key of another": KeyPair(good.certificate, other.key),
        "no certificate": KeyPair(empty, good.key),
        "no key": KeyPair(good.certificate, empty),
        "missing": KeyPair(tmp_path / "nowhere", good.key),
    }
    settings = TlsSettings(good, {})
    if what == "client ca":
        return replace(settings, client_ca=empty)
    if what == "for a name":
        return replace(settings, names={"api.example": pairs["key of another"]})
    return replace(settings, default=pairs[what])


@pytest.mark.parametrize("what", ["key of another", "no certificate", "no key", "missing", "client ca", "for a name"])
def test_files_that_do_not_work_are_named_and_nothing_of_them_is_told(tmp_path: Path, what: str) -> None:
    with pytest.raises(TlsConfigurationError) as caught:
        ContextSet(broken(tmp_path, what))
    assert str(tmp_path) in str(caught.value)
    assert "BEGIN" not in str(caught.value)


def only(edge: Edge, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client of one version."""
    context = edge.trust()
    context.minimum_version = context.maximum_version = version
    return context


def _past(days: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
