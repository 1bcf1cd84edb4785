"""A whole gateway inside the test's own process: the real composition root on real sockets, so that a test can make any
of its functions fail, against upstreams that keep every byte they were sent."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

from proxy.emulate.crm import Crm
from proxy.emulate.server import Call, Handler, Result
from proxy.emulate.stage import API, PUSH_PATH, SEND, Stage
from proxy.emulate.wechat import ACCESS_TOKEN, Api
from proxy.gateway import World
from proxy.kms.budget import SharedBudget
from proxy.observe.log import StructuredLog
from proxy.serve.assemble import Assembly, assemble, load, new_deliveries
from proxy.serve.settings import load_settings
from proxy.serve.sockets import listen
from tests.support.servers import Server

PATIENCE = 4.0
"""Seconds an exchange may take before a test says that it hangs."""


class Upstream:
    """An emulated system in threads of this process. `received`: every byte of application data it ever got."""

    def __init__(self, handler: Handler, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self.handler = handler
        self.received = bytearray()
        self.server = Server(context, self._serve)

    def _serve(self, peer: socket.socket, _server: Server) -> None:
        buffer = b""
        while data := peer.recv(65536):
            self.received += data
            buffer += data
            while (call := _take(buffer)) is not None:
                buffer = b""  # one request at a time: the gateway does not pipeline
                peer.sendall(_encode(self.handler(call)))


def _take(buffer: bytes) -> Call | None:
    head, found, body = buffer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if not found or len(body) < int(headers.get("content-length", 0)):
        return None
    method, target, _ = lines[0].split(" ")
    path, _, query = target.partition("?")
    return Call(method, path, query, headers, body)


def _encode(result: Result) -> bytes:
    head = f"HTTP/1.1 {result.status} X\r\ncontent-type: {result.content_type}\r\ncontent-length: {len(result.body)}"
    return f"{head}\r\n\r\n".encode() + result.body


class _Files(Stage):
    """Certificates, keys, policies and configuration of a stage; the systems around it are the test's."""

    def __init__(self, start: Callable[[str, Path], int]) -> None:
        super().__init__()
        self._start_upstream = start

    def emulate(self, who: str) -> int:
        return self._start_upstream(who, self.directory / "certs" / f"{who}.pem")


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What the caller's socket got until its end. `raw` is empty if the connection was cut."""

    raw: bytes

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1]) if self.raw else 0

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def content_type(self) -> bytes:
        head = self.raw.partition(b"\r\n\r\n")[0]
        return next((line[14:] for line in head.split(b"\r\n") if line.startswith(b"content-type: ")), b"")


class _Caller(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self.request, self.raw = request, b""
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.raw += data

    def connection_lost(self, _error: Exception | None) -> None:
        self.over.set_result(None)


class House:
    """`with House() as house:` is up. Its event loop runs only inside `run` and `ask`."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.upstreams: dict[str, Upstream] = {}
        self.crm, self.api = Crm(), Api()
        self.crm_answers: Callable[[Call], Result] | None = None
        self.numbers = itertools.count(1)
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.files = _Files(self._upstream)
        self._exit.callback(self.files.close)
        self.files.prepare()
        self.runner = self._exit.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        self.budget = SharedBudget.create()
        loaded = load(load_settings(self.files.config), self.budget)
        loaded.keys.upkeep.keep_now()
        self.deliveries = new_deliveries(loaded.settings, workers=1)
        self.assembly: Assembly = assemble(loaded, self.deliveries, 0, StructuredLog(self.log.append))
        self.client_tls = self.files.tls()
        self.run(self._start())
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.run(self._stop())
        self.assembly.audit.close()
        self._exit.close()
        self.deliveries.close()
        self.assembly.loaded.keys.close()
        self.budget.close()

    def _upstream(self, who: str, certificate: Path) -> int:
        upstream = Upstream(self._crm if who == "crm" else self.api.handle, certificate)
        self.upstreams[who] = self._exit.enter_context(_Serving(upstream))
        return upstream.server.port

    def _crm(self, call: Call) -> Result:
        return self.crm_answers(call) if self.crm_answers else self.crm.handle(call)

    async def _start(self) -> None:
        for item in self.assembly.loaded.settings.listeners:
            await self.assembly.listeners[item.name].start(listen(item.host, item.port))

    async def _stop(self) -> None:
        for listener in self.assembly.listeners.values():
            await listener.drain(0.0)
        await self.assembly.upstream.close()

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # --- what tests turn

    @property
    def world(self) -> World:
        return self.assembly.gateway._world

    @world.setter
    def world(self, world: World) -> None:
        self.assembly.gateway._world = world
        for listener in self.assembly.listeners.values():
            listener._measures, listener._log = world.measures, world.log

    def keys_must_be_waited_for(self) -> None:
        """None is at hand for the next exchange: it takes every step there is."""
        self.assembly.loaded.keys._reading.holdings.ready.clear()

    def deadline(self, seconds: float) -> None:
        """Gives every route this deadline."""
        table = self.assembly.gateway.table
        routes = tuple(dataclasses.replace(route, deadline=seconds) for route in table.routes)
        self.assembly.gateway.table = dataclasses.replace(table, routes=routes)

    # --- what went out

    @property
    def sent(self) -> int:
        """Bytes the upstreams have got so far."""
        return sum(len(upstream.received) for upstream in self.upstreams.values())

    def audited(self) -> str:
        files = self.assembly.loaded.settings.audit.rglob("*")
        return "".join(file.read_text() for file in files if file.is_file())

    # --- callers

    def ask(self, port: int, request: bytes, *, leave: asyncio.Event | None = None) -> Answer:
        return self.run(self._ask(port, request, leave))

    async def _ask(self, port: int, request: bytes, leave: asyncio.Event | None) -> Answer:
        """One request on a connection of its own, until its end. The caller goes away when `leave` is set."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            _, caller = await loop.create_connection(
                lambda: _Caller(request), "127.0.0.1", port, ssl=self.client_tls, server_hostname="localhost"
            )
            if leave is not None:
                await leave.wait()
                caller.transport.abort()
            await caller.over
            while any(listener.connections for listener in self.assembly.listeners.values()):
                await asyncio.sleep(0.001)
        return Answer(caller.raw)

    def push(self, document: str, **how: Any) -> Answer:
        return self.deliver(self.files.pusher.deliver(document, **how))

    def deliver(self, delivery: Any, *, leave: asyncio.Event | None = None) -> Answer:
        target = f"{PUSH_PATH}?{delivery.query}"
        return self.ask(self.files.public, http("POST", target, delivery.body), leave=leave)

    def call(
        self, who: str, method: str, target: str, value: object = None, *, leave: asyncio.Event | None = None
    ) -> Answer:
        body = b"" if value is None else json.dumps(value, ensure_ascii=False).encode()
        bearer = f"authorization: Bearer {self.files.secrets[f'{who}-bearer']}\r\n"
        return self.ask(self.files.internal, http(method, target, body, bearer), leave=leave)

    # --- the conversation tests begin with

    def text(self, marker: str = "", **fields: str) -> str:
        return self.files.pusher.message(f"oFollower{marker}", "text", Content=f"words {marker}", **fields)

    def converse(self) -> None:
        """A prepared answer, a push and an agent's answer, so that the CRM holds a token of each."""
        assert self.call("agent", "POST", f"{API}WeChat_Template__c", {"Name": "n", "Text__c": "hi"}).status == 201
        assert self.push(self.text("one")).status == 200
        answer = {"OpenId__c": "oFollowerone", "Text__c": "an answer"}
        assert self.call("agent", "POST", f"{API}WeChat_Answer__c", answer).status == 201

    def record(self, kind: str) -> tuple[str, dict[str, Any]]:
        """Path and content of the last record of its kind in the CRM."""
        return [(key, value) for key, value in self.crm.records.items() if key.startswith(f"{kind}/")][-1]

    def outgoing(self) -> tuple[str, dict[str, Any]]:
        """Target and body of the CRM's call that sends the agent's answer."""
        answer = self.record("WeChat_Answer__c")[1]
        message = {"touser": answer["OpenId__c"], "msgtype": "text", "text": {"content": answer["Text__c"]}}
        return f"{SEND}?access_token={ACCESS_TOKEN}", message


def http(method: str, target: str, body: bytes = b"", extra: str = "", *, host: str = "localhost") -> bytes:
    length = f"content-length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{extra}{length}\r\n".encode() + body


class _Serving(contextlib.AbstractContextManager[Upstream]):
    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def __enter__(self) -> Upstream:
        self.upstream.server.__enter__()
        return self.upstream

    def __exit__(self, *why: Any) -> None:
        self.upstream.server.__exit__(*why)
