"""What was found wrong with the engine in its usual dress, or with gateways built on it, asked of a whole installation:
each finding has a test here or in the file of the part that answers it."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import connection as engine
from mitmproxy.proxy import commands

from proxy.edge.connection import EdgeConnection
from proxy.edge.http_layer import HttpLayer
from proxy.emulate.stage import API, PUSH_PATH, Stage, free_ports
from proxy.refusal import TABLE, Audience, Refusal, answer
from proxy.serve.settings import load_settings
from proxy.source.problem import Problems
from tests.support.edge import GET, Edge, cut_in_silence, first_flight, key_pair, rest, until
from tests.support.servers import Authority

TELL_TALES = ("mitmproxy", "python", "openssl", "uvloop", "httptools", "llhttp", "traceback", "127.0.0.1", "localhost")
SECRET = "a-word-nobody-may-read"
ANSWERS = API + "WeChat_Answer__c"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as one:
        yield one


@pytest.fixture
def prepared() -> Iterator[Stage]:
    """An installation that was not started."""
    one = Stage()
    try:
        one.prepare()
        yield one
    finally:
        one.close()


# --- the engine


def test_the_engine_can_go_nowhere(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever command a layer comes up with: the connection is cut, and nothing is dialled."""

    def dial(layer: HttpLayer) -> Iterator[commands.Command]:
        server = engine.Server(address=("127.0.0.1", elsewhere.getsockname()[1]))
        yield commands.OpenConnection(server)

    monkeypatch.setattr(HttpLayer, "_advance", dial)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, Edge(authority) as edge, edge.caller() as caller:
        caller.send(GET)
        assert caller.end() in ("eof", "reset")
        assert [type(fault) for fault in edge.ledger.faults] == [TypeError]
        elsewhere.settimeout(0.05)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


def test_the_engine_logs_nothing(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """Its own words about a broken handshake would hold the peer's bytes."""
    caplog.set_level(logging.DEBUG)
    with Edge(authority) as edge:
        hello = first_flight()
        for data in (GET, hello[:60] + bytes(len(hello) - 60), hello + b"\x15\x03\x01\x00\x02\x02\x28", hello + GET):
            with edge.dial(data) as sock:
                sock.shutdown(socket.SHUT_WR)
                rest(sock)
        with pytest.raises(ssl.SSLError), edge.caller(name="unknown.example"):
            pass
        assert edge.ask(GET).status == 200
        assert (edge.ledger.faults, edge.ledger.lines) == ([], [])
    assert caplog.records == []


def test_a_worker_loads_no_part_of_the_engine_that_runs_add_ons() -> None:
    code = "import proxy.serve.worker, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    for part in ("master", "addons", "addonmanager", "script", "tools", "eventsequence", "proxy.server"):
        assert not [name for name in loaded if name.startswith(f"mitmproxy.{part}")]


def test_connections_leave_nothing_behind(authority: Authority) -> None:
    with Edge(authority) as edge:
        for number in range(200):
            with edge.caller(name="localhost") as caller:
                if number % 2:
                    assert caller.ask(GET).status == 200
        until(lambda: edge.listener.connections == 0)
        gc.collect()
        left = [item for item in gc.get_objects() if isinstance(item, EdgeConnection)]
        assert not [item for item in left if item._listener is edge.listener]


# --- what a refusal says


@pytest.mark.parametrize("audience", Audience)
def test_no_refusal_in_the_table_tells_what_runs_here(audience: Audience) -> None:
    for code in TABLE:
        text = answer(Refusal(code, upstream_status=500), audience).body.decode().lower()
        assert not [word for word in TELL_TALES if word in text]


ERRORS = {
    "malformed": b"nonsense\r\n\r\n",
    "absolute": b"GET http://127.0.0.1/secret-path HTTP/1.1\r\nHost: x\r\n\r\n",
    "no route": b"GET /secret-path HTTP/1.1\r\nHost: secret-host\r\n\r\n",
    "connect": b"CONNECT secret-host:443 HTTP/1.1\r\nHost: secret-host\r\n\r\n",
    "websocket": b"GET %b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    % PUSH_PATH.encode(),
    "unsigned": b"POST %b?secret-path HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % PUSH_PATH.encode(),
    "too large": b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" % PUSH_PATH.encode(),
    "head": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"secret-path" * 4000 + b"\r\n\r\n",
    "expect": b"GET %b HTTP/1.1\r\nHost: x\r\nExpect: secret-path\r\n\r\n" % PUSH_PATH.encode(),
}


@pytest.mark.parametrize("name", ERRORS)
def test_no_refusal_on_the_wire_tells_what_runs_here(stage: Stage, name: str) -> None:
    text = _raw(stage, ERRORS[name]).decode().lower()
    assert text.startswith("http/1.1 4") or text.startswith("http/1.1 501")
    _tells_nothing(stage, text)


def test_an_upstream_that_is_gone_is_not_named(prepared: Stage) -> None:
    (prepared.crm_port,) = free_ports(1)
    prepared.write_config()
    prepared.start_gateway()
    got = prepared.call("agent", "POST", ANSWERS, {"Text__c": SECRET, "OpenId__c": "o1"})
    assert (got.status, got.code) == (502, "upstream_unreachable")
    _tells_nothing(prepared, f"{got.headers} {got.body.decode()}".lower())
    assert SECRET not in prepared.log.read_text()


def _raw(stage: Stage, request: bytes) -> bytes:
    with _connect(stage, stage.tls()) as tls:
        return _ask(tls, request)


def _ask(tls: ssl.SSLSocket, request: bytes) -> bytes:
    """A refusal: JSON with a line feed at its end, or no body."""
    tls.sendall(request)
    data = b""
    while not data.endswith(b"}\n") and b"content-length: 0\r\n" not in data:
        more = tls.recv(65536)
        assert more
        data += more
    return data


def _tells_nothing(stage: Stage, text: str) -> None:
    words = (*TELL_TALES, "secret-", "server:", "via:", str(stage.crm_port), str(stage.public), str(stage.directory))
    assert not [word for word in words if word in text]


# --- bodies that are not what they say


def _json(**fields: str) -> bytes:
    return json.dumps({"Text__c": SECRET, "OpenId__c": "o1", **fields}, ensure_ascii=False).encode()


BODIES: dict[str, tuple[dict[str, str], bytes]] = {
    "unknown coding": ({"Content-Encoding": "foo"}, _json()),
    "gzip": ({"Content-Encoding": "gzip"}, gzip.compress(_json())),
    "false gzip": ({"Content-Encoding": "gzip"}, _json()),
    "deflate": ({"Content-Encoding": "deflate"}, _json()),
    "brotli": ({"Content-Encoding": "br"}, _json()),
    "two codings": ({"Content-Encoding": "identity, gzip"}, gzip.compress(_json())),
    "empty coding": ({"Content-Encoding": ""}, _json()),
    "zip bomb": ({"Content-Encoding": "gzip"}, gzip.compress(bytes(50 * 1024 * 1024))),
    "bad utf-8": ({}, _json().replace(b"o1", b"o\xff")),
    "overlong utf-8": ({}, _json().replace(b"o1", b"o\xc0\xaf")),
    "surrogates": ({}, _json().replace(b"o1", b"o\xed\xa0\x80")),
    "utf-16": ({}, _json().decode().encode("utf-16")),
    "utf-16, said": ({"Content-Type": "application/json; charset=utf-16"}, _json().decode().encode("utf-16")),
    "utf-32": ({}, _json().decode().encode("utf-32")),
    "gbk": ({"Content-Type": "application/json; charset=gbk"}, _json(OpenId__c="密").decode().encode("gbk")),
    "byte order mark": ({}, b"\xef\xbb\xbf" + _json()),
    "form": ({"Content-Type": "application/x-www-form-urlencoded"}, b"Text__c=" + SECRET.encode()),
    "multipart": ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\n\r\n" + SECRET.encode()),
    "text": ({"Content-Type": "text/plain"}, SECRET.encode()),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_not_what_it_says_goes_nowhere(stage: Stage, name: str) -> None:
    headers, body = BODIES[name]
    before = stage.in_crm()
    got = _agent_posts(stage, headers, body)
    assert got.status in (400, 415), got.code
    assert SECRET.encode() not in got.body
    assert stage.in_crm() == before


def test_an_unknown_charset_is_no_way_round(stage: Stage) -> None:
    """Whatever charset is named, the bytes are read as strict UTF-8 and protected, or refused."""
    for charset in ("nope", "latin-1", "utf-8"):
        _agent_posts(stage, {"Content-Type": f"application/json; charset={charset}"}, _json())
    assert SECRET not in json.dumps(stage.in_crm())
    assert stage.in_crm()["records"]


def _agent_posts(stage: Stage, headers: dict[str, str], body: bytes) -> Any:
    token = stage.secrets["agent-bearer"]
    every = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    return stage.ask(stage.internal, "POST", ANSWERS, body, every)


# --- listening


def _serve(stage: Stage) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(stage.config)]
    return subprocess.run(command, cwd=stage.directory, capture_output=True, text=True, timeout=60)


def test_an_address_that_is_taken_ends_the_start_with_one_sentence(prepared: Stage) -> None:
    with socket.create_server(("127.0.0.1", prepared.public)):
        done = _serve(prepared)
    taken = f"cannot listen on 127.0.0.1:{prepared.public} (address already in use)"
    assert (done.returncode, done.stderr.splitlines()) == (1, ["wxgate does not start:", taken])


def test_a_second_gateway_of_the_same_configuration_does_not_start(stage: Stage) -> None:
    """Workers share a port (SO_REUSEPORT); two gateways must not, or each would get half of the messages."""
    done = _serve(stage)
    assert done.returncode == 1
    assert "does not start" in done.stderr
    assert stage.ask(stage.public, "GET", PUSH_PATH).status == 403


def test_nothing_but_tcp_is_listened_on(stage: Stage) -> None:
    pids = {stage.gateway.pid, *_children(stage.gateway.pid)}
    sockets = {link for pid in pids for link in _links(pid) if link.startswith("socket:[")}
    inodes = {line.split()[9] for table in ("udp", "udp6") for line in _lines(f"/proc/net/{table}")}
    assert len(pids) > 1
    assert not {f"socket:[{inode}]" for inode in inodes} & sockets


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _links(pid: int) -> list[str]:
    """What the descriptors of a process lead to, but for those it closes meanwhile."""
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return links


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()[1:]


def test_plain_http_on_the_tls_port_gets_nothing(stage: Stage) -> None:
    with socket.create_connection(("127.0.0.1", stage.public), 10) as sock:
        sock.sendall(GET)
        assert cut_in_silence(sock)


def test_tls_1_3_only_is_refused_where_wechat_speaks(prepared: Stage) -> None:
    text = prepared.config.read_text()
    only = "tls: {oldest: '1.3', certificate: certs/gateway.pem, key: certs/gateway.key}"
    prepared.config.write_text(text.replace("tls: {certificate: certs/gateway.pem, key: certs/gateway.key}", only, 1))
    with pytest.raises(Problems) as caught:
        load_settings(prepared.config)
    assert [problem.code for problem in caught.value.found if not problem.warning] == ["tls13-wechat"]
    first, last = text.rsplit("tls: {certificate: certs/gateway.pem, key: certs/gateway.key}", 1)
    prepared.config.write_text(first + only + last)
    assert [item.tls.tls13_only for item in load_settings(prepared.config).listeners] == [False, True]


# --- certificates on the disk


def test_a_changed_certificate_is_taken_up_and_a_broken_one_is_not(stage: Stage, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = key_pair(authority, "localhost", "127.0.0.1")
    new_ca = ssl.create_default_context(cafile=authority.ca_file)
    served, key = stage.directory / "certs" / "gateway.pem", stage.directory / "certs" / "gateway.key"
    old = served.read_bytes(), key.read_bytes()
    with _connect(stage, stage.tls()) as live:
        assert _status(live) == 405
        try:
            _replace(served, pair.certificate.read_bytes())
            _replace(key, pair.key.read_bytes())
            until(lambda: _is_served(stage, new_ca))
            assert _status(live) == 405
            _replace(served, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            until(lambda: "reload failed" in str(stage.ask_admin("/readyz").json["warnings"]))
            assert _is_served(stage, new_ca)
            assert _status(live) == 405
            assert stage.gateway.poll() is None
        finally:
            _replace(served, old[0])
            _replace(key, old[1])
            stage.gateway.send_signal(signal.SIGHUP)
            until(lambda: stage.is_ready() and _is_served(stage, stage.tls()))
        assert _status(live) == 405


def _replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.chmod(0o600)
    new.replace(path)


def _connect(stage: Stage, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", stage.public), 10)
    try:
        return context.wrap_socket(raw, server_hostname="localhost")
    except BaseException:
        raw.close()
        raise


def _is_served(stage: Stage, context: ssl.SSLContext) -> bool:
    try:
        _connect(stage, context).close()
    except ssl.SSLCertVerificationError:
        return False
    return True


def _status(tls: ssl.SSLSocket) -> int:
    """Of a request that leaves the connection open."""
    return int(_ask(tls, f"PUT {PUSH_PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()).split()[1])
