"""Drives an installation along every path there is, with a marker of its own in every field."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.emulate.stage import API, PUSH_PATH, SEND, Reply, Stage
from proxy.emulate.wechat import ACCESS_TOKEN, Delivery
from proxy.wechat import signature
from proxy.wechat.envelope import seal_envelope
from tests.promises.markers import Markers
from tests.support.servers import Authority


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file that a process holds open, with the markers in it."""

    pid: int
    target: str
    found: tuple[str, ...]


@dataclass(slots=True)
class Driven:
    """An installation with its markers and what it answered."""

    stage: Stage
    markers: Markers
    temporary: Path
    replies: list[Reply] = field(default_factory=list)
    crm: str = ""
    """What the CRM had in the end."""
    open_files: list[OpenFile] = field(default_factory=list)

    def mark(self, name: str, *, chinese: bool = False) -> str:
        return self.markers.mark(name, chinese=chinese)

    def keep(self, reply: Reply) -> Reply:
        self.replies.append(reply)
        return reply

    # --- what WeChat, the CRM and agents do

    def push(self, kind: str, **fields: str | float) -> Reply:
        return self.deliver(self.document(kind, **fields))

    def document(self, kind: str, **fields: str | float) -> str:
        return self.stage.pusher.message(f"o{self.mark('openid')}", kind, **fields)

    def text(self) -> str:
        return self.document("text", Content=self.mark("Content", chinese=True))

    def deliver(self, document: str, **how: Any) -> Reply:
        return self.keep(self.stage.push(self.stage.pusher.deliver(document, **how)))

    def call(self, who: str, method: str, target: str, value: object = None) -> Reply:
        return self.keep(self.stage.call(who, method, target, value))

    def ask(self, port: int, method: str, target: str, body: bytes = b"", **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.keep(self.stage.ask(port, method, target, body, named))

    def records(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = self.stage.in_crm()["records"]
        return found

    def write_answer(self) -> dict[str, str]:
        """An agent's answer as the CRM has it."""
        value = {"OpenId__c": f"o{self.mark('OpenId__c')}", "Text__c": self.mark("Text__c", chinese=True)}
        assert self.call("agent", "POST", f"{API}WeChat_Answer__c", value).status == 201
        return [record for key, record in self.records().items() if key.startswith("WeChat_Answer__c/")][-1]

    def send(self, touser: object, content: object, token: str = ACCESS_TOKEN, **more: object) -> Reply:
        message = {"touser": touser, "msgtype": "text", "text": {"content": content}, **more}
        return self.call("crm", "POST", f"{SEND}?access_token={token}", message)

    def raw(self, port: int, data: bytes, *, tls: bool = True, name: str = "localhost", stay: bool = True) -> None:
        """Bytes that are no good HTTP, whatever comes back. `stay`: wait for it, or leave in the middle."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            peer = self.stage.tls().wrap_socket(sock, server_hostname=name) if tls else sock
            peer.sendall(data)
            answer = b""
            while stay and (got := peer.recv(65536)):
                answer += got
            peer.close()
            self.replies.append(Reply(0, {}, answer))

    # --- the processes

    def workers(self) -> list[int]:
        pid = self.stage.gateway.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def look_at_processes(self) -> None:
        """Remembers what the gateway's processes hold open, and searches what can be read of it."""
        for pid in (self.stage.gateway.pid, *self.workers()):
            self.open_files += open_files(pid, self.markers)

    def hang_up(self, event: str) -> None:
        """SIGHUP, and waits until the log says `event` once more."""
        before = self.logged(event)
        self.stage.gateway.send_signal(signal.SIGHUP)
        until(lambda: self.logged(event) > before)

    def logged(self, event: str) -> int:
        return self.stage.log.read_text().count(f'"event": "{event}"')


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def open_files(pid: int, markers: Markers) -> list[OpenFile]:
    """What the descriptors of a process are. Memory that has no name in any file system may hold a message."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target, regular = str(entry.readlink()), stat.S_ISREG(entry.stat().st_mode)
            if regular and not target.startswith(("/memfd:wxgate-deliveries", "/memfd:wxgate-budget")):
                found.append(OpenFile(pid, target, tuple(markers.found_in(entry.read_bytes()))))
    return found


# --- the paths


def successes(it: Driven) -> None:
    template = {"Name": "welcome", "Text__c": it.mark("template", chinese=True)}
    assert it.call("agent", "POST", f"{API}WeChat_Template__c", template).status == 201
    assert b"Encrypt" in it.deliver(it.text()).body
    assert it.push("image", PicUrl=f"https://x/{it.mark('PicUrl')}", MediaId=it.mark("MediaId")).body == b"success"
    x, y = it.markers.number("Location_X"), it.markers.number("Location_Y")
    place = {"Location_X": x, "Location_Y": y, "Label": it.mark("Label", chinese=True)}
    assert it.push("location", **place, Scale=20).body == b"success"
    subscribed = {"Event": "subscribe", "EventKey": it.mark("EventKey"), "Ticket": it.mark("Ticket")}
    assert it.push("event", **subscribed).body == b"success"
    assert it.push("event", Event="unsubscribe", EventKey="").body == b"success"
    query = it.stage.pusher.verification(it.mark("echostr"))
    assert it.stage.ask(it.stage.public, "GET", f"{PUSH_PATH}?{query}").status == 200  # the echo comes back
    repeated = it.stage.pusher.deliver(it.text(), openid=f"o{it.mark('query openid')}")
    assert it.keep(it.stage.push(repeated)).body == it.keep(it.stage.push(repeated)).body
    answer = it.write_answer()
    assert it.send(answer["OpenId__c"], answer["Text__c"]).json["errcode"] == 0
    message = next(key for key, record in it.records().items() if "Text__c" in record and "Type__c" in record)
    assert it.stage.call("agent", "GET", f"{API}{message}").status == 200  # an agent may read it
    assert it.call("analyst", "GET", f"{API}{message}").status == 200


def refused_pushes(it: Driven) -> None:
    pusher, text = it.stage.pusher, it.text
    good = pusher.deliver(text())
    it.keep(it.stage.push(Delivery(re.sub("msg_signature=....", "msg_signature=0000", good.query), good.body)))
    it.keep(it.stage.push(Delivery(good.query, good.body.replace(b"<Encrypt><![CDATA[", b"<Encrypt><![CDATA[AAAA"))))
    it.keep(it.stage.push(Delivery(good.query.replace("nonce=", f"nonce={it.mark('nonce')}"), good.body)))
    it.keep(it.stage.push(Delivery(f"{good.query}&{it.mark('parameter')}={it.mark('value')}", text().encode())))
    it.deliver(text(), at=int(time.time()) - 3600)
    it.push("text", Content=it.mark("Content"), Secret=it.mark("unknown field"))
    it.push("text", Content=it.mark("Content"), **{it.mark("unknown name"): "x"})
    it.push(it.mark("MsgType"), Content=it.mark("Content"))
    it.push("event", Event=it.mark("Event"))
    it.deliver(text().replace("</xml>", f"<a>{it.mark('unclosed')}"))
    it.deliver(f"<!DOCTYPE xml [<!ENTITY a '{it.mark('entity')}'>]>{text()}")
    it.deliver(f"{it.mark('no document')}")
    it.deliver(f"<xml>{''.join(f'<a{n}>' for n in range(200))}{it.mark('deep')}")
    it.deliver(text().replace("MsgType", "Msg"))
    sealed_bytes(it, text().encode().replace(b"</xml>", b"\xff\xfe</xml>"))
    sealed_bytes(it, text().encode("utf-16"))
    sealed_bytes(it, json.dumps({"MsgType": "text", "Content": it.mark("JSON push", chinese=True)}).encode())
    it.keep(it.stage.push(Delivery(plain_query(it), text().encode())))
    it.ask(it.stage.public, "POST", PUSH_PATH, text().encode())


def sealed_bytes(it: Driven, message: bytes) -> None:
    """A signed delivery of what is no text."""
    pusher = it.stage.pusher
    encrypt = seal_envelope(pusher.key, message, pusher.app_id, os.urandom(16))
    timestamp, nonce = str(int(time.time())), str(time.monotonic_ns())
    signed = signature.sign(pusher.token, timestamp, nonce, encrypt)
    query = f"encrypt_type=aes&timestamp={timestamp}&nonce={nonce}&msg_signature={signed}"
    it.keep(it.stage.push(Delivery(query, f"<xml><Encrypt>{encrypt}</Encrypt></xml>".encode())))


def plain_query(it: Driven) -> str:
    timestamp, nonce = str(int(time.time())), str(time.monotonic_ns())
    signed = signature.sign(it.stage.pusher.token, timestamp, nonce)
    return f"signature={signed}&timestamp={timestamp}&nonce={nonce}&openid=o{it.mark('openid')}"


def refused_calls(it: Driven) -> None:
    one, other = it.write_answer(), it.write_answer()
    pushed = next(record for key, record in it.records().items() if "Text__c" in record and "Type__c" in record)
    it.send(one["OpenId__c"], other["Text__c"])  # written for another follower
    it.send(one["OpenId__c"], pushed["Text__c"])  # a follower's own words
    it.send(f"o{it.mark('touser')}", it.mark("content", chinese=True))  # in clear
    it.send(one["OpenId__c"], f"wg1.{it.mark('token')}")
    it.send(one["OpenId__c"], one["Text__c"], extra=it.mark("unknown member"))
    it.send(one["OpenId__c"], {"deep": it.mark("object")})
    it.send(one["OpenId__c"], one["Text__c"], token=it.mark("access token"))
    it.call("crm", "POST", f"{SEND}?access_token={ACCESS_TOKEN}&debug={it.mark('parameter')}", {})
    it.call("crm", "POST", f"/cgi-bin/{it.mark('path')}", {"a": it.mark("value")})
    it.call("agent", "GET", f"{API}WeChat_Message__c/{it.mark('id')}")
    it.call("agent", "POST", f"{API}Unknown__c", {"Name": it.mark("Name")})
    it.call("agent", "POST", f"{API}WeChat_Answer__c", {"Text__c": it.mark("without OpenId")})
    it.call("analyst", "DELETE", f"{API}WeChat_Message__c/1")
    send, wrong = SEND, f"Bearer {it.mark('bearer token')}"
    body = json.dumps({"touser": it.mark("touser"), "text": {"content": it.mark("content")}}).encode()
    it.ask(it.stage.internal, "POST", send, body, Authorization=wrong)
    bearer = f"Bearer {it.stage.secrets['crm-bearer']}"
    it.ask(
        it.stage.internal, "POST", send, b'{"a": "' + it.mark("bad UTF-8").encode() + b'\xff"}', Authorization=bearer
    )
    it.ask(it.stage.internal, "POST", send, b'{"a": "' + it.mark("half a document").encode(), Authorization=bearer)
    it.ask(it.stage.internal, "POST", send, body, Authorization=bearer, Content_Encoding="gzip")


def refused_http(it: Driven) -> None:
    stage, mark = it.stage, it.mark
    it.ask(stage.public, "GET", f"/{mark('path')}?{mark('query')}={mark('query')}")
    it.ask(stage.public, "PUT", PUSH_PATH, mark("body").encode())
    it.ask(stage.public, "POST", PUSH_PATH, mark("body").encode(), Expect=mark("expectation"))
    with contextlib.suppress(OSError):  # refused while it is still being sent
        it.ask(stage.public, "POST", f"{PUSH_PATH}?{mark('query')}", mark("body").encode() * 80_000)
    lines = [
        f"GET https://{mark('absolute')}/ HTTP/1.1\r\nHost: a\r\n\r\n",
        f"CONNECT {mark('connect')}:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        f"{mark('method').upper()} / HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {mark('host')}.example\r\n{mark('name')}: {mark('value')}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\n{mark('no field')}\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{mark('no chunk')}\r\n",
        f"POST {PUSH_PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n{mark('half a body')}",
        f"{mark('nothing')}\r\n\r\n",
    ]
    for line in lines[:-2] + lines[-1:]:
        it.raw(stage.public, line.encode())
    it.raw(stage.public, f"POST {PUSH_PATH} HTTP/1.1\r\nHost: a\r\n\r\n{mark('plain HTTP')}".encode(), tls=False)
    it.raw(stage.public, b"", name=f"{mark('server name')}.example")
    it.raw(stage.public, lines[-2].encode(), stay=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", stage.public), timeout=5) as sock:
        context.wrap_socket(sock, server_hostname="localhost").close()  # trusts nobody
    it.keep(stage.ask_admin(f"/{mark('admin path')}"))
    it.keep(stage.ask_admin("/reload", "POST", {"Authorization": f"Bearer {mark('admin token')}"}))
    it.keep(stage.ask_admin("/metrics", headers={"Host": f"{mark('admin host')}.example"}))


def failing_crm(it: Driven) -> None:
    for behaviour in ("echo400", "unavailable", "broken", "html", "reset"):
        it.stage.crm_behaves(behaviour)
        it.deliver(it.text())
        it.push("image", PicUrl=it.mark("PicUrl"), MediaId=it.mark("MediaId"))
    it.stage.crm_behaves("slow")
    assert it.deliver(it.text()).status == 503
    it.stage.crm_behaves("normal")


def killed_worker(it: Driven) -> None:
    """In the middle of an exchange."""
    it.stage.crm_behaves("slow")
    before, received = it.workers(), len(it.stage.in_crm()["webhook"])
    with ThreadPoolExecutor() as pool:
        pushed = pool.submit(it.deliver, it.text())
        until(lambda: len(it.stage.in_crm()["webhook"]) > received)
        it.look_at_processes()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert isinstance(pushed.exception(), OSError)
    until(lambda: it.stage.is_ready() and not set(before) & set(it.workers()))
    it.stage.crm_behaves("normal")
    assert it.deliver(it.text()).status == 200


def broken_reloads(it: Driven) -> None:
    keyring = it.stage.directory / "state" / "keyring.json"
    for file in (keyring, it.stage.directory / "policies" / "wechat-crm.yaml"):
        kept = file.read_bytes()
        for content in (None, b"broken: [" + kept):
            file.unlink()
            if content is not None:
                file.touch(0o600)
                file.write_bytes(content)
            it.hang_up("reload_failed")
            assert it.deliver(it.text()).status == 200  # with what it had
            file.unlink(missing_ok=True)
            file.touch(0o600)
            file.write_bytes(kept)
    it.hang_up("reloaded")


def audit_deleted(it: Driven) -> None:
    def refused_without_it() -> bool:
        """The gateway makes a new file within a second, so that the old one has to go again until it was missed."""
        for number, chain in enumerate((it.stage.directory / "state" / "audit").glob("*.jsonl")):
            shutil.copy(
                chain, it.stage.directory / f"{chain.name}.{time.monotonic_ns()}.{number}.kept"
            )  # searched later
            chain.unlink()
        return it.deliver(it.text()).status == 503

    until(refused_without_it)
    until(lambda: it.stage.is_ready() and it.deliver(it.text()).status == 200)


def disk_full(it: Driven) -> None:
    """Neither audit nor log can be written."""
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in it.workers()}
    for pid in limits:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, limits[pid][1]))
    assert it.deliver(it.text()).status == 503
    value = {"OpenId__c": it.mark("OpenId__c"), "Text__c": it.mark("Text__c")}
    assert it.call("agent", "POST", f"{API}WeChat_Answer__c", value).code == "audit_unwritable"
    for pid, limit in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
    until(it.stage.is_ready)
    until(lambda: it.deliver(it.text()).status == 200)


def untrusted_upstream(it: Driven) -> None:
    config = it.stage.config.read_text()
    Authority(it.stage.directory / "certs", "other")
    it.stage.config.write_text(config.replace("ca: certs/ca.pem", "ca: certs/other.pem", 1))
    it.hang_up("reloaded")
    until(it.stage.is_ready)
    assert it.deliver(it.text()).status == 503
    it.stage.config.write_text(config)
    it.hang_up("reloaded")
    until(it.stage.is_ready)


def crm_down(it: Driven) -> None:
    """The last one: what the CRM has is looked at before."""
    it.crm = json.dumps(it.stage.in_crm(), ensure_ascii=False)
    crm = it.stage.processes[0]
    crm.kill()
    crm.wait()
    assert it.deliver(it.text()).status == 503
    value = {"OpenId__c": f"o{it.mark('OpenId__c')}", "Text__c": it.mark("Text__c")}
    assert it.call("agent", "POST", f"{API}WeChat_Answer__c", value).code == "upstream_unreachable"


PATHS = (
    *(successes, refused_pushes, refused_calls, refused_http, failing_crm, killed_worker, broken_reloads),
    *(audit_deleted, disk_full, untrusted_upstream, successes, crm_down),
)
