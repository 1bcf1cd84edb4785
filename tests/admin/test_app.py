"""The administrator's page over a real socket: who may ask, what it tells, and what it never says."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.admin.app import serve_admin
from proxy.observe.measures import Key, Snapshot, empty
from proxy.serve.sockets import listen

TOKEN = "token-of-the-administrator"


@dataclass
class Told:
    """What the page shows, set by the test."""

    reasons: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    reloads: int = 0
    good: bool = True
    fault: BaseException | None = None

    def not_ready(self) -> list[str]:
        if self.fault:
            raise self.fault
        return self.reasons

    def warnings(self) -> list[str]:
        return self.alarms

    def measures(self) -> tuple[Snapshot, dict[Key, float]]:
        return Snapshot({("exchanges", "push", "answered"): 3}, empty().buckets), {("ready",): 1.0}

    def reload(self, cause: str) -> bool:
        assert cause == "admin"
        self.reloads += 1
        return self.good


@dataclass
class Page:
    """The served page and what is behind it."""

    told: Told
    port: int

    async def ask(self, target: str, method: str = "GET", **headers: str) -> "Answer":
        fields = {"Host": "127.0.0.1", "Connection": "close"} | {key.replace("_", "-"): headers[key] for key in headers}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value != "-")]
        return await self.send("\r\n".join([*lines, "", ""]).encode())

    async def send(self, raw: bytes) -> "Answer":
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(raw)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return Answer(int(first.split()[1]) if first else 0, headers, body)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def served(token_hash: bytes) -> AsyncIterator[Page]:
    told, sock = Told(), listen("127.0.0.1", 0)
    server = serve_admin(told, token_hash)
    server.add_sockets([sock])
    yield Page(told, sock.getsockname()[1])
    server.stop()
    await server.close_all_connections()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async for it in served(hashlib.sha256(TOKEN.encode()).digest()):
        yield it


@pytest.fixture
async def locked() -> AsyncIterator[Page]:
    """A page without a token."""
    async for it in served(b""):
        yield it


async def test_it_is_alive_whatever_the_rest_is(page: Page) -> None:
    page.told.reasons = ["0 of 1 workers are ready"]
    answer = await page.ask("/healthz")
    assert (answer.status, answer.json) == (200, {"status": "alive"})


async def test_ready_or_not_with_every_reason(page: Page) -> None:
    assert (await page.ask("/readyz")).json == {"ready": True, "reasons": [], "warnings": []}
    page.told.reasons = ["draining", "1 of 2 workers are ready"]
    answer = await page.ask("/readyz")
    assert (answer.status, answer.json) == (
        503,
        {"ready": False, "reasons": page.told.reasons, "warnings": []},
    )


async def test_what_is_only_to_be_looked_at_takes_nothing_out_of_service(page: Page) -> None:
    page.told.alarms = ["reload failed: words"]
    answer = await page.ask("/readyz")
    assert (answer.status, answer.json) == (200, {"ready": True, "reasons": [], "warnings": ["reload failed: words"]})


async def test_metrics_are_what_prometheus_reads(page: Page) -> None:
    answer = await page.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {it.name: it for it in text_string_to_metric_families(answer.body.decode())}
    assert [it.value for it in families["wxgate_exchanges"].samples] == [3]


HOSTS = ["127.0.0.1", "127.0.0.1:9090", "localhost", "localhost:9090", "[::1]:9090", "127.9.9.9"]


@pytest.mark.parametrize("host", HOSTS)
async def test_loopback_names_are_let_in(host: str, page: Page) -> None:
    assert (await page.ask("/healthz", Host=host)).status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:9090", "10.0.0.1", "0.0.0.0", "localhost."])
async def test_a_page_of_another_name_is_refused(host: str, path: str, page: Page) -> None:
    """DNS rebinding: a browser sends the name it believes to speak to."""
    answer = await page.ask(path, Host=host)
    assert (answer.status, answer.json) == (403, {"error": {"code": "host_refused"}})


async def test_without_a_host_or_with_two_nothing_is_told(page: Page) -> None:
    for head in (b"", b"Host: localhost\r\nHost: evil.example\r\n", b"Host: localhost, evil.example\r\n"):
        answer = await page.send(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n" + head + b"\r\n")
        assert answer.status in (400, 403)
        assert b"wxgate" not in answer.body


@pytest.mark.parametrize("origin", ["http://localhost:9090", "null", "https://evil.example", ""])
@pytest.mark.parametrize("path,method", [("/healthz", "GET"), ("/reload", "POST")])
async def test_no_web_page_may_ask(origin: str, path: str, method: str, page: Page) -> None:
    answer = await page.ask(path, method, Origin=origin, Authorization=f"Bearer {TOKEN}", Content_Length="0")
    assert (answer.status, answer.json) == (403, {"error": {"code": "host_refused"}})
    assert page.told.reloads == 0


async def reload(page: Page, **headers: str) -> Answer:
    return await page.ask("/reload", "POST", Content_Length="0", **headers)


async def test_a_reload_with_the_token(page: Page) -> None:
    answer = await reload(page, Authorization=f"Bearer {TOKEN}")
    assert (answer.status, answer.json) == (200, {"reloaded": True, "warnings": []})
    page.told.good, page.told.alarms = False, ["reload failed: words"]
    answer = await reload(page, Authorization=f"Bearer {TOKEN}")
    assert (answer.status, answer.json) == (409, {"reloaded": False, "warnings": ["reload failed: words"]})
    assert page.told.reloads == 2


@pytest.mark.parametrize(
    "header", ["-", "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer ü"]
)
async def test_no_reload_without_the_token(header: str, page: Page) -> None:
    answer = await reload(page, Authorization=header)
    assert (answer.status, answer.json) == (401, {"error": {"code": "token_required"}})
    assert page.told.reloads == 0


@pytest.mark.parametrize("header", ["-", "", "Bearer ", "Bearer x"])
async def test_without_a_configured_token_there_is_no_reload(header: str, locked: Page) -> None:
    assert (await reload(locked, Authorization=header)).status == 401
    assert locked.told.reloads == 0


@pytest.mark.parametrize("path", ["/", "/metrics/", "/Metrics", "/debug", "/..%2fmetrics", "//metrics", "/favicon.ico"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_everything_else_is_not_there(path: str, method: str, page: Page) -> None:
    answer = await page.ask(path, method, Content_Length="0")
    assert (answer.status, answer.json) == (404, {"error": {"code": "not_found"}})


@pytest.mark.parametrize("path,method", [("/reload", "GET"), ("/metrics", "POST"), ("/readyz", "PUT"), ("/x", "BREW")])
async def test_other_methods_are_not_served(path: str, method: str, page: Page) -> None:
    answer = await page.ask(path, method, Content_Length="0", Authorization=f"Bearer {TOKEN}")
    assert answer.status in (404, 405)
    assert answer.json["error"]["code"] in ("failed", "not_found")
    assert page.told.reloads == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/reload", "/nothing"])
async def test_no_answer_names_the_software_or_may_be_kept(path: str, page: Page) -> None:
    for headers in ({}, {"Host": "evil.example"}):
        answer = await page.ask(path, **headers)
        assert "server" not in answer.headers
        assert b"tornado" not in answer.body.lower()
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_fault_tells_nothing(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    page.told.fault = RuntimeError("secret words")
    answer = await page.ask("/readyz")
    assert (answer.status, answer.json) == (500, {"error": {"code": "failed"}})
    assert capfd.readouterr() == ("", "")


async def test_a_body_or_a_head_too_large_is_refused(page: Page) -> None:
    head = f"POST /reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    for rest in (f"Content-Length: 5000\r\n\r\n{'x' * 5000}", f"X: {'y' * 20000}\r\n\r\n"):
        with contextlib.suppress(ConnectionError):  # closed while we were still sending
            assert (await page.send((head + rest).encode())).status in (0, 400, 413, 431)
    assert page.told.reloads == 0
