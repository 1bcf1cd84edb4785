"""`wxgate policy explain`: the table, and one clear line for whatever is no policy or no message."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.policy import policy

POLICIES = Path(__file__).parents[2] / "policies"
CRM, TEXT = POLICIES / "wechat-crm.yaml", POLICIES / "samples" / "text.xml"
SEND = ("--direction", "outbound", "--method", "post", "--path", "/cgi-bin/message/custom/send")
ANSWER = {"touser": "oyORnuP8q7ou2gfYjqLzSIWZf0rs", "msgtype": "text", "text": {"content": "您好"}}


def explain(file: Path, sample: Path, *options: str) -> Result:
    result = CliRunner().invoke(policy, ["explain", str(file), str(sample), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def written(directory: Path, content: str | bytes | object, name: str = "sample") -> Path:
    path = directory / name
    if not isinstance(content, str | bytes):
        content = json.dumps(content, ensure_ascii=False)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(result: Result) -> list[list[str]]:
    lines = result.output.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("selector"))
    return [re.split(r"  +", line) for line in lines[start + 1 : -1]]


def test_every_field_of_a_push_is_one_row_with_its_rule() -> None:
    result = explain(CRM, TEXT)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == f"sample: {TEXT}, inbound request, xml body, type text"
    assert re.fullmatch(rf"policy: {CRM}, revision [0-9a-f]{{16}}", lines[1])
    assert lines[2] == "message: follower-text"
    assert lines[-1] == "leaves: every one of 6 fields is decided"
    found = rows(result)
    assert [row[0].removeprefix("xml:/xml/") for row in found] == [
        *("ToUserName", "FromUserName", "CreateTime", "MsgType", "Content", "MsgId")
    ]
    content = found[4]
    assert re.fullmatch(r"wg1\.[\w-]{8}… \(\d+ characters\)", content[1])
    assert content[2:6] == ["encrypted", "follower.message", "follower.message", "default data"]
    line = next(number for number, text in enumerate(CRM.read_text().splitlines(), 1) if "xml:/xml/Content: {" in text)
    assert content[6] == f"{CRM}:{line}:7"
    assert found[0][1:] == [
        '"gh_10f6c3c3ac5a"',
        "allowed",
        *("-", "-", "-"),
        f"{POLICIES}/wechat-envelope.yaml:9:7",
        found[0][-1],
    ]
    assert found[0][-1] == "the rule says allow"


def test_the_clear_text_of_what_is_encrypted_is_not_printed() -> None:
    output = explain(CRM, TEXT).output
    assert "订单" not in output
    assert "oyORnuP8q7ou2gfYjqLzSIWZf0rs" not in output


def test_columns_stand_under_each_other_with_chinese_values(tmp_path: Path) -> None:
    result = explain(CRM, written(tmp_path, ANSWER), *SEND, "--query", "access_token=x", "--protect")
    assert result.exit_code == 0
    assert [row[1:3] for row in rows(result)] == [
        ['"oyORnuP8q7ou2gfYjqLzSIWZf0rs"', "revealed"],
        ['"text"', "allowed"],
        ['"您好"', "revealed"],
        ['"x"', "allowed"],
    ]


def test_an_answer_in_clear_is_refused_as_in_production(tmp_path: Path) -> None:
    result = explain(CRM, written(tmp_path, ANSWER), *SEND, "--query", "access_token=x")
    assert result.exit_code == 1
    assert "no role given" in result.output
    assert result.output.splitlines()[-1] == (
        "refused: clear_value_refused, a value is in clear where the policy wants a token; nothing leaves"
    )
    assert [row[2] for row in rows(result)] == ["refused", "allowed", "refused", "allowed"]
    assert {row[1] for row in rows(result)} == {"-"}


def test_a_field_no_rule_knows_is_shown_and_refuses(tmp_path: Path) -> None:
    sample = written(tmp_path, TEXT.read_text().replace("</xml>", "<Neu>1</Neu></xml>"))
    result = explain(CRM, sample)
    assert result.exit_code == 1
    assert rows(result)[-1] == [
        *("xml:/xml/Neu", "-", "refused", "-", "-", "-", "-"),
        "field_unknown: a field is not covered by any rule of the policy",
    ]


def test_a_message_no_entry_matches_lists_what_the_policy_knows(tmp_path: Path) -> None:
    voice = written(tmp_path, TEXT.read_text().replace("[text]", "[voice]"))
    result = explain(CRM, voice)
    assert result.exit_code == 1
    assert "type voice" in result.output
    assert "refused: message_unknown" in result.output
    assert "text (xml), image (xml)" in result.output
    assert "outbound POST /cgi-bin/message/custom/send" in result.output
    assert "agent GET /services/data/{...}/sobjects/WeChat_Message__c/{...}" in result.output


def test_an_unknown_type_that_is_encrypted_is_not_called_a_match(tmp_path: Path) -> None:
    text = "version: 1\nextends: [base.yaml]\ndefaults: {unmatched: encrypt}\n"
    written(tmp_path, (POLICIES / "wechat-envelope.yaml").read_text(), "base.yaml")
    voice = written(tmp_path, TEXT.read_text().replace("[text]", "[voice]"), "voice.xml")
    result = explain(written(tmp_path, text, "p.yaml"), voice)
    assert result.exit_code == 0
    assert 'message: none names the type voice; the policy says "unmatched: encrypt"' in result.output
    assert ["unclassified", "unclassified"] in [row[3:5] for row in rows(result)]


def test_a_message_without_body_is_explained_by_its_query(tmp_path: Path) -> None:
    path = "/services/data/v59.0/sobjects/WeChat_Message__c/a01"
    options = ("--direction", "agent", "--method", "GET", "--path", path, "--role", "agent")
    result = explain(CRM, written(tmp_path, ""), *options)
    assert result.exit_code == 0
    assert "no body" in result.output
    result = explain(CRM, written(tmp_path, ""), *options, "--query", "columns=Id")
    assert (result.exit_code, rows(result)[0][0]) == (1, "query:columns")


def test_a_role_sees_its_own_in_an_answer_of_the_crm(tmp_path: Path) -> None:
    sample = written(tmp_path, {"Id": "a01", "Text__c": "words", "OpenId__c": "oyORnuP8q7ou2gfYjqLzSIWZf0rs"})
    path = "/services/data/v59.0/sobjects/WeChat_Message__c/a01"
    options = ("--direction", "agent", "--phase", "response", "--method", "GET", "--path", path, "--protect")
    assert rows(explain(CRM, sample, *options, "--role", "agent"))[1][1:3] == ['"words"', "revealed"]
    assert rows(explain(CRM, sample, *options, "--role", "clerk"))[1][2] == "encrypted"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is no document: document_malformed, the body is not a well-formed document"),
        (b"\x7fELF\x00\xff", "is no document: document_type, the body is of another type than this route takes"),
        (b"plain words", "is no document: document_type, the body is of another type than this route takes"),
        (b"<xml><a>", "is no document: document_malformed, the body is not a well-formed document"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><xml>&a;</xml>', "is no document: document_malformed"),
        (b"<" * 500_000, "is no document: document_malformed"),
        (b'{"a":' * 500, "is no document: document_too_large"),
        (b"<xml><Encrypt>x</Encrypt></xml>", "has no MsgType, or an event no Event; an encrypted push must be opened"),
        (b"<xml><MsgType>event</MsgType></xml>", "has no MsgType, or an event no Event"),
        (b"{}", "has no MsgType"),
        (b"x" * (1024 * 1024 + 1), "has more than 1048576 bytes"),
    ],
)
def test_a_sample_that_is_no_message_is_one_line(tmp_path: Path, content: bytes, line: str) -> None:
    sample = written(tmp_path, content)
    result = explain(CRM, sample)
    assert result.exit_code == 2
    assert result.output.startswith(f"Error: {sample} {line}")
    assert result.output.count("\n") == 1


def test_files_that_are_none_are_one_line(tmp_path: Path) -> None:
    for file, sample, line in (
        (tmp_path / "gone", TEXT, f"Error: {tmp_path}/gone does not exist; check the path\n"),
        (tmp_path, TEXT, f"Error: {tmp_path} is a directory; name a file\n"),
        (CRM, tmp_path / "gone", f"Error: {tmp_path}/gone does not exist; check the path\n"),
        (CRM, tmp_path, f"Error: {tmp_path} is a directory; name a file\n"),
    ):
        result = explain(file, sample)
        assert (result.exit_code, result.output) == (2, line)


def test_a_policy_with_problems_is_shown_with_all_of_them(tmp_path: Path) -> None:
    bad = written(tmp_path, "version: 2\nx: 1\n", "p.yaml")
    result = explain(bad, TEXT)
    assert result.exit_code == 2
    assert [line.split(" ")[0] for line in result.output.splitlines()] == [f"{bad}:1:10:", f"{bad}:2:1:", "Error:"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--role", "agent"), "go with --direction outbound or agent"),
        (("--method", "GET"), "go with --direction outbound or agent"),
        (("--direction", "agent"), "needs --method and --path"),
        (("--direction", "outbound", "--method", "GET"), "needs --method and --path"),
        ((*SEND, "--phase", "response", "--query", "a=1"), "--query and --header go with --phase request"),
        (("--direction", "sideways"), "Invalid value"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_not_a_guess(options: tuple[str, ...], message: str) -> None:
    result = explain(CRM, TEXT, *options)
    assert (result.exit_code, message in result.output) == (2, True)


def test_a_query_that_is_malformed_is_refused(tmp_path: Path) -> None:
    result = explain(CRM, written(tmp_path, ANSWER), *SEND, "--query", "a=1&a=2")
    assert result.exit_code == 1
    assert "refused: document_malformed" in result.output


# --- what else says which rules a call meets

CALLS = """version: 1
classes: {datum: {action: encrypt}}
messages:
  - name: records
    direction: agent
    match: {method: POST, path: /records}
    request:
      form:phone: {class: datum, as: datum}
      form:kind: allow
      header:x-kind: allow
    response:
      json:$.name: {class: datum, as: datum}
    errors:
      4xx: {"json:$.errorCode": allow}
tests: []
"""
RECORDS = ("--direction", "agent", "--method", "POST", "--path", "/records")


def test_an_urlencoded_body_is_read_as_the_rules_say(tmp_path: Path) -> None:
    calls, body = written(tmp_path, CALLS, "calls.yaml"), written(tmp_path, "phone=%2B8613800000000&kind=a+b")
    result = explain(calls, body, *RECORDS)
    assert result.exit_code == 0, result.output
    assert [row[:3] for row in rows(result)][1] == ["form:kind", '"a b"', "allowed"]
    assert rows(result)[0][0] == "form:phone"
    assert rows(result)[0][2] == "encrypted"


def test_header_fields_of_a_call_are_rows(tmp_path: Path) -> None:
    calls, body = written(tmp_path, CALLS, "calls.yaml"), written(tmp_path, "kind=a")
    result = explain(calls, body, *RECORDS, "--header", "X-Kind: b", "--header", "X-Other: never")
    assert ["header:x-kind", '"b"', "allowed"] in [row[:3] for row in rows(result)]
    assert "never" not in result.output


def test_an_answer_of_another_status_meets_other_rules(tmp_path: Path) -> None:
    calls, fault = written(tmp_path, CALLS, "calls.yaml"), written(tmp_path, {"errorCode": "LIMIT"})
    answer = (*RECORDS, "--phase", "response")
    assert explain(calls, fault, *answer).exit_code == 1
    assert explain(calls, fault, *answer, "--status", "429").exit_code == 0
    assert explain(calls, fault, *answer, "--status", "500").exit_code == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--header", "X-Kind: b"),
        ("--status", "429"),
        ("--content-type", "text/xml"),
        (*RECORDS, "--account", "shop"),
        (*RECORDS, "--status", "429"),
        (*RECORDS, "--phase", "response", "--header", "X-Kind: b"),
        (*RECORDS, "--header", "no colon"),
        (*RECORDS, "--header", ": no name"),
        (*RECORDS, "--header", "X-Kind: ä"),
        (*RECORDS, "--header", "X-Kind: a\r\nX-Other: b"),
    ],
)
def test_options_that_do_not_go_together_are_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    result = explain(written(tmp_path, CALLS, "calls.yaml"), written(tmp_path, "kind=a"), *options)
    assert result.exit_code == 2
    assert "Error: --" in result.output


SITUATED = """version: 1
classes: {words: {action: encrypt}, note: {action: redact, text: gone}}
variants: [{when: {tenant: acme}, classes: {note: {action: encrypt}}}]
messages:
  - name: shop-text
    direction: inbound
    match: {type: text, account: shop}
    request: {xml:/xml/MsgType: allow, xml:/xml/Content: {class: words, as: words}}
  - name: json-call
    direction: agent
    match: {method: POST, path: /m, content_type: application/json, region: [au, jp]}
    request:
      'json:$.t > json:$.a': {class: words, as: a}
      json:$.t: {class: note, as: t}
"""
CALL = ("--direction", "agent", "--method", "POST", "--path", "/m", "--region", "au")


def test_account_owner_and_media_type_say_which_message_it_is(tmp_path: Path) -> None:
    file = written(tmp_path, SITUATED, "p.yaml")
    push = written(tmp_path, "<xml><MsgType>text</MsgType><Content>x</Content></xml>")
    assert "message: shop-text" in explain(file, push, "--account", "shop").output
    unknown = explain(file, push)
    assert unknown.exit_code == 1 and "text (xml) for account shop" in unknown.output
    call = written(tmp_path, {"t": "x"}, "call.json")
    known = explain(file, call, *CALL, "--content-type", "Application/JSON")
    assert known.exit_code == 0 and "message: json-call" in known.output
    unknown = explain(file, call, *CALL)
    assert "agent POST /m for region au or jp, content_type application/json" in unknown.output


def test_a_variant_is_explained_for_its_owner(tmp_path: Path) -> None:
    file, call = written(tmp_path, SITUATED, "p.yaml"), written(tmp_path, {"t": "x"}, "call.json")
    options = (*CALL, "--content-type", "application/json")
    assert rows(explain(file, call, *options))[0][2] == "redacted"
    assert rows(explain(file, call, *options, "--tenant", "acme"))[0][2] == "encrypted"


def test_a_text_and_what_stands_inside_it_are_rows(tmp_path: Path) -> None:
    file, call = written(tmp_path, SITUATED, "p.yaml"), written(tmp_path, {"t": '{"a": "x"}'}, "call.json")
    found = rows(explain(file, call, *CALL, "--content-type", "application/json"))
    assert [row[0] for row in found] == ["json:$.t", "json:$.t > json:$.a"]
    assert [row[2] for row in found] == ["looked into", "encrypted"]
