"""`wxgate policy schema`: the JSON Schema of policy files, for editors."""

import json

import click

from proxy.policy.schema import policy_schema


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema (draft 2020-12) of a policy file, for completion and hover in editors."""
    click.echo(json.dumps(policy_schema(), indent=2, ensure_ascii=False))
