"""How long and how much keys may be used, as gateway.yaml says it."""

import pytest

from proxy.kms.limits import KeyLimits
from proxy.serve.settings_key_limits import read_limits
from proxy.source.problem import Problem
from proxy.source.section import Section
from proxy.source.yaml_reader import read_yaml


def read(text: str) -> tuple[KeyLimits, list[Problem]]:
    problems: list[Problem] = []
    section = Section(read_yaml(text.encode(), "gateway.yaml"), problems, "keys")
    limits = read_limits(section)
    section.done()
    return limits, problems


def test_nothing_said_means_the_defaults() -> None:
    assert read("{}") == (KeyLimits(), [])


def test_everything_said() -> None:
    text = (
        "{cache: {age: 5m, uses: 100, bytes: 1MiB}, budget: {uses: 1000, bytes: 2GiB}, rotate_after: 30d, "
        "activate_after: 1m, refresh: 2s}"
    )
    expected = KeyLimits(300.0, 100, 1024**2, 1000, 2 * 1024**3, 30 * 86400.0, 60.0, 2.0)
    assert read(text) == (expected, [])


@pytest.mark.parametrize(
    "text",
    [
        *("{cache: {age: 0s}}", "{cache: {age: 2d}}", "{cache: {uses: 0}}", "{cache: {bytes: 1}}", "{cache: {x: 1}}"),
        *("{budget: {uses: 15}}", "{budget: {uses: 4294967297}}", "{budget: {bytes: 1KiB}}", "{budget: 5}"),
        *("{rotate_after: 11y}", "{rotate_after: 15s}", "{activate_after: 2s}", "{refresh: 2m}", "{refresh: 4s}"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    assert read(text)[1]
