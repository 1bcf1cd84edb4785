"""Path variables, header fields and urlencoded bodies: decided like any other value, and nothing undeclared goes on."""

import pytest

from proxy.crypto.data_key import Purpose
from proxy.crypto.field_token import seal, seal_equal
from proxy.document.head import read_header, read_path
from proxy.document.query import read_form, read_query
from proxy.document.tree import render
from proxy.message import HeaderList
from proxy.policy.carry_out import Carried, carry_out
from proxy.policy.plan import make_plan
from proxy.policy.rules import Direction
from proxy.policy.selector import GATEWAYS_OWN, parse_selector
from tests.policy.build import REGION, TENANT, House, codes, compiled, problems, refused
from tests.policy.forms import CLASSES, index, opened, scope

OPENID = "oABCDEFGHIJKLMNOPQRSTUVWXYZ1"  # as long as WeChat's are


def policy(rules: str = "", path: str = "/m/{id}", direction: str = "agent", phase: str = "request") -> str:
    head = f"  - name: m\n    direction: {direction}\n    match: {{method: POST, path: '{path}'}}\n    {phase}:\n"
    return CLASSES + head + "".join(f"      {line.strip()}\n" for line in rules.strip().splitlines())


def house(rules: str, path: str = "/m/{id}", direction: str = "agent") -> House:
    return House(compiled(policy(rules, path, direction)))


def carried(
    it: House,
    path: str = "/m/x",
    *,
    headers: HeaderList = (),
    body: str | None = None,
    query: str = "",
    role: str = "",
    direction: Direction = Direction.AGENT,
) -> Carried:
    """What leaves of a call, as `journey.parse_call` and `plan_call` would have it."""
    call = it.policy.find_call(direction, "POST", path)
    assert call is not None
    head = (read_path(path, call.path.names), read_header(headers, call.request.declared_fields))
    document = None if body is None else read_form(body.encode())
    plan = make_plan(it.policy, call.request, document, query, role, head)
    found = carry_out(plan, it.keys, TENANT, REGION, it.entropy)
    assert found.complete()
    return found


def token(it: House, text: str, datum: str, *binds: str) -> str:
    return seal(it.keys.sealing["default", Purpose.DATA], "s", text, scope(datum, *binds), it.entropy(24))


def id_token(it: House, text: str, datum: str) -> str:
    return seal_equal(it.keys.sealing["default", Purpose.LOOKUP], text, scope(datum))


# --- what an author is told


def test_a_variable_without_a_rule_is_a_problem_that_names_it() -> None:
    (problem,) = problems(policy("path:id: allow", "/m/{id}/{other}"))
    assert (problem.code, "{other}" in problem.message, "path:other: allow" in problem.fix) == (
        "path-unmatched",
        True,
        True,
    )
    assert codes(policy("json:$.a: allow", "/{a}/{b}")) == ["path-unmatched"] * 2


def test_a_variable_may_have_its_rule_from_all_messages() -> None:
    common = "common:\n  - direction: agent\n    request: {'path:id': allow, 'path:elsewhere': allow}\n"
    compiled(policy("json:$.a: allow").replace("messages:\n", common + "messages:\n"))
    # of another direction is of no use
    other = common.replace("agent", "outbound")
    assert codes(policy("json:$.a: allow").replace("messages:\n", other + "messages:\n")) == ["path-unmatched"]


def test_a_rule_for_a_variable_the_path_does_not_have_is_a_problem() -> None:
    assert codes(policy("path:id: allow\npath:ids: allow")) == ["path-unknown"]
    assert codes(policy("path:id: allow", "/m/id")) == ["path-unknown"]


DROPPED = ["drop", "{class: hidden}", "{class: redacted, on_error: drop}", "{class: phone, as: p, write: {id: mask}}"]


@pytest.mark.parametrize("rule", DROPPED)
@pytest.mark.parametrize("common", [False, True])
def test_a_variable_cannot_go_or_become_several(rule: str, common: bool) -> None:
    classes = CLASSES.replace("messages:", "  hidden: {action: drop}\nmessages:")
    text = policy(f"path:id: {rule}").replace(CLASSES, classes)
    if common:
        text = policy("json:$.a: allow").replace(CLASSES, classes)
        inherited = f"common:\n  - direction: agent\n    request: {{'path:id': {rule}}}\n"
        text = text.replace("messages:\n", inherited + "messages:\n")
    assert set(codes(text)) == {"path-action"}


@pytest.mark.parametrize("selector", ["path:id", "header:x-a", "query:a", "form:a"])
@pytest.mark.parametrize("common", [False, True])
def test_an_answer_has_no_head_and_no_form(selector: str, common: bool) -> None:
    text = policy(f"{selector}: allow\njson:$.b: allow", "/m", phase="response")
    if common:
        inherited = f"common:\n  - direction: agent\n    response: {{'{selector}': allow}}\n"
        text = policy("json:$.b: allow", "/m", phase="response").replace("messages:\n", inherited + "messages:\n")
    if common and selector == "form:a":
        compiled(text)  # common rules are for bodies of their form only
    else:
        assert set(codes(text)) >= {"part-missing"}
        assert set(codes(text)) <= {"part-missing", "forms-mixed"}


@pytest.mark.parametrize("selector", ["path:id", "header:x-a", "query:a", "form:a"])
def test_pushes_and_passive_replies_have_neither(selector: str) -> None:
    for match, phase in (("{type: text}", "request"), ("{reply: text}", "response")):
        rules = f"{phase}: {{'xml:/xml/a': allow, '{selector}': allow}}"
        entry = f"  - name: m\n    direction: inbound\n    match: {match}\n    {rules}\n"
        assert "part-missing" in codes(CLASSES + entry)


@pytest.mark.parametrize(
    "selector",
    [
        *(f"header:{name}" for name in sorted(GATEWAYS_OWN)),
        *("header:wxgate-delivery", "header:wxgate-policy", "header:wxgate-", "header:Host", "header:If-Match"),
        *(
            "header:",
            "header:*",
            "header:x a",
            "header:x_a",
            "header:x:a",
            "header:é",
            "header:a\n",
            "header:" + "a" * 65,
        ),
        *("path:", "path:*", "path:Id", "path:{id}", "path:1", "path:a/b", "path:é", "path:id\n", "path:" + "a" * 33),
        *("form:", "form:*", "form:a b", "form:a[0]", "form:é", "form:" + "a" * 65),
    ],
)
def test_what_names_no_field_or_one_of_the_gateway_s_own_is_no_selector(selector: str) -> None:
    with pytest.raises(ValueError, match="selector names"):
        parse_selector(selector)


def test_the_gateway_s_own_are_those_that_say_who_asks_where_it_goes_and_where_it_ends() -> None:
    assert {
        "host",
        "authorization",
        "proxy-authorization",
        "cookie",
        "content-length",
        "transfer-encoding",
    } <= GATEWAYS_OWN
    assert {"connection", "upgrade", "te", "trailer", "expect", "content-type", "content-encoding"} <= GATEWAYS_OWN


# --- paths


def test_an_allowed_variable_stays() -> None:
    assert carried(house("path:id: allow"), "/m/500x").path == "/m/500x"


def test_an_encrypted_variable_leaves_as_a_token_that_opens_and_fits_the_path() -> None:
    it = house("path:id: {class: words, as: rec}")
    found = carried(it, "/m/500x")
    assert found.path.startswith("/m/wg1.")
    assert opened(it, found.path[3:], "rec") == ("s", "500x")
    assert "500x" not in found.path
    # and the same policy takes it again as it is
    assert carried(it, found.path).path == found.path


def test_a_variable_becomes_what_its_class_makes_of_it() -> None:
    it = house("path:id: {class: indexed, as: phone}")
    assert carried(it, "/m/13800138000").path == "/m/" + index(it, "+8613800138000", "phone")
    assert carried(house("path:id: {class: masked}"), "/m/Anna").path == "/m/A%2A%2A%2A"
    assert carried(house("path:id: {class: redacted}"), "/m/Anna").path == "/m/gone"


def test_a_variable_that_is_refused_refuses_the_message() -> None:
    assert refused(lambda: carried(house("path:id: refuse"))) == "field_refused"


REVEALED = "path:id: {class: id, as: openid, reveal: {'*': plain}}"


def outbound(rules: str = REVEALED) -> House:
    return house(rules, direction="outbound")


def test_a_token_in_a_path_is_opened_towards_the_upstream() -> None:
    it = outbound()
    found = carried(it, f"/m/{id_token(it, OPENID, 'openid')}", direction=Direction.OUTBOUND)
    assert found.path == f"/m/{OPENID}"


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "../../admin", "a\\b", "a%2fb", "a?x=1", "a#b", "a;b"])
def test_what_a_token_hides_cannot_make_another_path(text: str) -> None:
    it = outbound()
    path = f"/m/{id_token(it, text, 'openid')}"
    assert refused(lambda: carried(it, path, direction=Direction.OUTBOUND)) == "value_refused"


@pytest.mark.parametrize(("text", "segment"), [("a b", "a%20b"), ("你", "%E4%BD%A0"), ("a&b=c", "a%26b%3Dc")])
def test_what_a_token_hides_is_percent_encoded(text: str, segment: str) -> None:
    it = outbound()
    found = carried(it, f"/m/{id_token(it, text, 'openid')}", direction=Direction.OUTBOUND)
    assert found.path == f"/m/{segment}"


def test_a_clear_id_and_a_foreign_token_are_refused_where_one_is_opened() -> None:
    it = outbound()
    assert refused(lambda: carried(it, "/m/plain", direction=Direction.OUTBOUND)) == "clear_value_refused"
    foreign = f"/m/{id_token(it, OPENID, 'other')}"
    assert refused(lambda: carried(it, foreign, direction=Direction.OUTBOUND)) == "token_refused"


@pytest.mark.parametrize(
    "path", ["/m/", "/m/.", "/m/..", "/m/%2e%2e", "/m/a%2Fb", "/m/a;b", "/m/a b", "/m/a/", "/m//a"]
)
def test_a_path_that_could_be_read_in_two_ways_is_no_call_the_policy_knows(path: str) -> None:
    assert house("path:id: allow").policy.find_call(Direction.AGENT, "POST", path) is None


def test_two_variables_each_have_their_own_rule() -> None:
    it = house("path:a: allow\npath:b: {class: redacted}", "/{a}/m/{b}")
    assert carried(it, "/x/m/x").path == "/x/m/gone"


# --- what a value is bound to

BOUND = "form:text: {class: words, as: words, bind: [openid]}"


def test_a_value_can_be_bound_to_a_variable_of_the_path_in_clear_or_by_token() -> None:
    it = house(f"path:id: {{class: id, as: openid}}\n{BOUND}")
    for path in (f"/m/{OPENID}", f"/m/{id_token(it, OPENID, 'openid')}"):
        found = carried(it, path, body="text=hi")
        stored = read_form(found.body).leaves[0].text
        assert opened(it, stored, "words", OPENID) == ("s", "hi")


@pytest.mark.parametrize("rule", ["query:who", "header:x-who"])
def test_a_value_can_be_bound_to_a_parameter_or_a_field(rule: str) -> None:
    it = house(f"path:id: allow\n{rule}: {{action: allow, as: openid}}\n{BOUND}")
    query = "who=o1" if rule.startswith("query") else ""
    headers = ((b"x-who", b"o1"),) if rule.startswith("header") else ()
    found = carried(it, body="text=hi", headers=headers, query=query)
    assert opened(it, read_form(found.body).leaves[0].text, "words", "o1") == ("s", "hi")
    assert refused(lambda: carried(it, body="text=hi")) == "bind_missing"


def test_path_and_query_that_name_two_different_persons_leave_nothing_to_bind_to() -> None:
    it = house(f"path:id: {{action: allow, as: openid}}\nquery:who: {{action: allow, as: openid}}\n{BOUND}")
    assert refused(lambda: carried(it, "/m/o1", body="text=hi", query="who=o2")) == "bind_missing"
    assert carried(it, "/m/o1", body="text=hi", query="who=o1").query == "who=o1"


def test_a_token_opens_for_the_person_in_the_path_only() -> None:
    it = outbound(f"{REVEALED}\nform:text: {{class: words, as: words, bind: [openid], reveal: {{'*': plain}}}}")
    text = token(it, "hi", "words", "o1")
    path = f"/m/{id_token(it, 'o1', 'openid')}"
    assert carried(it, path, body=f"text={text}", direction=Direction.OUTBOUND).body == b"text=hi"
    other = f"/m/{id_token(it, 'o2', 'openid')}"
    assert refused(lambda: carried(it, other, body=f"text={text}", direction=Direction.OUTBOUND)) == "token_refused"


# --- header fields

SECRETS = ((b"authorization", b"Bearer s"), (b"cookie", b"s"), (b"x-forwarded-for", b"192.0.2.1"), (b"x-b", b"s"))


def test_fields_without_a_rule_never_go_on() -> None:
    assert carried(house("path:id: allow"), headers=SECRETS).headers == ()
    found = carried(house("path:id: allow\nheader:x-a: allow"), headers=(*SECRETS, (b"x-a", b'"1"')))
    assert found.headers == ((b"x-a", b'"1"'),)


def test_fields_without_a_rule_do_not_go_on_where_unknown_fields_are_encrypted() -> None:
    text = policy("path:id: allow") + "defaults: {unmatched: encrypt}\n"
    assert carried(House(compiled(text)), headers=SECRETS).headers == ()


def test_undeclared_parameters_are_refused_where_unknown_fields_are_encrypted() -> None:
    it = House(compiled(policy("path:id: allow\nform:a: allow") + "defaults: {unmatched: encrypt}\n"))
    assert refused(lambda: carried(it, query="b=1")) == "field_unknown"
    found = carried(it, body="a=1&b=2")
    assert found.counts["unclassified"] == 1
    assert found.body.startswith(b"a=1&b=wg1.")


def test_a_declared_field_is_decided_like_any_value() -> None:
    it = house("path:id: allow\nheader:x-a: {class: words, as: a}\nheader:x-b: drop\nheader:x-c: {class: redacted}")
    found = carried(it, headers=((b"x-a", b"1"), (b"x-b", b"2"), (b"x-c", b"3")))
    (name, value), redacted = found.headers
    assert (name, redacted) == (b"x-a", (b"x-c", b"gone"))
    assert opened(it, value.decode(), "a") == ("s", "1")
    assert found.values[1:] == (value.decode(), None, "gone")


def test_a_declared_field_that_is_refused_refuses_the_message_and_only_if_it_is_there() -> None:
    it = house("path:id: allow\nheader:x-a: refuse")
    assert refused(lambda: carried(it, headers=((b"x-a", b""),))) == "field_refused"
    assert carried(it).headers == ()


def test_a_declared_field_that_is_repeated_or_not_ascii_is_refused_even_if_it_would_be_dropped() -> None:
    it = house("path:id: allow\nheader:x-a: drop")
    repeated, foreign = ((b"x-a", b"1"), (b"x-a", b"1")), ((b"x-a", b"\xc3\xa9"),)
    assert refused(lambda: carried(it, headers=repeated)) == "document_malformed"
    assert refused(lambda: carried(it, headers=foreign)) == "document_malformed"


@pytest.mark.parametrize("text", ["你", "a\r\nx-evil: 1", "a\x00"])
def test_what_a_token_hides_cannot_end_a_field(text: str) -> None:
    it = outbound("path:id: allow\nheader:x-a: {class: words, as: a, reveal: {'*': plain}}")

    def sent(hidden: str) -> HeaderList:
        return carried(it, headers=((b"x-a", token(it, hidden, "a").encode()),), direction=Direction.OUTBOUND).headers

    assert sent("plain") == ((b"x-a", b"plain"),)
    assert refused(lambda: sent(text)) == "value_refused"


def test_a_field_cannot_become_several() -> None:
    assert "write-place" in codes(policy("path:id: allow\nheader:x-a: {class: phone, as: p, write: {x-a: mask}}"))


# --- urlencoded bodies


def test_every_parameter_of_a_form_has_its_rule_or_the_message_is_refused() -> None:
    it = house("path:id: allow\nform:a: allow\nform:b: {class: redacted}\nform:c: drop")
    assert carried(it, body="c=1&a=x%20y&b=2").body == b"a=x%20y&b=gone"
    assert refused(lambda: carried(it, body="a=1&d=2")) == "field_unknown"
    # the same name in a query, or in other letters, is another field
    assert refused(lambda: carried(it, body="a=1", query="a=1")) == "field_unknown"
    assert refused(lambda: carried(it, body="A=1")) == "field_unknown"
    assert refused(lambda: carried(it, body="a=1&%61=2")) == "document_malformed"


def test_a_form_parameter_can_become_several() -> None:
    it = house("path:id: allow\nform:tel: {class: phone, as: tel, write: {tel: mask, tel_enc: token}}")
    found = {str(leaf.path[0]): leaf.text for leaf in read_form(carried(it, body="tel=13800138000").body).leaves}
    assert set(found) == {"tel", "tel_enc"}
    assert found["tel"].endswith("8000")
    assert opened(it, found["tel_enc"], "tel") == ("s", "13800138000")
    assert refused(lambda: carried(it, body="tel=1&tel_enc=2")) == "field_unknown"


def test_a_body_of_another_form_than_the_rules_is_refused() -> None:
    it = house("path:id: allow\njson:$.a: allow")
    assert refused(lambda: carried(it, body="a=1")) == "document_type"
    assert refused(lambda: carried(house("path:id: allow"), body="a=1")) == "document_type"


def test_a_query_and_a_form_are_read_alike() -> None:
    text = "a=1&b=%E4%BD%A0+x&c"
    one, two = read_query(text), read_form(text.encode())
    assert [(leaf.path, leaf.text) for leaf in one.leaves] == [(leaf.path, leaf.text) for leaf in two.leaves]
    assert (one.form, two.form) == ("query", "form")
    assert render(two, {}) == text.encode()
