"""One gateway on a state directory: budgets are counted in memory that its workers share, and nobody else."""

import os
import signal
import subprocess
import time
from pathlib import Path

from proxy.emulate.stage import free_ports
from tests.support.installation import wxgate
from tests.support.processes import Gateway, alive, freeze, until

REFUSED = "another wxgate serves from it"
STUCK = """
import pathlib, time
import proxy.serve.worker as w
w.ALONE = 2
kept = w.Worker.keep_audit
def keep(self):
    if pathlib.Path("stuck").exists():
        pathlib.Path("stuck").unlink()
        time.sleep(1000)
    kept(self)
w.Worker.keep_audit = keep
"""


def second(gateway: Gateway) -> Path:
    """A configuration with the same state and nothing else in common: ports and audit log of its own."""
    text = gateway.config.read_text()
    mine = (gateway.public, gateway.internal, gateway.admin)
    for old, new in zip(mine, free_ports(len(mine)), strict=True):
        text = text.replace(f":{old}", f":{new}")
    path = gateway.config.with_name("second.yaml")
    path.write_text(f"audit: {{directory: {gateway.directory}/audit-2}}\n{text}")
    return path


def started(config: Path) -> subprocess.CompletedProcess[str]:
    return wxgate("serve", "--config", str(config), cwd=config.parent)


def test_a_second_gateway_on_the_same_state_does_not_start() -> None:
    with Gateway(workers=1) as gateway:
        config = second(gateway)
        before = (gateway.directory / "state" / "keyring.json").read_bytes()
        run = started(config)
        assert (run.returncode, run.stdout) == (1, "")
        assert REFUSED in run.stderr and f"process {gateway.gateway.pid}," in run.stderr
        assert (gateway.directory / "state" / "keyring.json").read_bytes() == before
        gateway.signalled(signal.SIGHUP, "reloaded")
        assert REFUSED in started(config).stderr
        assert gateway.push(gateway.text()).body == b"success"


def test_workers_that_outlive_their_supervisor_hold_it_until_they_ended() -> None:
    with Gateway(workers=1) as gateway:
        (worker,) = gateway.pids
        freeze(worker)
        os.kill(gateway.gateway.pid, signal.SIGKILL)
        gateway.gateway.wait()
        assert REFUSED in started(second(gateway)).stderr
        os.kill(worker, signal.SIGCONT)
        until(lambda: not alive(worker), "the worker ended")
        gateway.restart()
        assert gateway.push(gateway.text()).body == b"success"


def test_a_stuck_worker_without_a_supervisor_does_not_hold_it_for_ever() -> None:
    with Gateway(workers=1, patches=STUCK) as gateway:
        (worker,) = gateway.pids
        sign = gateway.directory / "stuck"
        sign.touch()
        until(lambda: not sign.exists(), "the worker is stuck")
        os.kill(gateway.gateway.pid, signal.SIGKILL)
        gateway.gateway.wait()
        until(lambda: not alive(worker), "the worker ended")
        gateway.restart()
        assert gateway.push(gateway.text()).body == b"success"


def test_a_worker_that_beats_lives_on() -> None:
    with Gateway(workers=1, patches=STUCK) as gateway:
        (worker,) = gateway.pids
        end = time.monotonic() + 5.0  # more than twice as long as it lives without a beat
        until(lambda: time.monotonic() > end or not alive(worker), "the worker is of age")
        assert gateway.pids == [worker]
