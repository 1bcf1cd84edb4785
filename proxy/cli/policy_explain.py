"""`wxgate policy explain`: every leaf of a sample once, as it would leave, by which rule, and why.

Exit status: 0 the message would leave, 1 it would be refused, 2 there is no policy or no message to judge.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from proxy.cli.policy_files import MAX_SAMPLE, UnreadableError, load_policy, place_from_here, read_file
from proxy.cli.policy_table import shown, table
from proxy.document.tree import Document
from proxy.policy.compiled import Call, Conditioned, Policy
from proxy.policy.explain import Explanation, Occasion, explain, find_rules, read_sample, temporary_keys, with_tokens
from proxy.policy.rules import Direction, Phase
from proxy.refusal import TABLE, Refusal
from proxy.source.problem import Problems
from proxy.wechat.push import message_type, read_body

_DIRECTIONS = click.Choice([item.value for item in Direction])
_PHASES = click.Choice([item.value for item in Phase])


class CannotJudge(click.ClickException):
    """There is no policy or no message to judge."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


_OPTIONS = (
    click.option("--direction", type=_DIRECTIONS, default="inbound", show_default=True),
    click.option("--phase", type=_PHASES, default="request", show_default=True),
    click.option("--method", default="", help="Of the API call; outbound and agent only."),
    click.option("--path", default="", help="Of the API call; outbound and agent only."),
    click.option("--role", default="", help="Of the caller; outbound and agent only."),
    click.option("--query", default="", help="Query string of the API call, without the question mark."),
    click.option("--status", type=click.IntRange(200, 599), help="Of an answer; 200 if it is not given."),
    click.option("--account", default="", help="The WeChat account, by its name; inbound only."),
    click.option("--tenant", default="", help="Whose data it is."),
    click.option("--region", default="", help="The region of the data."),
    click.option("--content-type", default="", help="Media type of the API call; outbound and agent only."),
)


def occasion_options[F: Callable[..., object]](command: F) -> F:
    """The options that say when a sample comes by; `read_occasion` takes them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("explain")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("sample", type=click.Path(path_type=Path))
@occasion_options
@click.option("--header", "headers", multiple=True, help='"Name: value", of the API call. May be given several times.')
@click.option("--protect", is_flag=True, help="First make tokens of clear values where the policy wants a token.")
@click.pass_context
def explain_command(
    context: click.Context,
    /,
    file: Path,
    sample: Path,
    protect: bool,
    **occasion: Any,
) -> None:
    """Show every leaf of SAMPLE once: as it leaves, by which rule of FILE, and why.

    The message goes through the plan of production, with keys made for this one run. Exit status: 0 the message would
    leave, 1 it would be refused, 2 there is no policy or no message to judge.
    """
    where = read_occasion(**occasion)
    compiled = load_valid(file).for_owner(where.tenant, where.region)
    body = _body(compiled, sample, where)
    inbound = body is not None and where.direction is Direction.INBOUND
    kind = _kind_of(sample, body) if body and inbound else ""
    click.echo(shown(f"sample: {sample}, {_message(where, body.form if body else '', kind)}"))
    click.echo(shown(f"policy: {file}, revision {compiled.revision}"))
    try:
        result = _explain(compiled, where, body, kind, protect)
    except Refusal as refusal:
        _refused(compiled, refusal.code)
        context.exit(1)
    _show(compiled, file, result, kind)
    context.exit(1 if result.refusal else 0)


def read_occasion(
    direction: str,
    phase: str,
    method: str,
    path: str,
    role: str,
    query: str,
    status: int | None,
    account: str,
    tenant: str,
    region: str,
    content_type: str,
    headers: tuple[str, ...] = (),
) -> Occasion:
    """What `occasion_options` were given. Raises UsageError if they do not go together."""
    given = tuple(_header(text) for text in headers)
    call = (method.upper(), path, role, query, status or 200, given)
    where = Occasion(Direction(direction), Phase(phase), *call, account, tenant, region, content_type.lower())
    if where.direction is Direction.INBOUND:
        if method or path or role or query or headers or status or content_type:
            of_calls = "--method, --path, --role, --query, --header, --status and --content-type"
            raise click.UsageError(f"{of_calls} go with --direction outbound or agent")
        return replace(where, role="wechat")
    if account:
        raise click.UsageError("--account goes with --direction inbound")
    if not method or not path:
        raise click.UsageError(f"--direction {direction} needs --method and --path: they say which call it is")
    if (query or headers) and where.phase is Phase.RESPONSE:
        raise click.UsageError("--query and --header go with --phase request")
    if status and where.phase is Phase.REQUEST:
        raise click.UsageError("--status goes with --phase response")
    return where


def _header(text: str) -> tuple[bytes, bytes]:
    """`Name: value` as an occasion has it, the name in lower case."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isascii() or not text.isprintable():
        raise click.UsageError('--header wants "Name: value" in printable ASCII')
    return name.strip().lower().encode(), value.strip().encode()


def load_valid(file: Path) -> Policy:
    try:
        return load_policy(file)
    except UnreadableError as error:
        raise CannotJudge(str(error)) from None
    except Problems as problems:
        click.echo("\n".join(shown(str(problem)) for problem in problems.found), err=True)
        raise CannotJudge(f"{file} is no valid policy; see above") from None


def _body(compiled: Policy, sample: Path, where: Occasion) -> Document | None:
    try:
        return read_sample(compiled, where, read_file(sample, MAX_SAMPLE), read_body)
    except UnreadableError as error:
        raise CannotJudge(str(error)) from None
    except Refusal as refusal:
        raise CannotJudge(f"{sample} is no document: {refusal.code}, {refusal.row.message}") from None


def _kind_of(sample: Path, body: Document) -> str:
    try:
        return message_type(body)
    except Refusal:
        hint = "an encrypted push must be opened first"
        raise CannotJudge(f"{sample} has no MsgType, or an event no Event; {hint}") from None


def _message(occasion: Occasion, form: str, kind: str) -> str:
    body = f"{form} body" if form else "no body"
    if occasion.direction is Direction.INBOUND:
        return f"inbound {occasion.phase.value}, {body}, type {kind}"
    role = f'role "{occasion.role}"' if occasion.role else "no role given"
    return f"{occasion.direction.value} {occasion.phase.value}, {occasion.method} {occasion.path}, {body}, {role}"


def _explain(compiled: Policy, where: Occasion, body: Document | None, kind: str, protect: bool) -> Explanation:
    rules = find_rules(compiled, where, body.form if body else "", kind)
    keys = temporary_keys(compiled, secrets.token_bytes)
    if protect:
        body, where = with_tokens(compiled, rules, body, where, keys, read_body, secrets.token_bytes)
    return explain(compiled, rules, body, where, keys, secrets.token_bytes)


def _refused(compiled: Policy, code: str) -> None:
    click.echo(f"refused: {code}, {TABLE[code].message}; nothing leaves")
    if code == "message_unknown":
        known = [f"{kind} ({form})" for form, kind in compiled.pushes]
        known += [f"reply {kind} ({form})" for form, kind in compiled.replies]
        known += [_conditioned(item) for item in compiled.all_conditioned()]
        known += [_call(call) for call in compiled.calls]
        click.echo(shown(f"the policy knows: {', '.join(known) or 'no message at all'}"))


def _conditioned(item: Conditioned) -> str:
    reply = "reply " if item.rules.phase is Phase.RESPONSE else ""
    return f"{reply}{item.kind} ({item.rules.form}) for {item.when}"


def _call(call: Call) -> str:
    path = "".join(f"/{segment or '{...}'}" for segment in call.path.segments)
    return f"{call.direction.value} {call.method} {path}" + (f" for {call.when}" if call.when else "")


def _show(compiled: Policy, file: Path, result: Explanation, kind: str) -> None:
    if any(result.rules is rules for rules in compiled.fallback.values()):
        click.echo(shown(f'message: none names the type {kind}; the policy says "unmatched: encrypt"'))
    else:
        click.echo(f"message: {result.rules.name}")
    places = [str(place_from_here(row.rule, file)) if row.rule else "" for row in result.rows]
    click.echo(table(result.rows, places))
    if result.refusal:
        click.echo(f"refused: {result.refusal}, {TABLE[result.refusal].message}; nothing leaves")
    else:
        click.echo(f"leaves: every one of {len(result.rows)} fields is decided")
