"""`wxgate certs dev` and `wxgate certs inspect` as a person meets them."""

import datetime as dt
import json
import os
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from proxy.cli.certs import certs
from proxy.serve import certificates as tls

NOW = dt.datetime.now(dt.UTC)
LEAVES = ("gateway", "wechat", "crm", "crm-client", "agent-client")


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(certs, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def one(*arguments: object) -> dict[str, Any]:
    found = json.loads(run("inspect", "--json", *arguments).stdout)
    assert len(found["targets"]) == 1
    assert found["ok"] is found["targets"][0]["ok"]
    return dict(found["targets"][0])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("certs") / "dev"
    assert run("dev", "--out", out, "--name", "gw.example.com").exit_code == 0
    return out


@pytest.fixture(scope="module")
def port(made: Path) -> Iterator[int]:
    """A TLS server on loopback with the gateway's development certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made / "gateway.pem", made / "gateway.key")
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                plain, _ = listener.accept()
                plain.settimeout(5)
                if stopping.is_set():
                    plain.close()
                    return
                try:
                    context.wrap_socket(plain, server_side=True).close()
                except OSError:
                    plain.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        stopping.set()
        socket.create_connection(listener.getsockname(), 5).close()
        thread.join()


# --- dev


def test_dev_writes_chains_and_private_keys(made: Path) -> None:
    names = {".gitignore", "ca.pem"} | {f"{leaf}.{kind}" for leaf in LEAVES for kind in ("pem", "key")}
    assert {path.name for path in made.iterdir()} == names
    assert mode(made) == 0o700
    assert {mode(made / f"{leaf}.key") for leaf in LEAVES} == {0o600}
    assert (made / ".gitignore").read_text() == "*\n"


def test_dev_says_what_it_wrote_and_never_a_key(tmp_path: Path) -> None:
    result = run("dev", "--out", tmp_path / "a" / "b", "--name", "GW.example.com", "--days", "3")
    assert "DNS:gw.example.com" in result.output
    assert "(3 days)" in result.output
    assert f"file:{tmp_path}/a/b/gateway.key" in result.output
    for path in (tmp_path / "a" / "b").glob("*.key"):
        assert not any(line in result.output for line in path.read_text().splitlines())


def test_dev_goes_to_certs_dev_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("dev").exit_code == 0
    assert mode(tmp_path / "certs" / "dev") == 0o700


def test_dev_keys_stay_private_under_a_careless_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run("dev", "--out", tmp_path / "dev")
    finally:
        os.umask(before)
    assert mode(tmp_path / "dev") == 0o700
    assert mode(tmp_path / "dev" / "gateway.key") == 0o600


def test_dev_overwrites_only_when_forced(tmp_path: Path) -> None:
    out = tmp_path / "dev"
    out.mkdir(mode=0o700)
    (out / "crm.key").write_text("mine")
    refused = run("dev", "--out", out)
    assert refused.exit_code == 1
    assert "holds crm.key already" in refused.output
    assert [path.name for path in out.iterdir()] == ["crm.key"]
    assert run("dev", "--out", out, "--force").exit_code == 0
    assert (out / "crm.key").read_text() != "mine"
    assert mode(out / "crm.key") == 0o600


def test_dev_replaces_a_link_instead_of_writing_through_it(tmp_path: Path) -> None:
    out = tmp_path / "dev"
    out.mkdir(mode=0o700)
    (out / "gateway.key").symlink_to(tmp_path / "elsewhere")
    assert run("dev", "--out", out).exit_code == 1
    assert run("dev", "--out", out, "--force").exit_code == 0
    assert not (tmp_path / "elsewhere").exists()


def test_dev_refuses_a_directory_others_can_read(tmp_path: Path) -> None:
    out = tmp_path / "open"
    out.mkdir()
    out.chmod(0o755)
    result = run("dev", "--out", out)
    assert result.exit_code == 1
    assert "open to other users" in result.output
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("under", ["", "below"])
def test_dev_refuses_a_file_as_directory(tmp_path: Path, under: str) -> None:
    (tmp_path / "file").write_text("")
    result = run("dev", "--out", tmp_path / "file" / under)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("wrong", [("--days", "0"), ("--days", "398"), ("--name", "10.0.0.0/8"), ("--name", "a b")])
def test_dev_wrong_options_are_usage(tmp_path: Path, wrong: tuple[str, str]) -> None:
    assert run("dev", "--out", tmp_path / "x", *wrong).exit_code == 2
    assert not (tmp_path / "x").exists()


def test_dev_leaves_no_half_written_file(tmp_path: Path) -> None:
    out = tmp_path / "dev"
    (out / "gateway.key").mkdir(parents=True)  # a directory cannot be replaced by a file
    out.chmod(0o700)
    assert run("dev", "--out", out, "--force").exit_code == 1
    assert not list(out.glob(".new-*"))


# --- inspect: files


def test_inspect_shows_a_sound_file(made: Path) -> None:
    files = (made / "gateway.pem", "--key", made / "gateway.key", "--ca", made / "ca.pem")
    found = run("inspect", *files, "--name", "gw.example.com")
    assert found.exit_code == 0
    facts = (
        "gateway.pem: ok",
        "OU=gateway",
        "OU=issuing CA",
        "DNS:gw.example.com",
        "EC secp256r1 256 bits",
        "days left",
    )
    for text in (*facts, "in order: yes", "complete: yes", "key matches: yes", "valid for gw.example.com: yes"):
        assert text in found.output


def test_inspect_json(made: Path) -> None:
    found = one(made / "gateway.pem", "--key", made / "gateway.key", "--name", "localhost", "--name", "::1")
    assert (found["ok"], found["in_order"], found["complete"], found["key_match"]) == (True, True, True, True)
    assert found["names"] == {"localhost": True, "::1": True}
    assert [len(c["sha256"].split(":")) for c in found["chain"]] == [32, 32]
    assert found["chain"][0]["days_left"] == pytest.approx(30, abs=0.1)
    assert found["tls_version"] is None


def test_inspect_finds_the_wrong_key_and_name(made: Path) -> None:
    result = run("inspect", made / "gateway.pem", "--key", made / "crm.key", "--name", "other.test")
    assert result.exit_code == 1
    assert "key matches: no" in result.output
    assert "problem: leaf is not valid for other.test" in result.output


def test_inspect_finds_what_is_missing_or_out_of_order(made: Path, tmp_path: Path) -> None:
    leaf, issuer = tls.load_chain((made / "gateway.pem").read_bytes())
    lone, turned = tmp_path / "lone.pem", tmp_path / "turned.pem"
    lone.write_bytes(leaf.public_bytes(Encoding.PEM))
    turned.write_bytes(issuer.public_bytes(Encoding.PEM) + leaf.public_bytes(Encoding.PEM))
    assert (one(lone)["complete"], one(lone)["ok"]) == (False, False)
    assert (one(turned)["in_order"], one(turned)["ok"]) == (False, False)


def test_inspect_warns_before_expiry_and_fails_after(tmp_path: Path) -> None:
    def leaf(start: dt.timedelta) -> Path:
        files = {f.name: f.data for f in tls.development_files([], NOW + start, 10)}
        (tmp_path / "leaf.pem").write_bytes(files["gateway.pem"])
        return tmp_path / "leaf.pem"

    soon = run("inspect", leaf(dt.timedelta()))
    assert soon.exit_code == 0
    assert "warning: 10.0 days left, fewer than 14" in soon.output
    assert one(tmp_path / "leaf.pem", "--warn-days", "9")["warnings"] == []
    expired = one(leaf(dt.timedelta(days=-11)))
    assert "expired on" in expired["problems"][0]
    assert (expired["ok"], expired["warnings"]) == (False, [])
    assert "not yet valid" in one(leaf(dt.timedelta(days=1)))["problems"][0]


def test_inspect_reports_every_target_and_fails_for_one(made: Path) -> None:
    result = run("inspect", made / "absent.pem", made / "gateway.pem")
    assert result.exit_code == 1
    assert "absent.pem: problem" in result.output
    assert "gateway.pem: ok" in result.output


def test_inspect_bad_input_is_one_clear_line(made: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    for target, says in {
        tmp_path / "text.pem": "no readable PEM certificate",
        tmp_path: "is a directory",
        tmp_path / "absent.pem": "no such file",
        made / "gateway.key": "no readable PEM certificate",
        "localhost:99999": "neither a file nor HOST:PORT",
        "localhost:0": "neither a file nor HOST:PORT",
        "::1:443": "neither a file nor HOST:PORT",
        "a b:443": "neither a file nor HOST:PORT",
    }.items():
        result = run("inspect", target)
        assert result.exit_code == 1
        assert says in result.output
        assert result.output.count("\n") == 2  # the target's line and the problem's
        assert one(target)["chain"] == []


def test_inspect_bad_key_or_ca_is_told(made: Path, tmp_path: Path) -> None:
    key = load_pem_private_key((made / "gateway.key").read_bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (tmp_path / "sealed.key").write_bytes(sealed)
    assert "encrypted" in one(made / "gateway.pem", "--key", tmp_path / "sealed.key")["problems"][0]
    assert "no such file" in one(made / "gateway.pem", "--key", tmp_path / "absent.key")["problems"][0]
    assert "no readable PEM" in one(made / "gateway.pem", "--ca", made / "gateway.key")["problems"][0]


def test_inspect_takes_a_ca_bundle_longer_than_any_chain(made: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.pem").write_bytes((made / "ca.pem").read_bytes() * (tls.MAX_CHAIN + 1))
    assert one(made / "gateway.pem", "--ca", tmp_path / "bundle.pem")["complete"] is True


def test_inspect_usage(made: Path) -> None:
    pair = (made / "gateway.pem", made / "crm.pem")
    for wrong in (
        (),
        (*pair, "--key", made / "gateway.key"),
        ("localhost:443", "--key", made / "gateway.key"),
        (pair[0], "--servername", "a.test"),
        (pair[0], "--name", "a b"),
        (pair[0], "--warn-days", "-1"),
    ):
        assert run("inspect", *wrong).exit_code == 2


# --- inspect: live


def test_inspect_a_live_port(made: Path, port: int) -> None:
    result = run("inspect", f"localhost:{port}", "--ca", made / "ca.pem")
    assert result.exit_code == 0, result.output
    assert "negotiated: TLSv1.3, TLS_" in result.output
    assert "valid for localhost: yes" in result.output


def test_inspect_a_live_port_by_another_name(made: Path, port: int) -> None:
    good = one(f"127.0.0.1:{port}", "--servername", "gw.example.com", "--ca", made / "ca.pem")
    assert (good["ok"], good["names"]) == (True, {"gw.example.com": True})
    bad = one(f"127.0.0.1:{port}", "--servername", "other.test", "--ca", made / "ca.pem")
    assert (bad["ok"], bad["names"]) == (False, {"other.test": False})


def test_inspect_a_live_port_nobody_vouches_for(port: int) -> None:
    found = one(f"localhost:{port}")
    assert found["ok"] is False
    assert len(found["chain"]) == 2
    assert "not trusted" in found["problems"][-1]


def test_inspect_a_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    result = run("inspect", f"127.0.0.1:{closed}")
    assert result.exit_code == 1
    assert "cannot connect: connection refused" in result.output


def test_inspect_an_ipv6_port_is_understood() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        closed = listener.getsockname()[1]
    assert "cannot connect" in run("inspect", f"[::1]:{closed}").output


def test_a_file_named_like_a_port_is_a_file(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "localhost:443").write_bytes((made / "gateway.pem").read_bytes())
    assert one("localhost:443")["ok"] is True
