"""`wxgate policy draft`: a first policy from samples, on stdout.

Exit status: 0 it was written, 2 there is nothing to write one from.
"""

import re
from pathlib import Path

import click

from proxy.cli.policy_files import MAX_SAMPLE, UnreadableError, read_file
from proxy.cli.policy_table import shown
from proxy.policy.compile import compile_policy
from proxy.policy.draft import ENVELOPE, DraftError, Sample, Shape, draft_policy
from proxy.policy.rules import Direction, Phase
from proxy.refusal import Refusal
from proxy.source.problem import Problems
from proxy.wechat.push import message_type, read_body

_DIRECTIONS = click.Choice([item.value for item in Direction])
_PHASES = click.Choice([item.value for item in Phase])
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}", re.ASCII)
# What a draft takes from the policy it extends, for its own check: that file is wherever the author puts it.
_BASE = b"version: 1\nclasses: {person.openid: {action: encrypt, deterministic: true}}\n"


class _CannotDraft(click.ClickException):
    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


@click.command("draft")
@click.argument("samples", nargs=-1, required=True, metavar="SAMPLE...", type=click.Path(path_type=Path))
@click.option("--direction", type=_DIRECTIONS, default="inbound", show_default=True)
@click.option("--phase", type=_PHASES, default="request", show_default=True)
@click.option("--method", default="", help="Of the API call; outbound and agent only.")
@click.option("--path", default="", help="Of the API call, variable segments as {name}; outbound and agent only.")
@click.option("--name", default="draft", show_default=True, help="Of the message; names of pushes begin with it.")
def draft_command(samples: tuple[Path, ...], direction: str, phase: str, method: str, path: str, name: str) -> None:
    """Write a first policy for the messages in SAMPLE... to stdout.

    Fields are classified by name and shape and encrypted; what looks technical is refused until you decide. Nothing is
    allowed or revealed by guess but the protocol's own fields, and no value of a sample is written. Exit status: 0 the
    policy was written, 2 there is nothing to write one from.
    """
    shape = Shape(Direction(direction), Phase(phase), name, method.upper(), path)
    _check(shape)
    read = [_sample(file, shape) for file in samples]
    try:
        text = draft_policy(read, shape)
    except DraftError as error:
        raise _CannotDraft(str(error)) from None
    try:
        compile_policy("draft", lambda file: _BASE if file == ENVELOPE else text.encode())
    except Problems as problems:
        found = "; ".join(problem.message for problem in problems.found if not problem.warning)
        raise _CannotDraft(f"no policy can be drafted: {found}") from None
    click.echo(text, nl=False)


def _check(shape: Shape) -> None:
    if not _NAME.fullmatch(shape.name):
        raise click.UsageError("--name begins with a letter and has at most 32 letters, digits, _ and -")
    if shape.direction is Direction.INBOUND and (shape.method or shape.path):
        raise click.UsageError("--method and --path go with --direction outbound or agent")
    if shape.direction is not Direction.INBOUND and not (shape.method and shape.path):
        raise click.UsageError(
            f"--direction {shape.direction.value} needs --method and --path: they say which call it is"
        )


def _sample(file: Path, shape: Shape) -> Sample:
    try:
        document = read_body(read_file(file, MAX_SAMPLE))
    except UnreadableError as error:
        raise _CannotDraft(str(error)) from None
    except Refusal as refusal:
        raise _CannotDraft(f"{file} is no document: {refusal.code}, {refusal.row.message}") from None
    if shape.direction is not Direction.INBOUND:
        return Sample(document)
    try:
        return Sample(document, message_type(document))
    except Refusal:
        hint = "an encrypted push must be opened first"
        raise _CannotDraft(f"{file} has no MsgType, or an event no Event; {hint}") from None
