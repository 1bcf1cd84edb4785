"""The command line: `python -m bench` from the repository's root, in `.venv`."""

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import report, runner, targets
from bench.load import LoadError
from bench.scene import Cores, scene

_DEBIAN_PACKAGES = {"wrk": "wrk", "nginx": "nginx-light", "taskset": "util-linux", "cc": "gcc"}


def main() -> int:
    """Run the benchmark; 0 unless it cannot run, or `--enforce` is given and a bar or a row fails."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds: servers stopped, directory removed
    arguments = _parser().parse_args()
    missing = [package for tool, package in _DEBIAN_PACKAGES.items() if shutil.which(tool) is None]
    if missing:
        _note(f"bench needs Debian's {', '.join(missing)}: apt-get install {' '.join(missing)}")
        return 2
    settings = runner.Settings(
        runs=1 if arguments.quick else arguments.runs,
        seconds=1 if arguments.quick else arguments.seconds,
        connections=arguments.connections,
        cores=_cores(pin=not arguments.no_pin),
    )
    chosen = [target for target in targets.ALL if target.name in arguments.targets]
    try:
        with scene(arguments.key) as place, runner.Bench(place, settings, _note) as bench:
            rows = bench.measure(chosen, arguments.modes)
    except (LoadError, targets.TargetUnavailable) as error:
        _note(f"bench stopped: {error}")
        return 2
    return _report(rows, arguments, settings)


def _report(rows: Sequence[runner.Row], arguments: argparse.Namespace, settings: runner.Settings) -> int:
    measured = report.figures(rows)
    cores = settings.cores
    pinned = (
        "not pinned" if cores.target is None else f"target on core {cores.target}, wrk and CRM on core {cores.load}"
    )
    print(
        f"\nmedian of {settings.runs} interleaved runs of {settings.seconds} s, {settings.connections} connections, "
        f"{arguments.key} certificate, full handshakes, {pinned}\n"
    )
    print(report.table(rows, measured), report.checks(measured), sep="\n\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(rows, measured), indent=1) + "\n")
    failed = any(row.problem for row in rows) or any(not verdict.holds for verdict in report.verdicts(measured))
    return 1 if arguments.enforce and failed else 0


def _cores(*, pin: bool) -> Cores:
    available = sorted(os.sched_getaffinity(0))
    if not pin or len(available) < 2:
        return Cores(None, None)
    return Cores(available[0], available[1])


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    names = [target.name for target in targets.ALL]
    parser = argparse.ArgumentParser(prog="python -m bench", description="wxgate against three other servers")
    parser.add_argument("--runs", type=_positive, default=5, help="runs of each row (default 5)")
    parser.add_argument("--seconds", type=_positive, default=5, help="length of a run (default 5)")
    parser.add_argument("--connections", type=_positive, default=16, help="wrk's connections (default 16)")
    parser.add_argument("--key", choices=("ecdsa", "rsa"), default="ecdsa", help="the certificates' kind of key")
    parser.add_argument("--targets", type=_names(names), default=names, help=f"some of {','.join(names)}")
    parser.add_argument("--modes", type=_names(runner.MODES), default=runner.MODES, help="some of keep-alive,close")
    parser.add_argument("--no-pin", action="store_true", help="let the scheduler place target and load")
    parser.add_argument("--quick", action="store_true", help="one run of one second: does it work, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run and the verdicts to FILE")
    parser.add_argument("--enforce", action="store_true", help="exit 1 if a bar does not hold or a row failed")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a parser of comma-separated names that keeps the order of `known`."""

    def parse(text: str) -> list[str]:
        asked = text.split(",")
        unknown = [name for name in asked if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return [name for name in known if name in asked]

    return parse


if __name__ == "__main__":
    sys.exit(main())
