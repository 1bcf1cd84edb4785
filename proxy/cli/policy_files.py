"""Policy files and samples from disk, for commands: bounded reads, one clear sentence for whatever is no such file."""

import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from proxy.policy.compile import compile_policy
from proxy.policy.compiled import Policy
from proxy.source.problem import Place, Problem, Problems
from proxy.source.yaml_reader import MAX_BYTES

MAX_SAMPLE: Final = 1024 * 1024  # the largest body a route takes unless it says otherwise


class UnreadableError(Exception):
    """A file that is not there, or is none. The text is a sentence for the author."""


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes. Raises UnreadableError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block, a device may never end
            kind = "a directory" if path.is_dir() else "no regular file"
            raise UnreadableError(f"{path} is {kind}; name a file")
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except FileNotFoundError:
        raise UnreadableError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise UnreadableError(f"{path} has more than {most} bytes; it is not what this command reads")
    return data


def load_policy(path: Path) -> Policy:
    """The compiled policy. Files it extends are looked for beside it.

    Raises UnreadableError for `path` itself, Problems (with places as seen from the current directory) for what is
    wrong in it or in what it extends.
    """
    main = read_file(path, MAX_BYTES)

    def load(name: str) -> bytes:
        try:
            return main if name == path.name else read_file(path.parent / name, MAX_BYTES)
        except UnreadableError:
            raise FileNotFoundError(name) from None

    try:
        return compile_policy(path.name, load)
    except Problems as problems:
        raise Problems(from_here(problems.found, path)) from None


def load_samples(policy: Policy, path: Path) -> dict[str, bytes]:
    """The samples of the policy's tests that can be read, by their names."""
    samples = {}
    for name in {test.sample for test in policy.tests}:
        try:
            samples[name] = read_file(path.parent / name, MAX_SAMPLE)
        except UnreadableError:
            continue  # check_tests says so, at the test's line
    return samples


def place_from_here(place: Place, path: Path) -> Place:
    """`place` names files as the policy at `path` does; what comes back names them from the current directory."""
    return replace(place, file=str(path.parent / place.file))


def from_here(problems: Iterable[Problem], path: Path) -> list[Problem]:
    return [replace(problem, place=place_from_here(problem.place, path)) for problem in problems]
