"""`wxgate demo`: the main job on loopback, with everything it needs started on the spot."""

from __future__ import annotations

import contextlib
import signal
import sys

import click


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running afterwards and print curl lines to try.")
def demo(keep: bool) -> None:
    """Run a conversation between an emulated WeChat and an emulated CRM through the real gateway.

    Everything is a process of its own, speaks TLS on loopback and lives in a temporary directory. Exit codes: 0 every
    expectation holds, 1 one does not.
    """
    from proxy.emulate.demo import run
    from proxy.emulate.stage import Stage

    with Stage() as stage:
        click.echo(f"WeChat -> wxgate https://localhost:{stage.public} -> CRM; in {stage.directory}")
        failures = run(stage, click.echo)
        summary = "every expectation holds" if not failures else f"{failures} expectations do not hold"
        click.echo(f"\n{summary}")
        if keep:
            _keep(stage)
    sys.exit(1 if failures else 0)


def _keep(stage: object) -> None:
    from proxy.emulate.demo import LI
    from proxy.emulate.stage import API, PUSH_PATH, Stage

    assert isinstance(stage, Stage)  # noqa: S101 - narrows a lazily imported type
    delivery = stage.pusher.deliver(stage.pusher.message(LI, "text", Content="你好"))
    body = stage.directory / "push.xml"
    body.write_bytes(delivery.body)
    ca = f"--cacert {stage.directory}/certs/ca.pem"
    bearer = f'-H "Authorization: Bearer $(cat {stage.directory}/secrets/agent-bearer)"'
    click.echo(
        f"""
Still running. Try, in another terminal:

  # WeChat delivers a message (once; the second time you see the stored reply)
  curl {ca} --data-binary @{body} 'https://localhost:{stage.public}{PUSH_PATH}?{delivery.query}'
  # what the CRM stored
  curl {ca} https://localhost:{stage.crm_port}/_stored
  # an agent writes a prepared text
  curl {ca} {bearer} -H 'Content-Type: application/json' \\
    -d '{{"Name":"hello","Text__c":"您好"}}' https://localhost:{stage.internal}{API}WeChat_Template__c
  # the administrator's page
  curl http://127.0.0.1:{stage.admin}/metrics

Press Enter, or ^C, to stop everything."""
    )
    _wait()


def _wait() -> None:
    """Until a line comes, ^C or SIGTERM; without a terminal (end of input) until one of the signals."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        if not sys.stdin.readline():
            signal.pause()
