"""`wxgate policy`: the tools of those who write policies. Each command is a file beside this one."""

import click

from proxy.cli.policy_check import check_command
from proxy.cli.policy_diff import diff_command
from proxy.cli.policy_draft import draft_command
from proxy.cli.policy_explain import explain_command
from proxy.cli.policy_fits import fits_command
from proxy.cli.policy_schema import schema_command
from proxy.cli.policy_test import test_command


@click.group()
def policy() -> None:
    """Check, test and compare policy files, and see what they do to a message."""


policy.add_command(check_command)
policy.add_command(diff_command)
policy.add_command(draft_command)
policy.add_command(explain_command)
policy.add_command(fits_command)
policy.add_command(schema_command)
policy.add_command(test_command)
