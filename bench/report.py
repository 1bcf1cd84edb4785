"""From rows to the table of ratios and the verdict on the bars."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from bench.runner import Row
from bench.targets import HANDWRITTEN, MITMDUMP, WXGATE, WXGATE_2

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Figures:
    """The medians of a row's runs, `spread` ((highest - lowest) / median of the rate), and each run's own figures."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    rss_mib: float
    spread: float
    rates: tuple[float, ...]
    cpu: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """wxgate, one worker, must answer at least `times` as many messages per second as `against`."""

    mode: str
    against: str
    times: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar and what was measured: ratio of rates, ratio of CPU per message. `holds` is None where nothing was."""

    bar: Bar
    rate_ratio: float | None
    cpu_ratio: float | None
    holds: bool | None


BARS = (
    Bar("keep-alive", MITMDUMP, 5.0),
    Bar("keep-alive", HANDWRITTEN, 1.5),
    Bar("close", MITMDUMP, 4.0),
    Bar("close", HANDWRITTEN, 0.8),
)

_HEAD = ("mode", "server", "req/s", "spread", "p50 ms", "p99 ms", "CPU ms", "RSS MiB")
_RATIO_HEAD = ("req/s ÷ mitmdump", "÷ by-hand", "CPU: mitmdump ÷", "by-hand ÷")
_Key = tuple[str, str]


def figures(rows: Iterable[Row]) -> dict[_Key, Figures]:
    """Return the medians of every row that counts, by mode and target."""
    return {(row.mode, row.target): _medians(row) for row in rows if row.samples and not row.problem}


def verdicts(measured: Mapping[_Key, Figures]) -> list[Verdict]:
    """Hold wxgate's figures against each bar."""
    return [_verdict(bar, measured) for bar in BARS]


def table(rows: Sequence[Row], measured: Mapping[_Key, Figures]) -> str:
    """Return the table; a row that does not count says why. A ratio above 1 is always in favour of the row."""
    lines: list[tuple[str, ...]] = [(*_HEAD, *_RATIO_HEAD)]
    problems = []
    for row in rows:
        found = measured.get((row.mode, row.target))
        if found is None:
            lines.append((row.mode, row.target, "failed" if not row.unavailable else "not run", *("-" * 9)))
            problems.append(f"{row.mode} {row.target}: {row.problem}")
        else:
            lines.append((row.mode, row.target, *_cells(found), *_ratios(row.mode, found, measured)))
    return "\n".join([*_aligned(lines), *problems])


def checks(measured: Mapping[_Key, Figures]) -> str:
    """Return one line for each bar, the scaling of two workers, and a last line for all bars together."""
    found = verdicts(measured)
    lines = [_check(verdict) for verdict in found]
    lines += [_scaling(mode, measured) for mode in dict.fromkeys(bar.mode for bar in BARS)]
    states = {verdict.holds for verdict in found}
    whole = "NOT HELD" if False in states else "not measured in full" if None in states else "held"
    return "\n".join([*lines, f"bars: {whole}"])


def as_json(rows: Sequence[Row], measured: Mapping[_Key, Figures]) -> dict[str, object]:
    """Return everything, every run included, ready for json.dump."""
    return {
        "rows": [
            {
                "mode": row.mode,
                "target": row.target,
                "problem": row.problem,
                "median": asdict(measured[row.mode, row.target]) if (row.mode, row.target) in measured else None,
                "runs": [asdict(sample) for sample in row.samples],
            }
            for row in rows
        ],
        "bars": [asdict(verdict) for verdict in verdicts(measured)],
    }


def _medians(row: Row) -> Figures:
    rates = [sample.rate for sample in row.samples]
    rate = statistics.median(rates)
    return Figures(
        rate=rate,
        p50_ms=statistics.median(sample.p50_ms for sample in row.samples),
        p99_ms=statistics.median(sample.p99_ms for sample in row.samples),
        cpu_ms=statistics.median(sample.cpu_ms for sample in row.samples),
        rss_mib=statistics.median(sample.rss for sample in row.samples) / _MIB,
        spread=(max(rates) - min(rates)) / rate,
        rates=tuple(rates),
        cpu=tuple(sample.cpu_ms for sample in row.samples),
    )


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    # Round by round, because what disturbs the machine lasts longer than a round and so drops out.
    return statistics.median(one / other for one, other in zip(above, below, strict=True))


def _verdict(bar: Bar, measured: Mapping[_Key, Figures]) -> Verdict:
    own, other = measured.get((bar.mode, WXGATE)), measured.get((bar.mode, bar.against))
    if own is None or other is None:
        return Verdict(bar, None, None, None)
    ratio = _ratio(own.rates, other.rates)
    return Verdict(bar, ratio, _ratio(other.cpu, own.cpu), ratio >= bar.times)


def _check(verdict: Verdict) -> str:
    bar = verdict.bar
    asked = f"bar: {bar.mode}, wxgate at least {bar.times:g}x {bar.against}:"
    if verdict.rate_ratio is None:
        return f"{asked} not measured"
    state = "holds" if verdict.holds else "DOES NOT HOLD"
    return f"{asked} {verdict.rate_ratio:.2f}x req/s, {verdict.cpu_ratio:.2f}x on CPU per message: {state}"


def _scaling(mode: str, measured: Mapping[_Key, Figures]) -> str:
    one, two = measured.get((mode, WXGATE)), measured.get((mode, WXGATE_2))
    told = "not measured" if one is None or two is None else f"{_ratio(two.rates, one.rates):.2f}x req/s"
    return f"two workers against one, {mode}: {told}"


def _cells(found: Figures) -> tuple[str, ...]:
    return (
        f"{found.rate:.0f}",
        f"{found.spread:.0%}",
        f"{found.p50_ms:.2f}",
        f"{found.p99_ms:.2f}",
        f"{found.cpu_ms:.3f}",
        f"{found.rss_mib:.0f}",
    )


def _ratios(mode: str, found: Figures, measured: Mapping[_Key, Figures]) -> tuple[str, ...]:
    others = [measured.get((mode, name)) for name in (MITMDUMP, HANDWRITTEN)]
    rates = ["-" if other is None else f"{_ratio(found.rates, other.rates):.2f}" for other in others]
    cpu = ["-" if other is None else f"{_ratio(other.cpu, found.cpu):.2f}" for other in others]
    return (*rates, *cpu)


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(_pad(cell, width, column) for column, (cell, width) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)
