"""Policies as the gateway loads them: compiled, and their own tests passed, or not loaded at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from proxy.policy.check_tests import check_tests
from proxy.policy.compile import compile_policy
from proxy.policy.compiled import Policy
from proxy.policy.oracle import oracles
from proxy.route import Route
from proxy.serve.settings_parts import read_bounded
from proxy.source.problem import Place, Problem, Problems
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
    return replace(policy, warnings=tuple(_placed([*policy.warnings, *_untested(policy, path.name)], directory)))


def _untested(policy: Policy, file: str) -> list[Problem]:
    if policy.tests:
        return []
    message = "the policy has no tests: nothing says that it does what its author means"
    return [Problem(Place(file, 1, 1), "policy-untested", message, 'add "tests"', warning=True)]


def _samples(policy: Policy, directory: Path) -> dict[str, bytes]:
    """Those that can be read; the tests of the others fail."""
    samples = {}
    for name in {test.sample for test in policy.tests}:
        try:
            samples[name] = read_bounded(directory / name)
        except OSError:
            continue
    return samples


def shared_oracles(routes: Iterable[Route], policies: Mapping[str, Policy], base: Path) -> list[Problem]:
    """Where one policy would open towards WeChat what another one of the same tenant and region seals of a follower's
    words. Each alone was checked when it was compiled. `policies`: by path below `base`, as routes name them."""
    used: dict[tuple[str, str], set[str]] = {}
    for route in routes:
        if route.policy in policies:
            used.setdefault((route.tenant, route.region), set()).add(route.policy)
    found: list[Problem] = []
    for owner, names in used.items():
        for name in names:
            others = [policies[other].for_owner(*owner) for other in names - {name}]
            found += _placed(oracles(policies[name].for_owner(*owner), others), (base / name).parent)
    return found


def _placed(problems: list[Problem] | tuple[Problem, ...], directory: Path) -> list[Problem]:
    """With places that say where the file is, not only how it is called."""
    return [replace(it, place=replace(it.place, file=str(directory / it.place.file))) for it in problems]
