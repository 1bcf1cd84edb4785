"""Where a message's time goes: CPU microseconds of each step of a text push, without sockets: `make bench-steps`.

Each step works on many messages in turn, all steps many rounds; the least of all rounds counts, which a busy machine
changes least. What lies between the steps (tasks, events, the kernel) is not here; it is in `make bench`.
"""

import asyncio
import itertools
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import messages
from bench.scene import Scene, free_port, scene
from bench.targets import write_wxgate_config
from proxy import cleared, journey
from proxy.crypto.data_key import DataKey, Purpose
from proxy.edge.http_guard import read_head
from proxy.edge.upstream_request import encode
from proxy.edge.upstream_response import ResponseReader
from proxy.journey import Answered, Arrived, Planned
from proxy.kms.budget import SharedBudget
from proxy.message import Peer, Request, Response
from proxy.observe.log import StructuredLog
from proxy.policy.carry_out import Keyset
from proxy.ports import Delivery, Owner
from proxy.serve.assemble import Assembly, assemble, load, new_deliveries
from proxy.serve.settings import load_settings

_MESSAGES = 100
_ROUNDS = 40
_OWNER = Owner("bench", "cn")
_PEER = Peer("public", "127.0.0.1", "TLSv1.3", "localhost")
_NAMES = (
    "route push direction inbound caller wechat role wechat phase request policy wechat-crm revision 0123456789abcdef"
)
_COUNTS = ("values_protected", 2, "values_revealed", 0, "values_allowed", 4, "values_masked", 0, "values_dropped", 0)
_USUAL: tuple[str | int, ...] = (*_NAMES.split(), *_COUNTS)
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 7\r\nConnection: keep-alive\r\n\r\nsuccess"
)


class Clock:
    """The least CPU time of each step so far, in microseconds for one message."""

    def __init__(self) -> None:
        self.least: dict[str, float] = {}

    def run(self, step: str, work: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        """Call `work` for each row of `columns`; return what it returned."""
        rows = list(zip(*columns, strict=True))
        begun = time.process_time()
        done = [work(*row) for row in rows]
        took = (time.process_time() - begun) / len(rows) * 1e6
        self.least[step] = min(took, self.least.get(step, took))
        return done


def main() -> None:
    """Print the table."""
    clock = Clock()
    with scene("ecdsa") as place:
        assembly, keys = _assembled(place)
        pushes = messages.pushes(place.account)
        try:
            for _ in range(_ROUNDS):
                _round(clock, assembly, keys, list(itertools.islice(pushes, _MESSAGES)))
        finally:
            assembly.audit.close()
    total = sum(clock.least.values())
    for step, took in clock.least.items():
        print(f"{step:24}{took:8.2f} us{took / total:8.1%}")
    print(f"{'all':24}{total:8.2f} us")


def _assembled(place: Scene) -> tuple[Assembly, dict[Purpose, DataKey]]:
    directory: Path = place.directory / "steps"
    directory.mkdir()
    config, _ = write_wxgate_config(place, directory, free_port())
    settings = load_settings(config)
    loaded = load(settings, SharedBudget.create())
    assembly = assemble(loaded, new_deliveries(settings, workers=1), 0, StructuredLog(sys.stderr))

    async def keys() -> dict[Purpose, DataKey]:
        return {purpose: await loaded.keys.active(_OWNER, "default", purpose) for purpose in Purpose}

    return assembly, asyncio.run(keys())


def _round(clock: Clock, assembly: Assembly, keys: dict[Purpose, DataKey], deliveries: Sequence[messages.Push]) -> None:
    now, run, world = int(time.time()), clock.run, assembly.gateway._world
    wires = [push.request("localhost", close=False) for push in deliveries]
    heads = run("read the head", read_head, [wire[: wire.index(b"\r\n\r\n") + 4] for wire in wires])
    arrived = [
        Arrived(Request(head.method, head.path, head.query, head.headers, push.body, head.host), _PEER)
        for head, push in zip(heads, deliveries, strict=True)
    ]
    known = run("route, admit", lambda one: journey.admit(journey.find_route(one, assembly.gateway.table)), arrived)
    opened = run("open", journey.open_push, run("verify", lambda one: journey.verify(one, now), known))
    claims = [Delivery(one.triple, one.payload, one.message) for one in opened]
    run("claim", lambda claim: world.deliveries.claim(claim, time.time(), 6.0), claims)
    names = run("name the delivery", lambda one: keys[Purpose.LOOKUP].delivery_id(one.message), opened)
    keyset = Keyset({("default", purpose): key for purpose, key in keys.items()}, {})

    def protect(planned: Planned) -> journey.Protected:
        return journey.protect(planned, keyset, secrets.token_bytes)

    protected = run("protect", protect, run("plan", journey.plan_push, opened))
    requests = run("clear", journey.clear, protected, names)
    run("audit", lambda name: world.audit.append(_record(name, now), _USUAL), names)
    run("write the request", lambda request: encode(request, b"host: localhost\r\n"), requests)
    answers = run("read the answer", _read, [_ANSWER] * len(opened))
    answered = [Answered(one, answer) for one, answer in zip(known, answers, strict=True)]
    run("plan the reply", journey.plan_passive_reply, answered, opened)
    stored = cleared.store(cleared.clear_success())
    run("settle", lambda claim: world.deliveries.settle(claim, stored, time.time()), claims)
    run("measure", lambda _: world.measures.observe("step_seconds", [("protect", 0.001)] * 5), names)


def _read(wire: bytes) -> Response:
    reader = ResponseReader("POST", 1 << 20)
    reader.feed(wire)
    return reader.response()


def _record(delivery: str, now: int) -> dict[str, str | int | float | bool | None]:
    return {"event": "cleared", "at": now + 0.125, "delivery": delivery}


if __name__ == "__main__":
    main()
