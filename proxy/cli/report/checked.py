"""What `wxgate policy check` found out about one file: what all its renderers are given."""

from dataclasses import dataclass

from proxy.source.problem import Problem


@dataclass(frozen=True, slots=True)
class Checked:
    """`file`: as the author named it; places are as seen from the current directory. `unreadable`: why there is nothing
    to find out."""

    file: str
    revision: str = ""
    messages: int = 0
    tests: int = 0
    problems: tuple[Problem, ...] = ()
    unreadable: str = ""

    @property
    def status(self) -> int:
        """0 nothing wrong (warnings do not count), 1 problems, 2 not readable."""
        if self.unreadable:
            return 2
        return 1 if self.errors else 0

    @property
    def errors(self) -> int:
        return sum(not problem.warning for problem in self.problems)
