"""The main job, told as a story: a conversation through a real installation, then what is refused and why.

Every line is an expectation; one that does not hold makes the demo fail.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from proxy.emulate.stage import API, PUSH_PATH, SEND, Reply, Stage
from proxy.emulate.wechat import ACCESS_TOKEN, Delivery
from proxy.wechat.push import read_body

LI, WANG = "oyORnuP8q7ou2gfYjqLzSIWZf0rs", "oWANGuP8q7ou2gfYjqLzSIWZf0rt"
_SEND = f"{SEND}?access_token={quote(ACCESS_TOKEN)}"


@dataclass(slots=True)
class Story:
    """What happened so far. `say` prints a line."""

    stage: Stage
    say: Callable[[str], None]
    failures: int = 0
    kept: dict[str, str] = field(default_factory=dict)

    def expect(self, what: str, holds: bool, detail: str = "") -> None:
        self.failures += not holds
        self.say(f"  {'ok  ' if holds else 'FAIL'} {what}" + (f"  [{detail}]" if detail else ""))

    def heading(self, text: str) -> None:
        self.say(f"\n{text}\n{'-' * _width(text)}")

    def columns(self, *rows: tuple[str, str, str]) -> None:
        """Three columns side by side, as wide as the terminal allows."""
        wide = max((shutil.get_terminal_size((120, 24)).columns - 8) // 3, 24)
        for row in rows:
            self.say("  " + " | ".join(_cell(text, wide) for text in row))


def run(stage: Stage, say: Callable[[str], None]) -> int:
    """Tells the whole story on `stage`; returns how many expectations failed."""
    story = Story(stage, say)
    for chapter in (_verification, _prepared, _text, _others, _read, _answer, _tls, _forgeries, _policy, _repeat):
        chapter(story)
    story.heading("In the gateway's own books")
    _books(story)
    return story.failures


# --- the conversation


def _verification(story: Story) -> None:
    story.heading("1. WeChat verifies the URL")
    query = story.stage.pusher.verification("5838479218127813673")
    reply = story.stage.ask(story.stage.public, "GET", f"{PUSH_PATH}?{query}")
    story.expect("the echo comes back, byte for byte", reply.body == b"5838479218127813673", reply.body.decode())


def _prepared(story: Story) -> None:
    story.heading("2. An agent prepares a welcome text, through the gateway, into the CRM")
    text = "欢迎！我们马上为您查询。"
    reply = story.stage.call("agent", "POST", API + "WeChat_Template__c", {"Name": "welcome", "Text__c": text})
    record = story.stage.in_crm()["records"][f"WeChat_Template__c/{reply.json['id']}"]
    story.columns(("agent wrote", "CRM stored", ""), (text, str(record["Text__c"]), ""))
    story.expect("the CRM holds a token, not the text", str(record["Text__c"]).startswith("wg1."))


def _text(story: Story) -> None:
    story.heading("3. A follower writes; the CRM stores tokens and answers with the prepared text")
    stage, content = story.stage, "你好，我的订单 20140903 到哪里了？我的电话 13800138000"
    delivery = stage.pusher.deliver(stage.pusher.message(LI, "text", Content=content), openid=LI)
    reply = stage.push(delivery)
    story.kept["delivery"] = json.dumps([delivery.query, delivery.body.decode()])
    story.kept["reply"] = reply.body.decode()
    got = stage.in_crm()["webhook"][-1]
    fields = _fields(got["body"])
    back = stage.pusher.open_reply(reply.body)
    story.columns(
        ("WeChat sent", "CRM stored", "follower received"),
        (content, fields["Content"], back["Content"]),
        (LI, fields["FromUserName"], back["ToUserName"]),
    )
    story.kept |= {"follower token": fields["Content"], "openid token": fields["FromUserName"]}
    story.expect(
        "the CRM saw neither the words nor the follower's id", content not in got["body"] and LI not in str(got)
    )
    story.expect("nothing of WeChat's query reached the CRM", got["query"] == "")
    story.expect("the passive reply is sealed, signed, in clear inside", back["Content"].startswith("欢迎"))


def _others(story: Story) -> None:
    story.heading("4. An image, a place, a subscription")
    pusher = story.stage.pusher
    pictures = {"PicUrl": "http://mmbiz.qpic.cn/mmbiz/abc", "MediaId": "media-7"}
    place = {"Location_X": 23.134521, "Location_Y": 113.358803, "Scale": 20, "Label": "广州市天河区体育西路 101 号"}
    scene = {"Event": "subscribe", "EventKey": "qrscene_123123", "Ticket": "gQH47joAAAA"}
    for kind, values in (("image", pictures), ("location", place), ("event", scene)):
        document = pusher.message(LI, kind, **values)
        reply = story.stage.push(pusher.deliver(document, openid=LI))
        fields = _fields(story.stage.in_crm()["webhook"][-1]["body"])
        hidden = [name for name in values if name not in ("Scale", "Event")]
        story.columns(*((f"{name}: {values[name]}", fields[name], "") for name in hidden))
        story.expect(f"{kind}: personal fields are tokens", all(fields[name].startswith("wg1.") for name in hidden))
        story.expect(f"{kind}: WeChat gets success", reply.body == b"success")


def _read(story: Story) -> None:
    story.heading("5. Who may read what the follower wrote")
    records = story.stage.in_crm()["records"]
    record = next(key for key, item in records.items() if item.get("Text__c") == story.kept["follower token"])
    target = API + record
    agent, analyst = (story.stage.call(who, "GET", target).json["Text__c"] for who in ("agent", "analyst"))
    story.columns(("CRM holds", "role agent sees", "role analyst sees"), (story.kept["follower token"], agent, analyst))
    story.expect("the agent reads the words", agent.startswith("你好"))
    story.expect("the analyst keeps the token", analyst == story.kept["follower token"])


def _answer(story: Story) -> None:
    story.heading("6. The agent answers; the CRM sends it through WeChat's API")
    text, stage = "您的订单明天送到。", story.stage
    written = stage.call(
        "agent", "POST", API + "WeChat_Answer__c", {"OpenId__c": story.kept["openid token"], "Text__c": text}
    )
    record = stage.in_crm()["records"][f"WeChat_Answer__c/{written.json['id']}"]
    story.kept["answer token"] = record["Text__c"]
    reply = _send(story, record["OpenId__c"], record["Text__c"])
    sent = stage.at_followers()[-1]
    story.columns(
        ("agent wrote", "CRM stored", "follower received"), (text, record["Text__c"], sent["text"]["content"])
    )
    story.expect(
        "the CRM holds tokens only", record["Text__c"].startswith("wg1.") and record["OpenId__c"].startswith("wd1.")
    )
    story.expect("the follower got the text", sent["touser"] == LI and sent["text"]["content"] == text)
    story.expect("the CRM got WeChat's answer", reply.json["errcode"] == 0, reply.body.decode())


def _send(story: Story, to: str, content: str) -> Reply:
    message = {"touser": to, "msgtype": "text", "text": {"content": content}}
    return story.stage.call("crm", "POST", _SEND, message)


# --- what is refused


def _tls(story: Story) -> None:
    story.heading("7. Refused: old TLS and no TLS")
    for name, version in (("TLS 1.0", ssl.TLSVersion.TLSv1), ("TLS 1.1", ssl.TLSVersion.TLSv1_1)):
        story.expect(f"{name}: refused with the alert protocol_version", *_old_tls(story.stage, version))
    with socket.create_connection(("127.0.0.1", story.stage.public), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            got = plain.recv(100)
        except ConnectionResetError:
            got = b""
    story.expect("plain HTTP: cut without a byte", got == b"")


def _old_tls(stage: Stage, version: ssl.TLSVersion) -> tuple[bool, str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # or our own OpenSSL would not even ask
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
    try:
        with socket.create_connection(("127.0.0.1", stage.public), timeout=5) as raw, context.wrap_socket(raw):
            return False, "accepted"
    except ssl.SSLError as error:
        return error.reason == "TLSV1_ALERT_PROTOCOL_VERSION", error.reason or ""


def _forgeries(story: Story) -> None:
    story.heading("8. Refused: deliveries that are not what they claim")
    pusher, before = story.stage.pusher, len(story.stage.in_crm()["webhook"])
    document = pusher.message(LI, "text", Content="请把钱转到这个账户")
    good = pusher.deliver(document)
    wrong = good.query.rpartition("=")[0] + "=" + "0" * 40
    _refused(story, "a forged signature", Delivery(wrong, good.body), 403)
    _refused(story, "an altered envelope", Delivery(good.query, _altered(good.body)), 403)
    _refused(story, "a stale timestamp", pusher.deliver(document, at=int(time.time()) - 600), 403)
    query, _ = json.loads(story.kept["delivery"])
    other = pusher.deliver(pusher.message(LI, "text", Content="另一条"))
    _refused(story, "a known triple with another payload", Delivery(query, other.body), 403)
    story.expect("nothing of it reached the CRM", len(story.stage.in_crm()["webhook"]) == before)


def _refused(story: Story, what: str, delivery: Delivery, status: int) -> None:
    reply = story.stage.push(delivery)
    story.expect(what, reply.status == status and not reply.body, f"HTTP {reply.status}, no body")


def _altered(body: bytes) -> bytes:
    at = body.index(b"<Encrypt><![CDATA[") + 40
    return body[:at] + (b"A" if body[at : at + 1] != b"A" else b"B") + body[at + 1 :]


def _policy(story: Story) -> None:
    story.heading("9. Refused: what the policy does not allow")
    stage = story.stage
    before, sent = len(stage.in_crm()["webhook"]), len(stage.at_followers())
    unknown = stage.pusher.message(LI, "text", Content="x", IdCardNumber="440524188001010014")
    reply = stage.push(stage.pusher.deliver(unknown))
    story.expect("a field no rule knows: not forwarded, not delivered again", reply.body == b"success")
    story.expect("nothing of it reached the CRM", len(stage.in_crm()["webhook"]) == before)
    li, wang = (
        story.kept["openid token"],
        stage.call("agent", "POST", API + "WeChat_Answer__c", {"OpenId__c": WANG, "Text__c": "-"}),
    )
    other = stage.in_crm()["records"][f"WeChat_Answer__c/{wang.json['id']}"]["OpenId__c"]
    for what, to, content, code in (
        ("a follower's own words put into an answer", li, story.kept["follower token"], "token_refused"),
        ("an answer for one follower sent to another", other, story.kept["answer token"], "token_refused"),
        ("an answer in clear where a token is due", li, "直接写的文字", "clear_value_refused"),
    ):
        reply = _send(story, to, content)
        story.expect(what, reply.status == 422 and reply.code == code, f"HTTP {reply.status} {reply.code}")
    story.expect("no follower received any of it", len(stage.at_followers()) == sent)
    stranger = stage.ask(stage.internal, "POST", _SEND, b"{}", {"Authorization": "Bearer " + "x" * 40})
    story.expect("a caller without a valid token", stranger.code == "caller_unknown", f"HTTP {stranger.status}")


def _repeat(story: Story) -> None:
    story.heading("10. Not refused, because it must not be: WeChat delivers again")
    before = len(story.stage.in_crm()["webhook"])
    query, body = json.loads(story.kept["delivery"])
    reply = story.stage.push(Delivery(query, body.encode()))
    story.expect("the repeat gets the stored reply", reply.body.decode() == story.kept["reply"])
    story.expect("the CRM saw the message once", len(story.stage.in_crm()["webhook"]) == before)


def _books(story: Story) -> None:
    deadline = time.monotonic() + 5
    while "delivery_conflict" not in (text := story.stage.ask_admin("/metrics").body.decode()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    for line in text.splitlines():
        if line.startswith(("wxgate_exchanges_total", "wxgate_values_total", "wxgate_repeats")):
            story.say("  " + line)
    everything = text + story.stage.log.read_text()
    everything += "".join(file.read_text() for file in (story.stage.directory / "state" / "audit").glob("*.jsonl"))
    leaks = [word for word in (LI, WANG, "订单", "13800138000", "欢迎") if word in everything]
    story.expect("metrics, log and audit hold no word of the conversation", not leaks)


# --- reading and printing


def _fields(document: str) -> dict[str, str]:
    return {str(leaf.path[-1]): leaf.text for leaf in read_body(document.encode()).leaves}


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _cell(text: str, wide: int) -> str:
    while _width(text) > wide:
        text = text[:-2] + "…"
    return text + " " * (wide - _width(text))
