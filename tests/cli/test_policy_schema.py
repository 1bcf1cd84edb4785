"""`wxgate policy schema`."""

import json

from click.testing import CliRunner
from jsonschema import Draft202012Validator

from proxy.cli.policy import policy
from proxy.policy.schema import policy_schema


def test_the_schema_is_printed_as_json() -> None:
    result = CliRunner().invoke(policy, ["schema"])
    assert result.exit_code == 0
    assert json.loads(result.output) == policy_schema()
    Draft202012Validator.check_schema(json.loads(result.output))
