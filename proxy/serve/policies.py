"""Policies as the gateway loads them: compiled, and their own tests passed, or not loaded at all."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

from proxy.policy.check_tests import check_tests
from proxy.policy.compile import compile_policy
from proxy.policy.rules import Policy
from proxy.serve.settings_parts import read_bounded
from proxy.source.problem import Problem, Problems
from proxy.wechat.push import message_type, read_body


def load_policy(path: Path) -> Policy:
    """The policy at `path`; what it extends and its samples are looked for beside it.

    Raises OSError if it cannot be read, Problems for all that is wrong with it, failed tests of its own included.
    """
    directory = path.parent
    try:
        policy = compile_policy(path.name, lambda file: read_bounded(directory / file))
        if failed := check_tests(policy, _samples(policy, directory), read_body, message_type, secrets.token_bytes):
            raise Problems(failed)
    except Problems as problems:
        raise Problems(_placed(problems.found, directory)) from None
    return replace(policy, warnings=tuple(_placed(policy.warnings, directory)))


def _samples(policy: Policy, directory: Path) -> dict[str, bytes]:
    """Those that can be read; the tests of the others fail."""
    samples = {}
    for name in {test.sample for test in policy.tests}:
        try:
            samples[name] = read_bounded(directory / name)
        except OSError:
            continue
    return samples


def _placed(problems: list[Problem] | tuple[Problem, ...], directory: Path) -> list[Problem]:
    """With places that say where the file is, not only how it is called."""
    return [replace(it, place=replace(it.place, file=str(directory / it.place.file))) for it in problems]
