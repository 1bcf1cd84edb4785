"""SIGTERM: what was accepted is answered, what was answered is in the CRM exactly once, and then it ends, in time."""

import concurrent.futures
import http.client
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.emulate.wechat import Delivery
from tests.support.processes import Gateway, alive, until

DRAIN = 8.0


@pytest.fixture(scope="module")
def built() -> Iterator[Gateway]:
    with Gateway(workers=2, drain="8s", patches="s._STUCK_AFTER = 2.5") as it:  # shorter than a slow exchange
        yield it


@pytest.fixture
def gateway(built: Gateway) -> Gateway:
    """Running, whatever the test before did to it."""
    built.crm_behaves("normal")
    built.restart()
    return built


@dataclass
class Sent:
    """What became of the messages of all threads. Each is known by its time stamp, which the CRM gets in clear."""

    answered: list[int] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    refused: list[tuple[int, int]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**9)))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, gateway: Gateway) -> tuple[int, Delivery]:
        with self.lock:
            number = next(self.numbers)
        document = gateway.pusher.message("oLoadP8q7ou2gfYjqLzSIWZf0rsX", "text", Content=f"message {number}")
        return number, gateway.pusher.deliver(re.sub("<CreateTime>[0-9]+<", f"<CreateTime>{number}<", document))

    def push(self, gateway: Gateway, connection: http.client.HTTPSConnection) -> bool:
        """False when the connection is over."""
        number, delivery = self.next(gateway)
        try:
            status, body = gateway.push_over(connection, delivery)
        except (OSError, http.client.HTTPException):
            self.unanswered.append(number)  # the request was on its way: the handshake was done
            return False
        if (status, body) == (200, b"success"):
            self.answered.append(number)
        else:
            self.refused.append((number, status))
        return connection.sock is not None

    def keep_alive(self, gateway: Gateway) -> None:
        while not self.stop.is_set():
            with suppress(OSError), closing(gateway.open()) as connection:
                while not self.stop.is_set() and self.push(gateway, connection):
                    pass
            self.stop.wait(0.005)

    def anew(self, gateway: Gateway) -> None:
        while not self.stop.is_set():
            with suppress(OSError), closing(gateway.open()) as connection:
                self.push(gateway, connection)
            self.stop.wait(0.005)


def in_crm(gateway: Gateway) -> Counter[int]:
    bodies = [entry["body"] for entry in gateway.in_crm()["webhook"]]
    return Counter(int(body.partition("<CreateTime>")[2].partition("<")[0]) for body in bodies)


@pytest.mark.parametrize("run", range(3))
def test_under_load_nothing_that_was_accepted_is_lost(run: int, gateway: Gateway) -> None:
    before, sent = in_crm(gateway), Sent(numbers=iter(range(1 + run * 10**6, 10**9)))
    workers = gateway.pids
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        threads = [pool.submit(work, gateway) for work in (sent.keep_alive, sent.anew) * 3]
        until(lambda: len(sent.answered) > 60, "there is load")
        begun = time.monotonic()
        gateway.gateway.send_signal(signal.SIGTERM)
        code = gateway.gateway.wait(DRAIN + 5)
        took = time.monotonic() - begun
        sent.stop.set()
        for thread in threads:
            thread.result()
    assert (code, took < DRAIN) == (0, True)
    assert sent.refused == []
    assert sent.unanswered == []
    arrived = in_crm(gateway) - before
    assert arrived == Counter(sent.answered)
    assert not any(alive(pid) for pid in workers)


def test_an_exchange_under_way_is_finished(gateway: Gateway) -> None:
    gateway.crm_behaves("slow")
    seen = len(gateway.in_crm()["webhook"])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(gateway.push, gateway.text())
        until(lambda: len(gateway.in_crm()["webhook"]) > seen, "the CRM has it")
        gateway.signalled(signal.SIGTERM, "draining")
        assert gateway.reasons()[0] == "draining"
        gateway.gateway.send_signal(signal.SIGHUP)  # a reload would only delay the end
        assert slow.result(10).status == 503  # slower than the CRM may be: WeChat delivers it again
    assert gateway.gateway.wait(10) == 0
    assert gateway.events("reloaded") == [] == gateway.events("reload_failed")


def test_an_idle_connection_is_closed_and_one_that_asks_is_told(gateway: Gateway) -> None:
    with closing(gateway.open()) as idle, closing(gateway.open()) as busy:
        assert gateway.push_over(idle, gateway.text())[0] == 200
        gateway.signalled(signal.SIGTERM, "draining")
        busy.request("GET", "/")
        answer = busy.getresponse()
        assert (answer.status, answer.getheader("connection")) == (404, "close")
        assert idle.sock.recv(1) == b""
    assert gateway.gateway.wait(10) == 0


def test_nobody_new_is_let_in(gateway: Gateway) -> None:
    with closing(gateway.open()) as half:
        half.sock.sendall(b"POST /wechat/shop HTTP/1.1\r\nHost: localhost\r\n")
        gateway.signalled(signal.SIGTERM, "draining")
        until(lambda: refuses(gateway), "connections are refused")
        assert gateway.gateway.poll() is None, "the half request is still waited for"
    assert gateway.gateway.wait(10) == 0


def refuses(gateway: Gateway) -> bool:
    try:
        gateway.open().close()
    except ConnectionError:
        return True
    return False


def test_a_second_signal_ends_it_at_once(gateway: Gateway) -> None:
    gateway.crm_behaves("slow")
    seen, workers = len(gateway.in_crm()["webhook"]), gateway.pids
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(gateway.push, gateway.text())
        until(lambda: len(gateway.in_crm()["webhook"]) > seen, "the CRM has it")
        gateway.signalled(signal.SIGTERM, "draining")
        gateway.gateway.send_signal(signal.SIGTERM)
        assert gateway.gateway.wait(5) == 0
        # Not the answer that the exchange would have come to: it was cut.
        assert isinstance(slow.exception(10), OSError | http.client.HTTPException)
    assert not any(alive(pid) for pid in workers)


def test_the_deadline_holds_against_one_who_never_ends(gateway: Gateway) -> None:
    """A body that trickles in: cut when the drain's time is over, not before."""
    text = gateway.config.read_text()
    gateway.config.write_text(text.replace("drain: 8s", "drain: 1s"))
    gateway.signalled(signal.SIGHUP, "reloaded")
    until(lambda: gateway.is_ready(), "the workers have it")
    with closing(gateway.open()) as half:
        half.sock.sendall(b"POST /wechat/shop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
        until(lambda: gateway.figure("wxgate_connections") >= 1, "it is open")
        begun = time.monotonic()
        gateway.gateway.terminate()
        assert gateway.gateway.wait(6) == 0
        assert 0.9 < time.monotonic() - begun < 4
        with suppress(ConnectionError):
            assert half.sock.recv(1000) == b""
    gateway.config.write_text(text)


def test_a_signal_before_the_workers_are_up_ends_it_too(gateway: Gateway) -> None:
    gateway.gateway.terminate()
    assert gateway.gateway.wait(10) == 0
    for _ in range(3):
        before = len(gateway.events("starting"))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            started = pool.submit(gateway.restart)
            until(lambda before=before: len(gateway.events("starting")) > before, "it starts")
            gateway.gateway.terminate()
            code = gateway.gateway.wait(5)
            started.exception(40)
        assert code in (0, -signal.SIGTERM)


def test_nothing_is_left_behind(gateway: Gateway) -> None:
    before = set(Path("/dev/shm").iterdir())
    workers = gateway.pids
    gateway.gateway.send_signal(signal.SIGINT)  # ^C is a drain too
    assert gateway.gateway.wait(10) == 0
    assert not any(alive(pid) for pid in workers)
    assert set(Path("/dev/shm").iterdir()) <= before
    kept = {path.name for path in gateway.directory.iterdir()}
    assert kept == {"certs", "gateway.log", "gateway.yaml", "policies", "secrets", "state"}
    assert {path.name for path in (gateway.directory / "state").iterdir()} >= {"audit"}
