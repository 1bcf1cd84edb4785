"""The link to Redis is bounded as a whole, in time and in bytes, whatever answers."""

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import pytest

from proxy.kms.keyring_file import MAX_BYTES
from proxy.kms.redis_bounds import Bounds, TooLargeError
from proxy.kms.redis_link import RedisDownError, RedisLink
from proxy.kms.redis_settings import RedisSettings
from proxy.kms.service import KeysError
from tests.support.redis_server import RedisServer

_SHORT = 0.5


@pytest.fixture
def link(server: RedisServer) -> Iterator[RedisLink]:
    link = RedisLink(replace(server.settings, name=secrets.token_hex(4)))
    yield link
    link.close()


def test_what_was_put_there_is_read(link: RedisLink) -> None:
    assert link.read() is None
    assert link.swap(b"", b"1", b"words") and link.read() == (b"1", b"words")
    assert not link.swap(b"", b"2", b"others") and link.swap(b"1", b"2", b"others")


def test_what_is_larger_than_a_keyring_is_not_even_sent(link: RedisLink) -> None:
    assert link.swap(b"", b"1", bytes(MAX_BYTES))
    assert link.read() == (b"1", bytes(MAX_BYTES)), "what is just as large is"
    assert link.swap(b"1", b"2", bytes(MAX_BYTES + 1))
    with pytest.raises(KeysError, match="no keyring"):
        link.read()
    assert link.bounds.received < 100
    assert link.swap(b"2", b"3", b"words") and link.read() == (b"3", b"words"), "the connection goes on"


@pytest.mark.parametrize("members", [{"revision": "1"}, {"revision": "1" * 21, "document": "x"}])
def test_what_is_no_keyring_is_told(link: RedisLink, members: dict[str, str]) -> None:
    with link.exchange():
        link._client.hset(link._key, mapping=members)
        with pytest.raises(KeysError, match="no keyring") as error:
            link.read()
    assert not isinstance(error.value, RedisDownError)


# --- what is no Redis


@contextmanager
def answering(serve: Callable[[socket.socket], None]) -> Iterator[RedisSettings]:
    """A server whose every connection is given to `serve`, until the test is over."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = []

    def one(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_ones.append(connection)
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield RedisSettings("127.0.0.1", listener.getsockname()[1], tls=False, timeout=_SHORT)
    listener.close()
    for connection in open_ones:
        connection.close()


def answers(*parts: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    """Each question gets +OK until the script comes; that gets `parts`, for ever, with `pause` between them."""

    def serve(connection: socket.socket) -> None:
        asked = b""
        while b"EVAL" not in asked:
            asked = connection.recv(65536)
            if not asked:
                return
            if b"EVAL" not in asked:
                connection.sendall(b"+OK\r\n" * asked.count(b"*"))
        connection.sendall(parts[0])
        while True:
            connection.sendall(parts[-1])
            threading.Event().wait(pause)

    return serve


@pytest.mark.parametrize("where", ["at once", "in the answer"])
def test_a_server_that_drips_holds_nobody_for_longer_than_the_time_out(where: str) -> None:
    def at_once(connection: socket.socket) -> None:
        connection.sendall(b"+")
        while True:
            connection.sendall(b"O")
            threading.Event().wait(_SHORT / 10)

    serve = at_once if where == "at once" else answers(b"$1000\r\n", b"x", pause=_SHORT / 10)
    with answering(serve) as settings:
        link = RedisLink(settings)
        begun = time.monotonic()
        with pytest.raises(RedisDownError, match="Timeout"):
            link.read()
        assert time.monotonic() - begun < 10 * _SHORT, "a thousand bytes would take a hundred times as long"
        link.close()


def test_one_deadline_is_for_all_questions_of_an_exchange() -> None:
    """Each is answered in time; all together are not."""

    def serve(connection: socket.socket) -> None:
        while asked := connection.recv(65536):
            threading.Event().wait(_SHORT / 4)
            connection.sendall(b":0\r\n" if b"EVAL" in asked else b"+OK\r\n" * asked.count(b"*"))

    with answering(serve) as settings:
        link = RedisLink(settings)
        with link.exchange(), pytest.raises(RedisDownError, match="Timeout"):
            for _ in range(20):
                link.swap(b"1", b"2", b"words")
        link.close()


def test_of_an_endless_answer_no_more_is_held_than_a_keyring_may_have() -> None:
    with answering(answers(b"*2\r\n$1\r\n1\r\n$4000000000\r\n", bytes(1 << 20))) as settings:
        link = RedisLink(replace(settings, timeout=30.0))
        with pytest.raises(KeysError, match="no keyring"):
            link.read()
        assert MAX_BYTES < link.bounds.received < MAX_BYTES + (1 << 20)
        link.close()


@pytest.mark.parametrize("answer", [b"*1\r\n" * 5000, b":" + b"9" * 5000 + b"\r\n", b"!\r\n"])
def test_what_redis_never_says_is_an_outage(answer: bytes) -> None:
    with answering(answers(answer, b"")) as settings:
        link = RedisLink(settings)
        with pytest.raises(RedisDownError):
            link.read()
        link.close()


@pytest.mark.parametrize("answer", [b":7\r\n", b"*1\r\n:7\r\n", b"*2\r\n:1\r\n:2\r\n", b"+OK\r\n"])
def test_another_answer_is_no_keyring(answer: bytes) -> None:
    with answering(answers(answer, b"")) as settings:
        link = RedisLink(settings)
        with pytest.raises(KeysError, match="no keyring"):
            link.read()
        link.close()


# --- a name


@pytest.fixture
def silent() -> Iterator[list[tuple[str, int]]]:
    """Addresses where nobody answers: their queues are full."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(4)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())
        yield [listener.getsockname() for listener in listeners]


def resolving(monkeypatch: pytest.MonkeyPatch, work: Callable[[], list[tuple[str, int]]]) -> None:
    """Every name has the addresses that `work` gives."""

    def look_up(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in work()]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize("tls", [False, True])
def test_the_deadline_is_for_all_addresses_together(
    silent: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    resolving(monkeypatch, lambda: silent)
    link = RedisLink(RedisSettings("redis.example", 6379, tls=tls, timeout=_SHORT))
    begun = time.monotonic()
    with pytest.raises(RedisDownError):
        link.read()
    assert time.monotonic() - begun < 3 * _SHORT, "each could take as long"
    link.close()


def test_an_address_that_says_nothing_leaves_time_for_the_next(
    server: RedisServer, silent: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, lambda: [silent[0], ("127.0.0.1", server.settings.port)])
    link = RedisLink(replace(server.settings, name=secrets.token_hex(4), timeout=2.0))
    assert link.read() is None
    link.close()


def test_a_resolver_that_hangs_holds_nobody_and_has_one_thread(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, over = [], threading.Event()

    def slowly() -> list[tuple[str, int]]:
        asked.append(1)
        assert over.wait(30)
        return [("127.0.0.1", server.settings.port)]

    resolving(monkeypatch, slowly)
    link = RedisLink(replace(server.settings, name=secrets.token_hex(4), timeout=_SHORT))
    for _ in range(3):
        with pytest.raises(RedisDownError, match="Timeout"):
            link.read()
    assert len(asked) == 1
    over.set()
    assert link.read() is None
    link.close()


def test_a_name_that_nobody_knows_is_asked_for_again(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[str, int]] = []

    def look_up() -> list[tuple[str, int]]:
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return found

    resolving(monkeypatch, look_up)
    link = RedisLink(replace(server.settings, name=secrets.token_hex(4)))
    with pytest.raises(RedisDownError):
        link.read()
    found.append(("127.0.0.1", server.settings.port))
    assert link.read() is None
    link.close()


def test_bounds() -> None:
    at = 0.0
    bounds = Bounds(2.0, 10, lambda: at)
    bounds.begin()
    assert bounds.left() == 2.0 and bounds.left(0.0) == 0.0 and bounds.left(5.0) == 2.0
    at = 2.0
    with pytest.raises(TimeoutError):
        bounds.left()
    bounds.begin()
    bounds.take(10)
    with pytest.raises(TooLargeError):
        bounds.take(1)
    bounds.expect()
    bounds.take(10)
