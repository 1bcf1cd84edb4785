"""What is counted, summed and shown: every figure survives the pipe, the sum and a strict reader of the text format."""

import json
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from proxy.observe import measures as measures_module
from proxy.observe.measures import BUCKETS, COUNTERS, GAUGES, HISTOGRAMS, Key, Snapshot, WorkerMeasures, empty, render


def samples(snapshot: Snapshot, gauges: Mapping[Key, float] | None = None) -> dict[tuple[str, ...], float]:
    """Value by name and sorted `label=value`, as Prometheus would read it."""
    return {
        (it.name, *sorted(f"{name}={value}" for name, value in it.labels.items())): it.value
        for family in text_string_to_metric_families(render(snapshot, gauges or {}).decode())
        for it in family.samples
    }


def crossed(snapshot: Snapshot) -> Snapshot:
    return Snapshot.from_plain(json.loads(json.dumps(snapshot.to_plain())))


def test_counts_by_label() -> None:
    measures = WorkerMeasures()
    measures.count("exchanges", "push", "answered")
    measures.count("exchanges", "push", "answered")
    measures.count("exchanges", "push", "signature_wrong")
    measures.count("repeats")
    measures.count_each("values", {"allowed": 4, "encrypted": 2})
    measures.count_each("values", {"encrypted": 3})
    shown = samples(measures.snapshot)
    assert shown["wxgate_exchanges_total", "outcome=answered", "route=push"] == 2
    assert shown["wxgate_exchanges_total", "outcome=signature_wrong", "route=push"] == 1
    assert shown["wxgate_values_total", "treatment=allowed"] == 4
    assert shown["wxgate_values_total", "treatment=encrypted"] == 5
    assert shown[("wxgate_repeats_total",)] == 1


@pytest.mark.parametrize("name,labels", [("words", ()), ("exchanges", ("push",)), ("repeats", ("a",)), ("ready", ())])
def test_what_is_not_declared_cannot_be_counted(name: str, labels: tuple[str, ...]) -> None:
    measures = WorkerMeasures()
    with pytest.raises(KeyError):
        measures.count(name, *labels)
    with pytest.raises(KeyError):
        measures.count_each(name, {"encrypted": 1})
    assert not measures.snapshot.counts


@pytest.mark.parametrize("name", ["words", "exchanges", "repeats"])
def test_what_is_not_declared_cannot_be_observed(name: str) -> None:
    with pytest.raises(KeyError):
        WorkerMeasures().observe(name, [("x", 0.1)])


def test_seconds_fall_into_their_buckets_bounds_included() -> None:
    measures = WorkerMeasures()
    measures.observe("step_seconds", [("send", seconds) for seconds in (0.0001, BUCKETS[0], 0.0011, 4.0, 4.5, 77.0)])
    shown = samples(measures.snapshot)

    def up_to(bound: str) -> float:
        return shown["wxgate_step_seconds_bucket", f"le={bound}", "step=send"]

    assert [up_to(bound) for bound in ("0.0005", "0.001", "0.002", "4.0", "5.0", "+Inf")] == [2, 2, 3, 4, 5, 6]
    assert shown["wxgate_step_seconds_count", "step=send"] == 6
    assert shown["wxgate_step_seconds_sum", "step=send"] == pytest.approx(0.0001 + 0.0005 + 0.0011 + 8.5 + 77)


@given(st.lists(st.floats(0, 10) | st.sampled_from(BUCKETS), max_size=30), st.integers(1, 7))
def test_no_observation_is_lost_however_often_somebody_looks(all_seconds: list[float], every: int) -> None:
    measures, expected = WorkerMeasures(), [0] * (len(BUCKETS) + 1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measures_module, "_MOST_UNSORTED", 4)
        for number, seconds in enumerate(all_seconds):
            measures.observe("step_seconds", [("send", seconds), ("total", 2 * seconds)])
            expected[next((place for place, bound in enumerate(BUCKETS) if seconds <= bound), len(BUCKETS))] += 1
            assert sum(map(len, measures._unsorted.values())) < 2 * 4
            if number % every == 0:
                assert sum(measures.snapshot.buckets["step_seconds", "total"][:-1]) == number + 1
    found = measures.snapshot.buckets.get(("step_seconds", "send"), [0.0] * (len(BUCKETS) + 2))
    assert found[:-1] == expected
    assert found[-1] == pytest.approx(sum(all_seconds))


def test_the_sum_of_workers_is_exact_and_leaves_each_alone() -> None:
    workers = [WorkerMeasures() for _ in range(3)]
    for number, measures in enumerate(workers, 1):
        measures.count("exchanges", "push", "answered")
        measures.count_each("values", {"encrypted": number})
        measures.count("handshakes", f"l{number}", "TLSv1.3")
        measures.observe("step_seconds", [("send", number)])
    total = empty()
    for _ in range(2):  # twice: what is added must not change by being added
        total = empty()
        for measures in workers:
            total.add(crossed(measures.snapshot))
    shown = samples(total)
    assert shown["wxgate_exchanges_total", "outcome=answered", "route=push"] == 3
    assert shown["wxgate_values_total", "treatment=encrypted"] == 6
    assert shown["wxgate_handshakes_total", "listener=l2", "version=TLSv1.3"] == 1
    assert shown["wxgate_step_seconds_sum", "step=send"] == 6
    assert workers[0].snapshot.counts["exchanges", "push", "answered"] == 1


def test_a_sum_does_not_share_its_buckets_with_what_was_added() -> None:
    measures = WorkerMeasures()
    measures.observe("step_seconds", [("send", 0.1)])
    total = empty()
    total.add(measures.snapshot)
    total.add(measures.snapshot)
    assert sum(measures.snapshot.buckets["step_seconds", "send"][:-1]) == 1


def every_name() -> Iterator[tuple[str, str]]:
    yield from ((f"wxgate_{name}", "counter") for name in COUNTERS)
    yield from ((f"wxgate_{name}", "histogram") for name in HISTOGRAMS)
    yield from ((f"wxgate_{name}", "gauge") for name in GAUGES)


def test_every_metric_is_declared_even_before_it_has_a_value() -> None:
    families = text_string_to_metric_families(render(empty(), {}).decode())
    declared = {(family.name, family.type) for family in families if family.documentation}
    assert declared == set(every_name())


def test_gauges_and_odd_labels_are_read_back_as_they_were() -> None:
    odd = 'a"b\\c\nd'
    shown = samples(empty(), {("ready",): 1.0, ("connections", odd): 7.0})
    assert shown[("wxgate_ready",)] == 1
    assert shown["wxgate_connections", f"listener={odd}"] == 7
