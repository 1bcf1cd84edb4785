"""`wxgate serve`: how it is called. What it does once it runs: tests/promises."""

import pytest
from click.testing import CliRunner

from proxy.cli import main


def test_help_says_signals_and_exit_codes() -> None:
    output = CliRunner().invoke(main, ["serve", "--help"]).output
    assert all(word in output for word in ("SIGTERM", "SIGHUP", "Exit codes", "--workers", "--config"))


@pytest.mark.parametrize("workers", ["0", "257", "-1", "many"])
def test_a_number_of_workers_that_is_none_is_wrong_usage(workers: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--config", "x.yaml", "--workers", workers])
    assert (result.exit_code, "--workers" in result.output) == (2, True)


def test_without_a_configuration_it_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["serve"])
    assert (result.exit_code, "--config" in result.output) == (2, True)
