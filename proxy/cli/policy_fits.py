"""`wxgate policy fits`: whether what the rules write fits the fields of the CRM, by the CRM's own metadata.

Exit status: 0 everything fits (warnings do not count), 1 something does not, 2 there is nothing to judge.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import click

from proxy.cli.policy_files import UnreadableError, from_here, load_policy, place_from_here, read_file
from proxy.cli.policy_table import shown
from proxy.crypto.data_key import BROUGHT_KEY_ID_SIZE, KEY_ID_SIZE
from proxy.policy.compiled import Policy
from proxy.policy.crm_fields import MAX_METADATA, CrmField, MetadataError, read_metadata
from proxy.policy.fits import Fit, Fitting, check_fits
from proxy.source.problem import Problem, Problems

_HINT = "add `fits: crm:Object.Field__c` to the rules that write for the CRM"


class _NothingToJudge(click.ClickException):
    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))


@click.command("fits")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--crm",
    "metadata",
    required=True,
    multiple=True,
    metavar="METADATA.json",
    type=click.Path(path_type=Path),
    help="A Salesforce describe result of one object or several; may be given more than once.",
)
@click.option("--brought-keys", is_flag=True, help="For tenants who bring their own keys: their tokens are longer.")
@click.option("--json", "as_json", is_flag=True, help="The same for machines.")
@click.pass_context
def fits_command(
    context: click.Context, file: Path, metadata: tuple[Path, ...], brought_keys: bool, as_json: bool
) -> None:
    """Tell whether what the rules of FILE write fits the fields of the CRM they name with `fits`.

    Exit status: 0 everything fits (warnings do not count), 1 something does not, 2 there is nothing to judge.
    """
    objects: dict[str, dict[str, CrmField]] = {}
    for path in metadata:
        _add(objects, path)
    policy = _policy(file)
    found = check_fits(policy, objects, BROUGHT_KEY_ID_SIZE if brought_keys else KEY_ID_SIZE)
    if not found.fits and not found.problems:
        raise _NothingToJudge(f"no rule of {file} that writes for the CRM says where to; {_HINT}")
    found = _seen_from_here(found, file)
    click.echo(_as_json(file, policy, found) if as_json else _as_text(file, found))
    context.exit(0 if found.holds else 1)


def _add(objects: dict[str, dict[str, CrmField]], path: Path) -> None:
    try:
        described = read_metadata(read_file(path, MAX_METADATA))
    except UnreadableError as error:
        raise _NothingToJudge(str(error)) from None
    except MetadataError as error:
        raise _NothingToJudge(f"{path} is no describe result: {error}") from None
    if again := objects.keys() & described.keys():
        raise _NothingToJudge(f"{path} describes {min(again)} a second time; give each object once")
    objects |= described


def _policy(file: Path) -> Policy:
    try:
        return load_policy(file)
    except UnreadableError as error:
        raise _NothingToJudge(str(error)) from None
    except Problems as problems:
        click.echo("\n".join(shown(str(problem)) for problem in problems.found), err=True)
        raise _NothingToJudge(f"{file} is no valid policy; see above") from None


def _seen_from_here(found: Fitting, file: Path) -> Fitting:
    fits = tuple(replace(fit, rule=place_from_here(fit.rule, file)) for fit in found.fits)
    return replace(found, fits=fits, problems=tuple(sorted(from_here(found.problems, file))))


def _as_text(file: Path, found: Fitting) -> str:
    lines = [_line(fit) for fit in found.fits]
    lines += [shown(str(problem)) for problem in found.problems]
    errors = sum(not problem.warning for problem in found.problems)
    verdict = f"{errors} {'problem' if errors == 1 else 'problems'}" if errors else "everything fits"
    silent = f"; rules that write for the CRM without saying where to: {found.silent}" if found.silent else ""
    return "\n".join([*lines, shown(f"{file}: {verdict}, values written: {len(found.fits)}{silent}")])


def _line(fit: Fit) -> str:
    most = "of unknown length" if fit.longest is None else f"at most {fit.longest} characters"
    place = f"{fit.target} ({fit.field.type}, {fit.field.length})"
    return shown(f"{fit.rule}: {place}: {fit.form}, {most} for {fit.clear}; what fits: {_what_fits(fit)}")


def _what_fits(fit: Fit) -> str:
    if fit.ascii is None or fit.chinese is None:
        return "any value"
    return "nothing" if fit.ascii < 0 else f"{fit.ascii} ASCII or {fit.chinese} Chinese characters"


def _as_json(file: Path, policy: Policy, found: Fitting) -> str:
    result = {
        "ok": found.holds,
        "file": shown(str(file)),
        "revision": policy.revision,
        "rules_without_fits": found.silent,
        "values": [_fit_as_json(fit) for fit in found.fits],
        "problems": [_problem_as_json(problem) for problem in found.problems],
    }
    return json.dumps(result, indent=2)


def _fit_as_json(fit: Fit) -> dict[str, object]:
    return asdict(fit.rule) | {
        "target": fit.target,
        "type": fit.field.type,
        "length": fit.field.length,
        "written_as": fit.form,
        "longest": fit.longest,
        "fits_ascii": fit.ascii,
        "fits_chinese": fit.chinese,
        "judged_for": fit.clear,
    }


def _problem_as_json(problem: Problem) -> dict[str, object]:
    return asdict(problem.place) | {key: value for key, value in asdict(problem).items() if key != "place"}
