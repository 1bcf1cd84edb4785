"""A policy on trial runs beside the one in force: it is counted, and what leaves is what leaves without it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.emulate.stage import Stage
from tests.support.processes import until

FOLLOWER = "oFOLLOWER0000000000000000001"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    built = Stage()
    try:
        built.prepare()
        text = (built.directory / "policies" / "wechat-crm.yaml").read_text()
        following = text.replace("xml:/xml/Scale: allow", "xml:/xml/Scale: drop")
        assert following != text
        (built.directory / "policies" / "next.yaml").write_text(following)
        config = built.config.read_text().replace(
            "target: /webhook/wechat, policy: policies/wechat-crm.yaml",
            "target: /webhook/wechat, policy: policies/wechat-crm.yaml, next: policies/next.yaml",
        )
        built.config.write_text(config)
        built.start_gateway()
        yield built
    finally:
        built.close()


def place(stage: Stage) -> str:
    document = stage.pusher.message(
        FOLLOWER, "location", Location_X=1.5, Location_Y=2.5, Scale=20, Label="SECRET-PLACE"
    )
    assert stage.push(stage.pusher.deliver(document)).body == b"success"
    return str(stage.in_crm()["webhook"][-1]["body"])


def test_the_policy_in_force_alone_decides_what_leaves(stage: Stage) -> None:
    assert "<Scale>20</Scale>" in place(stage)


def test_what_it_would_decide_otherwise_is_counted_without_a_value(stage: Stage) -> None:
    place(stage)
    wanted = (
        'wxgate_shadow_differences_total{now="allowed",route="wechat-push",selector="xml:/xml/Scale",then="dropped"}'
    )
    until(lambda: wanted in stage.ask_admin("/metrics").body.decode(), "it is counted")
    metrics = stage.ask_admin("/metrics").body.decode()
    assert 'wxgate_shadow_messages_total{outcome="different",route="wechat-push"}' in metrics
    assert "SECRET" not in metrics
