"""One tenant's own key service hangs while its keys are due to be replaced: nothing else waits for it, and it comes
back."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.test_key_services import WORDS, OnService, of, read, record_of
from tests.support.openbao import OpenBao
from tests.support.processes import until

WXGATE = Path(sys.executable).parent / "wxgate"
DRAIN, GRACE = 5.0, 5.0  # seconds a drain may take, and until what is left is ended


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    server = OpenBao(tmp_path_factory.mktemp("bao"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def built(bao: OpenBao) -> Iterator[OnService]:
    own = f"tenants: {{acme: {{cache_age: 1s, service: {of(bao)}}}}}"
    times = "refresh: 300ms, activate_after: 1s, rotate_after: 3s"
    keys = f"keys: {{service: {{kind: local, unlock: file:secrets/unlock}}, {own}, {times}}}\n"
    with OnService(keys, {"vault": bao.secret_id}) as gateway:
        until(lambda: retiring(gateway), "a key was replaced", 30)
        yield gateway


@pytest.fixture
def gateway(built: OnService, bao: OpenBao) -> Iterator[OnService]:
    """Its supervisor, or one to come, waits for the service that hangs."""
    if built.gateway.poll() is None:
        until(built.is_ready, "it is ready")
        bao.freeze()
        until(lambda: is_making(built), "it is about to make a key", 30)
    else:
        bao.freeze()
    yield built
    bao.thaw()


def is_making(gateway: OnService) -> bool:
    """Whether somebody has the lock of those who make keys."""
    fd = os.open(gateway.directory / "state" / "keyring.json.acme.vault.making.lock", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def keys(gateway: OnService, *words: str) -> str:
    command = [WXGATE, "keys", *words, "--config", str(gateway.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=gateway.directory)
    assert done.returncode == 0, done.stderr
    return done.stdout


def retiring(gateway: OnService) -> list[str]:
    return keys(gateway, "list", "--state", "retiring", "--ids").split()


def test_a_key_is_disabled_while_a_rotation_hangs(gateway: OnService) -> None:
    victim = retiring(gateway)[0]
    until(lambda: is_making(gateway), "it waits for the service", 60)
    assert "disabled" in keys(gateway, "disable", victim, "--yes")


def test_a_killed_worker_is_replaced(gateway: OnService) -> None:
    victim = gateway.pids[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: gateway.pid_of(gateway.slot_of(victim)) != victim and gateway.is_ready(), "it is replaced", 60)


def test_it_is_ready_says_what_is_wrong_and_refuses_that_tenant_alone(gateway: OnService) -> None:
    until(lambda: any("vault does not answer" in text for text in gateway.reasons()), "it is said", 60)
    assert gateway.is_ready()
    assert gateway.push(gateway.text(WORDS)).status == 503
    assert any(line["service"] == "acme.vault" for line in gateway.events("key_not_unwrapped"))


def test_it_reloads(gateway: OnService) -> None:
    gateway.signalled(signal.SIGHUP, "reloaded")
    until(gateway.is_ready, "all have taken it up", 60)


def test_it_ends_in_time(gateway: OnService) -> None:
    gateway.gateway.send_signal(signal.SIGTERM)
    assert gateway.gateway.wait(DRAIN + GRACE + 5.0) == 0


def test_it_starts_and_serves_when_the_service_is_back(gateway: OnService, bao: OpenBao) -> None:
    gateway.restart()
    assert gateway.is_ready()
    bao.thaw()
    until(lambda: gateway.push(gateway.text(WORDS)).status == 200, "its messages pass again", 60)
    record = record_of(gateway)
    until(lambda: read(gateway, record) == WORDS, "and are read", 60)
    assert not re.search("fault|worker_stuck", gateway.log.read_text())
