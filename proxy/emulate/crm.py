"""An emulated CRM: a webhook for WeChat's messages and a small part of Salesforce's REST API.

It keeps what it gets in memory, as a CRM would in its database, and knows no key: whatever it can show, it was given.
`/_stored` and `/_behave` are for whoever watches or steers the emulation.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
import xml.etree.ElementTree as ET

from proxy.emulate.server import Call, Result, json_result, run_forever

_OBJECTS = "/sobjects/"


class Crm:
    """`behaviour`: how the webhook answers: normal, silent (success only), echo400, unavailable (503), slow, broken,
    html, reset."""

    def __init__(self) -> None:
        self.webhook: list[dict[str, str]] = []
        self.records: dict[str, dict[str, object]] = {}
        self.behaviour = "normal"
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()

    def handle(self, call: Call) -> Result:
        if call.path == "/_stored":
            return json_result({"webhook": self.webhook, "records": self.records})
        if call.path == "/_behave":
            self.behaviour = call.body.decode()
            return json_result({})
        if call.path == "/webhook/wechat":
            return self.push(call)
        if _OBJECTS in call.path:
            return self.record(call)
        return json_result([{"errorCode": "NOT_FOUND"}], 404)

    def push(self, call: Call) -> Result:
        with self.lock:
            self.webhook.append({"body": call.body.decode(), "query": call.query, **call.headers})
        if self.behaviour == "echo400":
            return Result(b"I do not like this: " + call.body, 400, "text/html")
        if self.behaviour == "unavailable":
            return Result(b"I am too busy for this: " + call.body, 503, "text/html")
        if self.behaviour == "reset":
            raise ConnectionResetError
        if self.behaviour == "slow":
            time.sleep(6)
        if self.behaviour == "broken":
            return Result(b"<xml><Content>" + call.body, 200, "text/xml")
        if self.behaviour == "html":
            return Result(b"<html><body>" + call.body + b"</body></html>", 200, "text/html")
        fields = {child.tag: child.text or "" for child in ET.fromstring(call.body)}  # noqa: S314
        self.store(
            "WeChat_Message__c", {"Type__c": fields["MsgType"], "OpenId__c": fields["FromUserName"]} | _text(fields)
        )
        if self.behaviour == "normal" and fields["MsgType"] == "text" and (welcome := self.template()):
            return Result(_reply(fields, welcome).encode(), 200, "text/xml")
        return Result(b"success", 200, "text/plain")

    def template(self) -> str:
        """The prepared answer an agent stored last, as the CRM has it: a token."""
        found = [item["Text__c"] for key, item in self.records.items() if key.startswith("WeChat_Template__c/")]
        return str(found[-1]) if found else ""

    def store(self, kind: str, fields: dict[str, object]) -> str:
        with self.lock:
            record_id = f"a0{next(self.numbers):013d}AAA"
            self.records[f"{kind}/{record_id}"] = {"Id": record_id, **fields}
        return record_id

    def record(self, call: Call) -> Result:
        kind, _, record_id = call.path.partition(_OBJECTS)[2].partition("/")
        if call.method == "POST":
            return json_result({"id": self.store(kind, json.loads(call.body)), "success": True}, 201)
        found = self.records.get(f"{kind}/{record_id}")
        return json_result(found) if found else json_result([{"errorCode": "NOT_FOUND"}], 404)


def _text(fields: dict[str, str]) -> dict[str, object]:
    return {"Text__c": fields["Content"]} if "Content" in fields else {}


def _reply(push: dict[str, str], content: str) -> str:
    return (
        f"<xml><ToUserName><![CDATA[{push['FromUserName']}]]></ToUserName>"
        f"<FromUserName><![CDATA[{push['ToUserName']}]]></FromUserName>"
        f"<CreateTime>{int(time.time())}</CreateTime><MsgType><![CDATA[text]]></MsgType>"
        f"<Content><![CDATA[{content}]]></Content></xml>"
    )


if __name__ == "__main__":
    run_forever(Crm().handle, sys.argv[1], sys.argv[2])
