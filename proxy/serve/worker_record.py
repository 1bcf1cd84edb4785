"""What the supervisor knows of one worker, from its beats."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from proxy.observe.measures import Snapshot, empty
from proxy.serve.channel import Channel, Message


@dataclass(slots=True)
class WorkerRecord:
    """What the supervisor knows of one worker."""

    slot: int
    pid: int
    born: float
    channel: Channel | None = None
    ready: bool = False
    beat: float = 0.0
    generation: int = 0
    audit: bool = True
    not_ready: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    measures: Snapshot = field(default_factory=empty)
    gauges: list[list[str | float]] = field(default_factory=list)

    def heard(self, message: Message) -> None:
        """Takes up a beat."""
        self.beat = time.monotonic()
        self.ready = self.ready or bool(message.get("ready"))
        if "measures" in message:
            self.measures = Snapshot.from_plain(message["measures"])
            self.gauges, self.audit = message["gauges"], message["audit"]
            self.generation = message["generation"]
            self.not_ready, self.warnings = message["not_ready"], message["warnings"]
