"""SIGHUP and renewed certificates: the new as a whole or the old as a whole, and no connection is dropped for it."""

import concurrent.futures
import json
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.emulate.stage import API, PUSH_PATH
from proxy.policy.compile import compile_policy
from proxy.serve.certificates import Chain, development_files, fetch, load_chain
from proxy.serve.settings import load_settings
from proxy.serve.settings_parts import read_bounded
from tests.support.embedded import rotate_all
from tests.support.processes import FOLLOWER, Gateway, descriptors, until

WORKERS = 2
POSITION = "{class: follower.position, as: follower.position, bind: [openid]}"


@pytest.fixture(scope="module")
def built() -> Iterator[Gateway]:
    with Gateway(workers=WORKERS) as it:
        yield it


@pytest.fixture
def gateway(built: Gateway) -> Iterator[Gateway]:
    """Whatever a test does to the files, afterwards they are as they were made, and taken up."""
    kept = {path: path.read_bytes() for path in built.directory.rglob("*") if is_input(path)}
    workers = built.pids
    yield built
    for path, content in kept.items():
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
            path.chmod(0o600)
    taken_up(built)
    assert built.pids == workers, "no reload costs a worker"


def is_input(path: Path) -> bool:
    return path.is_file() and "audit" not in path.parts and path.name != "gateway.log"


def taken_up(gateway: Gateway) -> None:
    gateway.signalled(signal.SIGHUP, "reloaded")
    until(lambda: not gateway.reasons(), "all workers have it")


def policy(gateway: Gateway) -> Path:
    return gateway.directory / "policies" / "wechat-crm.yaml"


def revision(gateway: Gateway) -> str:
    directory = policy(gateway).parent
    return compile_policy(policy(gateway).name, lambda file: read_bounded(directory / file)).revision


def changed(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(changed(path.read_text(), (old, new)))


def send_place(gateway: Gateway) -> dict[str, str]:
    """A location through the gateway; what the CRM got, with our headers."""
    document = gateway.pusher.message(FOLLOWER, "location", Location_X=1.5, Location_Y=2.5, Scale=20, Label="street")
    assert gateway.push(gateway.pusher.deliver(document)).body == b"success"
    return dict(gateway.in_crm()["webhook"][-1])


# --- a good one


def test_no_message_sees_half_a_policy(gateway: Gateway) -> None:
    """Two fields change their treatment together; what a message got must be what its revision says."""
    treatments = {revision(gateway): (True, True)}
    first = policy(gateway).read_text()
    both = changed(
        first,
        ("xml:/xml/Scale: allow", "xml:/xml/Scale: drop"),
        (f"xml:/xml/Label: {POSITION}", "xml:/xml/Label: drop"),
        ("      xml:/xml/Label: encrypted\n", ""),
    )
    stop, seen = threading.Event(), len(gateway.in_crm()["webhook"])
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        threads = [pool.submit(push_until, gateway, stop) for _ in range(3)]
        for turn in range(6):
            if turn % 2:
                policy(gateway).write_text(first)
            else:
                policy(gateway).write_text(both)
                treatments[revision(gateway)] = (False, False)
            sent = len(gateway.in_crm()["webhook"])
            taken_up(gateway)
            until(lambda sent=sent: len(gateway.in_crm()["webhook"]) > sent + 5, "messages go on")
        stop.set()
        assert {it.result() for it in threads} == {(200, b"success")}
    got = gateway.in_crm()["webhook"][seen:]
    used = {entry["wxgate-policy"] for entry in got}
    assert used == set(treatments)
    for entry in got:
        has = "<Scale>20<" in entry["body"], "<Label><![CDATA[wg1." in entry["body"]
        assert has == treatments[entry["wxgate-policy"]]


def push_until(gateway: Gateway, stop: threading.Event) -> tuple[int, bytes]:
    """Over one connection, which must live through every reload; the last answer, or the first that is no success."""
    answer = 200, b"success"
    with closing(gateway.open()) as connection:
        while answer == (200, b"success") and not stop.is_set():
            document = gateway.pusher.message(
                FOLLOWER, "location", Location_X=1.5, Location_Y=2.5, Scale=20, Label="street"
            )
            answer = gateway.push_over(connection, gateway.pusher.deliver(document))
    return answer


def test_secrets_routes_and_limits_are_taken_up_and_connections_stay(gateway: Gateway) -> None:
    with closing(gateway.open()) as connection:
        assert gateway.push_over(connection, gateway.text())[0] == 200
        edit(gateway.config, f"path: {PUSH_PATH}", "path: /wechat/other")
        taken_up(gateway)
        assert gateway.push_over(connection, gateway.text())[0] == 404


def test_rotated_keys_are_taken_up_and_old_tokens_still_open(gateway: Gateway) -> None:
    written = gateway.call("agent", "POST", API + "WeChat_Answer__c", {"OpenId__c": FOLLOWER, "Text__c": "before"})
    record = gateway.in_crm()["records"][f"WeChat_Answer__c/{written.json['id']}"]
    ages = gateway.figure("wxgate_key_age_seconds", purpose="data")
    rotate(gateway)
    taken_up(gateway)
    assert gateway.figure("wxgate_key_age_seconds", purpose="data") != ages
    message = {"touser": record["OpenId__c"], "msgtype": "text", "text": {"content": record["Text__c"]}}
    target = "/cgi-bin/message/custom/send?access_token=emulated-access-token"
    assert gateway.call("crm", "POST", target, message).status == 200
    assert gateway.at_followers()[-1]["text"]["content"] == "before"


def rotate(gateway: Gateway) -> None:
    settings = load_settings(gateway.config)
    rotate_all(settings)


def test_an_exchange_under_way_keeps_what_it_began_with(gateway: Gateway) -> None:
    """The upstream it waits for is no longer configured when its answer comes."""
    gateway.crm_behaves("slow")
    seen = len(gateway.in_crm()["webhook"])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        edit(gateway.config, "crm.yaml}", "crm.yaml, upstream_budget: 12s, deadline: 14s}")
        taken_up(gateway)
        slow = pool.submit(gateway.push, gateway.text())
        until(lambda: len(gateway.in_crm()["webhook"]) > seen, "the CRM has it")
        text = gateway.config.read_text()
        renamed = text.replace("name: crm, url", "name: erp, url").replace("upstream: crm", "upstream: erp")
        gateway.config.write_text(renamed)
        taken_up(gateway)
        assert slow.result(15).body == b"success"
    gateway.crm_behaves("normal")
    assert gateway.push(gateway.text()).body == b"success"


def test_nothing_is_used_up_by_reloading(gateway: Gateway) -> None:
    taken_up(gateway)
    before = {pid: len(descriptors(pid)) for pid in [gateway.gateway.pid, *gateway.pids]}
    for _ in range(20):
        gateway.signalled(signal.SIGHUP, "reloaded")
    taken_up(gateway)
    until(
        lambda: all(len(descriptors(pid)) <= count + 2 for pid, count in before.items()),
        "retired upstream connections are closed",
    )


def test_the_admin_page_reloads_for_who_has_the_token(gateway: Gateway) -> None:
    token = {"Authorization": f"Bearer {gateway.secrets['admin-token']}", "Content-Length": "0"}
    before = gateway.figure("wxgate_reloads_total", outcome="ok")
    assert gateway.ask_admin("/reload", "POST", token).status == 200
    assert gateway.ask_admin("/reload", "POST", {"Content-Length": "0"}).status == 401
    assert gateway.figure("wxgate_reloads_total", outcome="ok") == before + 1
    edit(gateway.config, "region: cn", "region: China")
    assert gateway.ask_admin("/reload", "POST", token).status == 409


def test_every_reload_stands_in_every_workers_audit_log(gateway: Gateway) -> None:
    """What was tried, by whom it was asked for, and which configuration was in force afterwards."""
    old = load_settings(gateway.config).digest
    token = {"Authorization": f"Bearer {gateway.secrets['admin-token']}", "Content-Length": "0"}
    edit(gateway.config, "drain: 5s", "drain: 6s")
    new = load_settings(gateway.config).digest
    gateway.ask_admin("/reload", "POST", token)
    until(lambda: not gateway.reasons(), "all workers have it")
    edit(gateway.config, "region: cn", "region: China")
    gateway.ask_admin("/reload", "POST", token)
    expected = [("taken_up", "admin", new), ("kept_old", "admin", new)]
    for slot in range(WORKERS):
        until(lambda slot=slot: is_within(expected, reloads(gateway, slot)), f"worker {slot} has them on record")
    assert old != new


def is_within(expected: list[tuple[str, str, str]], records: list[tuple[str, str, str]]) -> bool:
    """In this order, whatever the watch for changed files does in between."""
    rest = iter(records)
    return all(record in rest for record in expected)


def reloads(gateway: Gateway, slot: int) -> list[tuple[str, str, str]]:
    chain = gateway.directory / "state" / "audit" / f"worker-{slot}.jsonl"
    records = map(json.loads, chain.read_text().splitlines())
    return [(it["outcome"], it["reason"], it["revision"]) for it in records if it["event"] == "reload"]


def test_a_reload_that_cannot_be_put_on_record_is_not_taken_up(gateway: Gateway) -> None:
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in gateway.pids}
    try:
        for pid, (_, hard) in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
        gateway.signalled(signal.SIGHUP, "reloaded")
        late = {f"worker {slot} has not taken up the new configuration" for slot in range(WORKERS)}
        until(lambda: late <= set(gateway.reasons()), "the page says that they have the old one")
    finally:
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)


# --- a bad one

BAD = {
    "a configuration that is broken": ("gateway.yaml", "version: 1", "version: 2", "gateway.yaml:1:10: wrong-value"),
    "a policy that is broken": ("policies/wechat-crm.yaml", "version: 1", "version: 1\noops: 1", "unknown-key"),
    "a policy whose test fails": ("policies/wechat-crm.yaml", "Content: encrypted", "Content: masked", "test-failed"),
    "a keyring that is broken": ("state/keyring.json", "{", "[", "keyring.json"),
    "a certificate that is broken": ("certs/gateway.pem", "BEGIN", "BEGUN", "certs/gateway.pem"),
    "a key that is broken": ("certs/gateway.key", "BEGIN", "BEGUN", "certs/gateway.key"),
    "an upstream CA that is broken": ("gateway.yaml", "ca: certs/ca.pem", "ca: gateway.yaml", "upstream crm: ca_file"),
    "another address": ("gateway.yaml", "address: 127.0.0.1", "address: 127.0.0.2", "restart only"),
    "another state directory": ("gateway.yaml", "state: state", "state: ./certs/../other", "restart only"),
    "another admin token": ("secrets/admin-token", "", "x", "restart only"),
    "another memory of deliveries": ("gateway.yaml", "drain:", "deliveries: {entries: 4096}\ndrain:", "restart only"),
    "a longer window": ("gateway.yaml", "mode: safe", "mode: safe\n    window: 600s", "restart only"),
    "another tenant without keys": ("gateway.yaml", "tenant: acme", "tenant: other", "no active key"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_with_something_broken_the_old_stays_and_says_why(what: str, gateway: Gateway) -> None:
    file, old, new, reason = BAD[what]
    before, failed = revision(gateway), gateway.figure("wxgate_reloads_total", outcome="failed")
    path = gateway.directory / file
    path.write_text(path.read_text().replace(old, new, 1))
    gateway.signalled(signal.SIGHUP, "reload_failed")
    reasons = gateway.reasons()
    assert reasons[0].startswith("reload failed: ")
    assert reason in reasons[0]
    assert gateway.figure("wxgate_reloads_total", outcome="failed") >= failed + 1
    assert gateway.figure("wxgate_ready") == 1
    assert gateway.figure("wxgate_warnings") >= 1
    assert any(reason in event.get("detail", "") for event in gateway.events("reload_failed"))
    assert not any(value in str(reasons) for value in gateway.secrets.values())
    assert send_place(gateway)["wxgate-policy"] == before
    assert gateway.figure("wxgate_workers") == WORKERS


def test_a_changed_policy_is_taken_up_without_being_told(gateway: Gateway) -> None:
    before = revision(gateway)
    policy(gateway).write_text(policy(gateway).read_text() + "# a word more\n")
    assert revision(gateway) != before
    until(lambda: send_place(gateway)["wxgate-policy"] == revision(gateway), "it is in use", 8)


def test_one_that_is_good_again_heals_it(gateway: Gateway) -> None:
    text = gateway.config.read_text()
    edit(gateway.config, "region: cn", "region: China")
    gateway.signalled(signal.SIGHUP, "reload_failed")
    assert gateway.reasons()
    gateway.config.write_text(text)
    taken_up(gateway)
    assert gateway.reasons() == []
    assert gateway.figure("wxgate_ready") == 1


# --- certificates


def shown(gateway: Gateway) -> str:
    """Fingerprint of the certificate that a new connection gets."""
    anchors = load_chain((gateway.directory / "certs" / "ca.pem").read_bytes())
    presented = fetch("127.0.0.1", gateway.public, "localhost", anchors)
    return fingerprint(presented.chain)


def fingerprint(chain: Chain) -> str:
    return chain[0].fingerprint(SHA256()).hex()


def renew(gateway: Gateway, **files: bytes) -> None:
    """Puts files in place as an ACME client does: written beside, then renamed."""
    for name, content in files.items():
        path = gateway.directory / "certs" / name.replace("_", ".")
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.chmod(0o600)
        fresh.replace(path)


def issued(days: int = 7) -> dict[str, bytes]:
    made = development_files([], datetime.now(UTC) - timedelta(seconds=5), days)
    return {file.name.replace(".", "_"): file.data for file in made if file.name.startswith("gateway")}


def test_a_renewed_certificate_is_shown_within_seconds_and_nobody_is_dropped(gateway: Gateway) -> None:
    old, new = shown(gateway), issued()
    with closing(gateway.open()) as live:
        renew(gateway, gateway_key=new["gateway_key"])  # one after the other: in between the pair does not match
        until(lambda: gateway.events("reload_failed"), "half a pair is refused")
        assert shown(gateway) == old
        renew(gateway, gateway_pem=new["gateway_pem"])
        wanted = fingerprint(load_chain(new["gateway_pem"]))
        until(lambda: [shown(gateway) for _ in range(8)] == [wanted] * 8, "every worker shows the new one", 8)
        assert gateway.push_over(live, gateway.text()) == (200, b"success")
    assert gateway.reasons() == []


def test_a_broken_pair_keeps_the_old(gateway: Gateway) -> None:
    old, before = shown(gateway), len(gateway.events("reload_failed"))
    renew(gateway, gateway_pem=b"words", gateway_key=b"words")
    until(lambda: len(gateway.events("reload_failed")) > before, "it is refused")
    assert {shown(gateway) for _ in range(6)} == {old}
    reasons = gateway.reasons()
    assert "gateway.pem" in reasons[0]
    assert reasons[-1] == "certificate gateway.pem has expired or cannot be read"


def test_a_certificate_that_has_expired_is_not_taken_up(gateway: Gateway) -> None:
    old, before = shown(gateway), len(gateway.events("reload_failed"))
    made = development_files([], datetime.now(UTC) - timedelta(days=30), 7)
    renew(gateway, **{it.name.replace(".", "_"): it.data for it in made if it.name.startswith("gateway")})
    until(lambda: len(gateway.events("reload_failed")) > before, "it is refused")
    assert shown(gateway) == old
    assert gateway.figure("wxgate_certificate_days_left") < 0


def test_days_left_are_told(gateway: Gateway) -> None:
    left = gateway.figure("wxgate_certificate_days_left", certificate="gateway.pem")
    assert gateway.certificate_days - 1 < left <= gateway.certificate_days


def test_files_that_only_the_workers_find_broken_cost_no_worker(gateway: Gateway) -> None:
    """The supervisor checked them, then they changed once more before the workers read them."""
    pids = gateway.pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    edit(gateway.config, "drain: 5s", "drain: 6s")
    gateway.signalled(signal.SIGHUP, "reloaded")
    good = {path: path.read_bytes() for path in (gateway.directory / "certs").glob("gateway.*")}
    for path in good:
        path.write_bytes(b"words")
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    until(lambda: any("has not taken up the new configuration" in it for it in gateway.reasons()), "a worker says so")
    assert gateway.push(gateway.text()).body == b"success"
    for path, content in good.items():
        path.write_bytes(content)
    taken_up(gateway)
    assert gateway.pids == pids
