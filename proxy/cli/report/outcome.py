"""What `wxgate policy test` found out about one file: what its renderers are given."""

from dataclasses import dataclass

from proxy.policy.coverage import Coverage
from proxy.source.problem import Problem


@dataclass(frozen=True, slots=True)
class Ran:
    """One test: `name` says which sample came by how; `seconds` it took; what did not hold."""

    name: str
    seconds: float
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`file`: as the author named it; places are as seen from the current directory. `problems`: of the policy and of
    its coverage, not of tests. `unreadable`: why there is nothing to find out. `covered`: None without a policy."""

    file: str
    ran: tuple[Ran, ...] = ()
    problems: tuple[Problem, ...] = ()
    covered: Coverage | None = None
    unreadable: str = ""

    @property
    def failed(self) -> int:
        """How many tests do not hold."""
        return sum(bool(ran.problems) for ran in self.ran)

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if not problem.warning)

    @property
    def status(self) -> int:
        """0 all tests hold, 1 one does not or the policy is at fault, 2 not readable."""
        return 2 if self.unreadable else 1 if self.failed or self.errors else 0
