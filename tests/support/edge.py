"""The gateway's front door for tests: a real `Listener` on a real socket, served in a thread of its own, by
uvloop as in a worker, with a scripted gateway behind it; and callers that speak to it byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import trustme
import uvloop

from proxy import cleared
from proxy.cleared import ClearedReply
from proxy.edge.listener import Listener
from proxy.edge.listener_settings import KeyPair, Limits, ListenerSettings, TlsSettings
from proxy.edge.tls import ContextSet
from proxy.gateway import Gateway, Refused, World
from proxy.journey import Arrived
from proxy.route import Route, RouteKind, RouteTable
from tests.support.servers import PATIENCE, Authority

MAX_BODY = 256 * 1024
GET = b"GET /hook HTTP/1.1\r\nHost: localhost\r\n\r\n"


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Waits for what another thread brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


def key_pair(authority: Authority, *names: str, rsa: bool = False, file: str = "") -> KeyPair:
    """Files of a server certificate for `names`."""
    kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
    leaf = authority.ca.issue_cert(*names, key_type=kind)
    stem = authority.directory / (file or f"{names[0].replace('*', 'any')}-{kind.name}")
    pair = KeyPair(stem.with_name(stem.name + ".pem"), stem.with_name(stem.name + ".key"))
    pair.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(pair.key))
    return pair


class Ledger:
    """Implements ports.Measures and ports.Log: keeps everything it is told."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.faults: list[BaseException] = []

    def count(self, name: str, *labels: str) -> None:
        self.counts[(name, *labels)] += 1

    def count_each(self, name: str, amounts: Mapping[str, int]) -> None:
        for label, amount in amounts.items():
            self.counts[name, label] += amount

    def observe(self, name: str, samples: Iterable[tuple[str, float]]) -> None:
        """Durations are of no interest here."""

    def write(self, level: int, event: str, **facts: str | int | float) -> None:
        self.lines.append((event, facts))

    def fault(self, error: BaseException) -> None:
        self.faults.append(error)


type Reply = ClearedReply | Refused
type Script = Callable[[Arrived], Reply]


def reply(body: bytes, status: int = 200) -> ClearedReply:
    """A cleared reply, made past the policy."""
    return ClearedReply(cleared._SEAL, status, b"text/plain", body)


class ScriptedGateway(Gateway):
    """Answers with `script`; waits before that while `hold` is set."""

    def __init__(self, max_body: int) -> None:
        route = Route(
            "hook", RouteKind.INBOUND, "public", frozenset(), "/hook", "crm", "p", "acme", "cn", max_body=max_body
        )
        super().__init__(RouteTable((route,), {}), cast(World, None))
        self.arrived: list[Arrived] = []
        self.hold = False
        self.cancelled = 0
        self.script: Script = lambda arrived: reply(arrived.request.query.encode() or b"ok")

    async def handle(self, arrived: Arrived) -> Reply:
        self.arrived.append(arrived)
        try:
            while self.hold:
                await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.script(arrived)


class Edge:
    """`with Edge(authority) as edge:` listens on loopback. `names`: further server names with certificates."""

    def __init__(
        self,
        authority: Authority,
        *,
        limits: Limits | None = None,
        default: KeyPair | None = None,
        names: dict[str, KeyPair] | None = None,
        max_body: int = MAX_BODY,
        proxy_protocol: bool = False,
        client_names: frozenset[str] = frozenset(),
        **tls: Any,
    ) -> None:
        default = default or key_pair(authority, "localhost", "127.0.0.1")
        settings = TlsSettings(default, names or {}, **tls)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self.socket.getsockname()[1]
        self.authority, self.ledger, self.gateway = authority, Ledger(), ScriptedGateway(max_body)
        self.listener = Listener(
            ListenerSettings(
                "public", "127.0.0.1", self.port, settings, limits or Limits(), proxy_protocol, client_names
            ),
            ContextSet(settings),
            self.gateway,
            self.ledger,
            self.ledger,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready, self._over = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.gateway.hold = False
        self._over.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        async def main() -> None:
            await self.listener.start(self.socket)
            self._ready.set()
            while not self._over.is_set():
                await asyncio.sleep(0.01)
            await self.listener.drain(0.0)
            while self.listener.connections:
                await asyncio.sleep(0.005)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    def in_loop(self, work: Callable[[], object]) -> None:
        """Runs `work` in the listener's thread."""
        self.listener.loop.call_soon_threadsafe(work)

    @property
    def cpu(self) -> float:
        """Seconds of CPU the listener's thread has used; those of callers and of other processes are not in it."""
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident or 0))

    @property
    def cuts(self) -> dict[str, int]:
        """Connections cut by the gateway, by reason."""
        return {key[2]: count for key, count in self.ledger.counts.items() if key[0] == "connections_cut"}

    @property
    def handshakes(self) -> int:
        """How many came to their end so far."""
        return sum(count for key, count in self.ledger.counts.items() if key[0] == "handshakes")

    def has_shaken_hands(self, before: int) -> bool:
        """Whether there are more than `before`."""
        return self.handshakes > before

    @property
    def refusals(self) -> list[str]:
        return [str(facts["code"]) for event, facts in self.ledger.lines if event == "refused"]

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority.ca_file)

    def dial(self, before: bytes = b"") -> socket.socket:
        """A TCP connection; `before` is sent first."""
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if before:
            sock.sendall(before)
        return sock

    @contextlib.contextmanager
    def caller(
        self,
        context: ssl.SSLContext | None = None,
        name: str | None = "localhost",
        before: bytes = b"",
        session: ssl.SSLSession | None = None,
    ) -> Iterator[Caller]:
        """A caller after its handshake. `name`: the SNI, None for none."""
        context = context or self.trust()
        if name is None:
            context.check_hostname = False
        raw = self.dial(before)
        try:
            tls = context.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False, session=session)
        except BaseException:
            raw.close()
            raise
        with tls, tls.makefile("rb") as file:  # the socket is closed when both are
            yield Caller(tls, file)

    def ask(self, request: bytes) -> Answer:
        """One request over a connection of its own."""
        with self.caller() as caller:
            return caller.ask(request)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. `raw`: every byte of it."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes

    @property
    def code(self) -> str:
        """The code of a refusal."""
        return self.body.decode().partition('"code": "')[2].partition('"')[0]


class _Recorder:
    """What http.client reads from; keeps a copy."""

    def __init__(self, file: Any) -> None:
        self.file, self.raw = file, bytearray()

    def makefile(self, _mode: str) -> Any:
        return self

    def readline(self, limit: int = -1) -> bytes:
        self.raw += (line := self.file.readline(limit))
        return bytes(line)

    def read(self, amount: int = -1) -> bytes:
        self.raw += (data := self.file.read(amount))
        return bytes(data)

    def flush(self) -> None:
        """Nothing is ever written."""

    def close(self) -> None:
        """The connection goes on."""


class Caller:
    """One TLS connection of a client."""

    def __init__(self, tls: ssl.SSLSocket, file: BinaryIO) -> None:
        self.tls, self._file = tls, file

    def send(self, data: bytes) -> None:
        self.tls.sendall(data)

    def ask(self, request: bytes) -> Answer:
        self.send(request)
        return self.answer()

    def answer(self) -> Answer:
        """The next response."""
        recorder = _Recorder(self._file)
        response = http.client.HTTPResponse(cast(socket.socket, recorder))
        response.begin()
        body = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, body, bytes(recorder.raw))

    def line(self) -> bytes:
        return self._file.readline()

    def end(self) -> str:
        """How the connection ends, if nothing more comes: `close_notify`, `eof` or `reset`."""
        return how_it_ends(self._file.read)


def how_it_ends(read: Callable[[int], bytes]) -> str:
    try:
        data = read(1)
    except ssl.SSLEOFError:
        return "eof"
    except ConnectionResetError:
        return "reset"
    assert data == b"", f"{data!r} came"
    return "close_notify"


def rest(sock: socket.socket) -> bytes:
    """Everything that comes on a plain connection until it ends or is reset."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := sock.recv(65536):
            data += more
    return data


def cut_in_silence(sock: socket.socket) -> bool:
    """Whether the other side ends a plain connection without a byte."""
    return rest(sock) == b""


def first_flight(server_name: str = "localhost") -> bytes:
    """The bytes of a ClientHello as a real client sends them: one record."""
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=server_name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


class RecordCaller:
    """A client whose records are not sent by themselves: what it writes can be held back, joined, cut, damaged."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Does the handshake; its last flight is not sent yet."""
        self._into, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._sock, self._tls = sock, context.wrap_bio(self._into, self._out, server_hostname="localhost")
        while True:
            try:
                self._tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                sock.sendall(self._out.read())
                self._into.write(sock.recv(65536))

    def written(self, data: bytes = b"") -> bytes:
        """The records of `data`, with what was not asked for before."""
        if data:
            self._tls.write(data)
        return self._out.read()

    def closing(self) -> bytes:
        """The record that says the end."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._out.read()

    def read(self, size: int) -> bytes:
        """So many bytes of what the other side sent, fewer if it ended."""
        data = b""
        while len(data) < size:
            try:
                more = self._tls.read(size - len(data))
            except ssl.SSLWantReadError:
                if not (wire := self._sock.recv(65536)):
                    return data
                self._into.write(wire)
            except ssl.SSLZeroReturnError:
                return data
            else:
                data += more
        return data


def records(message: bytes, size: int, kind: int = 22) -> bytes:
    """`message` in TLS records of `size` bytes each."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(bytes((kind, 3, 1)) + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def resident(pid: int | str = "self") -> int:
    """Bytes of memory a process has in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096
