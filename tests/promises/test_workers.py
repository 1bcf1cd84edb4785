"""N processes on one port: they share the load and what was said already, and one that dies is replaced."""

import concurrent.futures
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.observe import log
from tests.support.processes import Gateway, alive, children, descriptors, listening, state, until

WORKERS = 3
STUCK = 2.0


@pytest.fixture(scope="module")
def built() -> Iterator[Gateway]:
    with Gateway(workers=WORKERS, patches=f"s._STUCK_AFTER = {STUCK}") as it:
        yield it


@pytest.fixture
def gateway(built: Gateway) -> Gateway:
    until(lambda: built.is_ready() and len(built.pids) == WORKERS, "all workers are ready")
    return built


def test_every_worker_takes_its_share(gateway: Gateway) -> None:
    connections = [gateway.open() for _ in range(60)]
    shares = [sum(gateway.serves(pid, it) for it in connections) for pid in gateway.pids]
    for it in connections:
        assert gateway.push_over(it, gateway.text()) == (200, b"success")
        it.close()
    assert sum(shares) == 60
    assert min(shares) >= 5


def test_each_holds_its_own_sockets_and_nothing_of_the_supervisor(gateway: Gateway) -> None:
    supervisor = descriptors(gateway.gateway.pid)
    for pid in gateway.pids:
        own = descriptors(pid)
        shared = {number: name for number, name in own.items() if name in supervisor.values()}
        names = {name for number, name in shared.items() if number > 2}
        memory = {name for name in names if "wxgate-deliveries" in name}
        assert listening(pid) == {gateway.public, gateway.internal}
        assert len(memory) == 1
        assert len([name for name in names if name.startswith("socket:")]) == 2, "its two listening sockets"
    sockets = [{name for name in descriptors(pid).values() if name.startswith("socket:")} for pid in gateway.pids]
    assert not sockets[0] & sockets[1] and not sockets[1] & sockets[2]


def test_a_worker_that_is_born_while_the_admin_page_is_open_does_not_inherit_the_visitor(gateway: Gateway) -> None:
    with closing(socket.create_connection(("127.0.0.1", gateway.admin), timeout=10)) as visitor:
        visitor.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert visitor.recv(4096).startswith(b"HTTP/1.1 200")
        pid = gateway.pids[0]
        os.kill(pid, signal.SIGKILL)
        new = gateway.replaced(pid)
        assert gateway.admin not in ports_of(new)
        assert gateway.admin in ports_of(gateway.gateway.pid)


def ports_of(pid: int) -> set[int]:
    """Local ports of every TCP socket that `pid` holds."""
    names = set(descriptors(pid).values())
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in names}


def test_a_repeat_gets_the_stored_reply_whichever_worker_it_meets(gateway: Gateway) -> None:
    delivery, before = gateway.text(), len(gateway.in_crm()["webhook"])
    for slot in range(WORKERS):
        with closing(gateway.from_worker(slot)) as connection:
            assert gateway.push_over(connection, delivery) == (200, b"success")
    assert len(gateway.in_crm()["webhook"]) == before + 1


def test_figures_are_sums_over_all_workers_and_outlive_them(gateway: Gateway) -> None:
    def forged() -> float:
        return gateway.figure("wxgate_exchanges_total", route="wechat-push", outcome="signature_wrong")

    before = forged()  # nobody else here sends a forged signature
    for slot in range(WORKERS):
        with closing(gateway.from_worker(slot)) as connection:
            good = gateway.text()
            assert gateway.push_over(connection, type(good)(good.query[:-4] + "0000", good.body))[0] == 403
    until(lambda: forged() == before + WORKERS, "one more from each worker is counted")
    assert gateway.figure("wxgate_workers") == WORKERS
    victim = gateway.pids[0]
    os.kill(victim, signal.SIGKILL)
    gateway.replaced(victim)
    assert forged() == before + WORKERS


def test_a_killed_worker_is_replaced_and_the_others_do_not_notice(gateway: Gateway) -> None:
    victim = gateway.pids[0]
    others = [gateway.from_worker(slot) for slot in range(WORKERS) if slot != gateway.slot_of(victim)]
    restarts = gateway.figure("wxgate_worker_restarts_total")
    os.kill(victim, signal.SIGKILL)
    for connection in others:
        assert gateway.push_over(connection, gateway.text()) == (200, b"success")
    new = gateway.replaced(victim)
    for connection in others:
        assert gateway.push_over(connection, gateway.text()) == (200, b"success")
        connection.close()
    assert gateway.slot_of(new) == gateway.slot_of(victim)
    assert gateway.figure("wxgate_worker_restarts_total") == restarts + 1
    assert state(victim) == "", "no zombie"


def test_what_waits_in_the_backlog_of_a_killed_worker_is_served_by_its_successor(gateway: Gateway) -> None:
    for pid in gateway.pids:
        os.kill(pid, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(gateway.push, gateway.text()) for _ in range(12)]
        until(lambda: queued(gateway.public) == 12, "all connections wait to be accepted")
        for pid in gateway.pids:
            os.kill(pid, signal.SIGKILL)
        answers = [it.result(20) for it in waiting]
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"success")}


def queued(port: int) -> int:
    """Connections of the kernel's accept queues of `port`: rx_queue of a listening socket, proc_net_tcp."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}"))


def test_a_stuck_worker_is_replaced(gateway: Gateway) -> None:
    victim, begun = gateway.pids[1], time.monotonic()
    os.kill(victim, signal.SIGSTOP)
    gateway.replaced(victim)
    assert time.monotonic() - begun > STUCK - 1.5
    assert {line["pid"] for line in gateway.events("worker_stuck")} == {victim}
    assert gateway.push(gateway.text()).body == b"success"


def test_a_supervisor_that_was_held_up_kills_nobody_whose_beats_it_has_not_heard(gateway: Gateway) -> None:
    before, stuck = gateway.pids, len(gateway.events("worker_stuck"))
    os.kill(gateway.gateway.pid, signal.SIGSTOP)
    time.sleep(2 * STUCK)
    os.kill(gateway.gateway.pid, signal.SIGCONT)
    begun = time.monotonic()
    until(lambda: time.monotonic() - begun > STUCK and gateway.is_ready(), "it has looked again")
    assert gateway.pids == before and len(gateway.events("worker_stuck")) == stuck


def test_a_worker_that_is_told_to_end_is_replaced_too(gateway: Gateway) -> None:
    victim = gateway.pids[2]
    os.kill(victim, signal.SIGTERM)
    gateway.replaced(victim)
    assert gateway.events("worker_died")[-1]["status"] == 0


def test_workers_ignore_what_is_meant_for_the_supervisor(gateway: Gateway) -> None:
    before = gateway.pids
    for pid in before:
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGINT)
    assert gateway.push(gateway.text()).status == 200
    assert gateway.pids == before


def test_the_log_has_no_key_that_is_not_listed(gateway: Gateway) -> None:
    allowed = log._KEYS | {"at", "level", "event"}
    lines = gateway.events()
    assert lines
    assert all(line.keys() <= allowed for line in lines)


def test_without_its_supervisor_every_worker_ends_by_itself_and_frees_the_ports(gateway: Gateway) -> None:
    """The last one of this module: the gateway is started again for nobody."""
    workers = gateway.pids
    with closing(gateway.open()) as idle:
        assert gateway.push_over(idle, gateway.text())[0] == 200
        gateway.crm_behaves("slow")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            seen = len(gateway.in_crm()["webhook"])
            slow = pool.submit(gateway.push, gateway.text())
            until(lambda: len(gateway.in_crm()["webhook"]) > seen, "an exchange is under way")
            os.kill(gateway.gateway.pid, signal.SIGKILL)
            assert slow.result(10).status == 503, "what was under way comes to its end: the CRM was too slow"
        until(lambda: not any(alive(pid) for pid in workers), "all workers ended")
    assert not in_use(gateway)
    gateway.crm_behaves("normal")
    gateway.gateway.wait()
    gateway.restart()
    assert gateway.push(gateway.text()).body == b"success"


def in_use(gateway: Gateway) -> set[int]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
    return ports & {gateway.public, gateway.internal, gateway.admin}


def test_five_quick_deaths_end_it() -> None:
    with Gateway(workers=1) as gateway:
        for _ in range(5):
            pid = until(lambda: next(iter(gateway.pids), 0) or gateway.gateway.poll(), "a worker")
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: not alive(pid), "it is dead")
        # The first had lived for longer than a second, perhaps: it may take one more.
        if gateway.gateway.poll() is None and (left := children(gateway.gateway.pid)):
            os.kill(left[0], signal.SIGKILL)
        assert gateway.gateway.wait(10) == 1
        assert gateway.events("workers_cannot_live")
        assert not in_use(gateway)
