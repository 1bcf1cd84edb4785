"""Files to a policy: what belongs together, what contradicts itself, and what would leak."""

import re
import time

import pytest

from proxy.policy.compile import compile_policy
from proxy.policy.rules import Action, Direction
from proxy.source.problem import Problems
from tests.policy.build import (
    CLASSES,
    GOOD,
    SEND,
    codes,
    compiled,
    loader,
    message,
    place_of,
    problems,
)


def test_a_good_policy_compiles_without_a_word() -> None:
    policy = compiled(GOOD)
    assert policy.warnings == ()
    assert set(policy.pushes) == {("xml", "text")}
    assert [call.request.name for call in policy.calls] == ["send"]


# --- which message


@pytest.mark.parametrize(
    ("match", "kind"),
    [
        ("{type: text}", "text"),
        ("{type: Text}", "text"),
        ("{type: event, event: subscribe}", "event.subscribe"),
        ("{type: event, event: LOCATION}", "event.location"),
    ],
)
def test_a_push_is_found_by_its_type_without_regard_to_case(match: str, kind: str) -> None:
    assert ("xml", kind) in compiled("version: 1\nmessages:\n" + message(match)).pushes


@pytest.mark.parametrize(
    "match",
    [
        *(
            "{}",
            "{type: ''}",
            "{type: event}",
            "{event: subscribe}",
            "{type: text, event: x}",
            "{type: text, reply: text}",
        ),
        *("{reply: text, event: x}", "{type: event.subscribe, event: view}"),
    ],
)
def test_a_push_that_does_not_say_which_is_a_problem(match: str) -> None:
    assert codes("version: 1\nmessages:\n" + message(match)) == ["match-malformed"]


@pytest.mark.parametrize(
    "match",
    [
        *("{}", "{method: POST}", "{path: /a}", "{method: post, path: /a}", "{method: HEAD, path: /a}"),
        *("{method: GET, path: a}", "{method: GET, path: /}", "{method: GET, path: /a/}", "{method: GET, path: //a}"),
        *("{method: GET, path: /a/../b}", "{method: GET, path: '/a?b'}", "{method: GET, path: '/a/{B}'}"),
        *("{method: GET, path: '/a/x{b}'}", "{method: GET, path: '/%61'}", "{method: GET, path: '/*'}"),
        "{method: GET, path: /" + "a/" * 300 + "b}",
    ],
)
def test_a_call_that_does_not_say_which_is_a_problem(match: str) -> None:
    text = "version: 1\nmessages:\n" + message(match, "request: {'json:$.a': drop}", "agent")
    assert codes(text) == ["match-malformed"]


@pytest.mark.parametrize(
    ("match", "rules"),
    [
        ("{type: text}", "response: {'xml:/xml/a': drop}"),
        ("{reply: text}", "request: {'xml:/xml/a': drop}"),
        ("{type: text}", "request: {'xml:/xml/a': drop}, response: {'xml:/xml/b': drop}"),
    ],
)
def test_rules_in_a_phase_the_message_does_not_have_are_a_problem(match: str, rules: str) -> None:
    assert codes("version: 1\nmessages:\n" + message(match, rules)) == ["phase-wrong"]


@pytest.mark.parametrize("rules", ["request: {}", "request: {'query:a': drop}"])
def test_a_push_without_a_body_rule_would_match_nothing(rules: str) -> None:
    assert "form-missing" in codes("version: 1\nmessages:\n" + message("{type: text}", rules))


def test_one_message_cannot_have_xml_and_json_rules() -> None:
    rules = "request: {'xml:/xml/a': drop, 'json:$.a': drop}"
    assert codes("version: 1\nmessages:\n" + message("{type: text}", rules)) == ["forms-mixed"]


# --- what cannot be there twice


def test_two_messages_of_one_name_are_a_problem_that_names_the_first() -> None:
    text = "version: 1\nmessages:\n" + message("{type: text}") + message("{type: image}")
    (problem,) = problems(text)
    assert (problem.code, problem.place.line) == ("message-duplicate", 4)
    assert "p.yaml:3:5" in problem.message


@pytest.mark.parametrize(
    ("one", "two"), [("{type: text}", "{type: TEXT}"), ("{type: event, event: view}", "{type: event, event: VIEW}")]
)
def test_two_pushes_of_one_type_overlap(one: str, two: str) -> None:
    text = "version: 1\nmessages:\n" + message(one, name="a") + message(two, name="b")
    assert [(problem.code, problem.place.line) for problem in problems(text)] == [("message-overlap", 4)]


def test_two_pushes_of_one_type_in_xml_and_json_do_not_overlap() -> None:
    json_form = message("{type: text}", "request: {'json:$.a': drop}", name="b")
    assert len(compiled("version: 1\nmessages:\n" + message("{type: text}") + json_form).pushes) == 2


def variables(path: str) -> str:
    """Rules for the variables of `path`, in front of others."""
    rules = ", ".join(f"'path:{name}': allow" for name in re.findall(r"{(\w+)}", path))
    return f"request: {{{rules}}}, "


@pytest.mark.parametrize(
    ("one", "two"),
    [("/a/b", "/a/b"), ("/a/{x}", "/a/b"), ("/a/{x}", "/{y}/b"), ("/a/{x}", "/a/{y}")],
)
def test_two_calls_that_one_request_could_be_overlap(one: str, two: str) -> None:
    calls = [
        message(f"{{method: GET, path: '{path}'}}", variables(path) + "response: {'json:$.a': drop}", "agent", name)
        for path, name in ((one, "one"), (two, "two"))
    ]
    assert codes("version: 1\nmessages:\n" + "".join(calls)) == ["message-overlap"]


def test_calls_that_differ_in_method_direction_or_length_do_not_overlap() -> None:
    calls = [
        message(
            f"{{method: {method}, path: '{path}'}}", variables(path) + "response: {'json:$.a': drop}", direction, name
        )
        for name, method, path, direction in (
            ("a", "GET", "/a/{x}", "agent"),
            ("b", "POST", "/a/{x}", "agent"),
            ("c", "GET", "/a/{x}", "outbound"),
            ("d", "GET", "/a/{x}/b", "agent"),
        )
    ]
    assert len(compiled("version: 1\nmessages:\n" + "".join(calls)).calls) == 4


@pytest.mark.parametrize(
    ("one", "two"),
    [("json:$.a", "json:$['a']"), ("json:$.*", "json:$[*]"), ("json:$['a'].b", 'json:$["a"].b')],
)
def test_one_field_cannot_have_two_rules_however_it_is_spelled(one: str, two: str) -> None:
    rules = f"    request:\n      {one}: drop\n      {two}: refuse\n"
    text = "version: 1\nmessages:\n  - name: m\n    direction: inbound\n    match: {type: text}\n" + rules
    (problem,) = problems(text)
    assert (problem.code, problem.place.line, problem.place.column) == ("rule-duplicate", *place_of(text, two))
    assert "p.yaml:7:7" in problem.message


# --- extends, common, defaults, revision


BASE = """version: 1
defaults: {unmatched: encrypt}
classes: {id: {action: encrypt, deterministic: true}}
common:
  - direction: inbound
    request: {'xml:/xml/a': {class: id, as: a}, 'xml:/xml/b': allow}
"""
CHILD = "version: 1\nextends: [base.yaml]\n"


def test_what_is_extended_lends_classes_common_rules_and_defaults() -> None:
    own = "request: {'xml:/xml/b': drop, 'xml:/xml/c': {class: id, as: c}}"
    policy = compiled(CHILD + "messages:\n" + message("{type: text}", own), base=BASE)
    rules = policy.pushes["xml", "text"]
    actions = {rule.selector.text: rule.action for rule in rules.rules if rule.selector}
    assert actions == {"xml:/xml/b": Action.DROP, "xml:/xml/c": Action.ENCRYPT, "xml:/xml/a": Action.ENCRYPT}
    assert (found := rules.tables["body"].find(("xml", "b"))) is not None
    assert found.action is Action.DROP
    assert policy.unmatched is Action.ENCRYPT
    assert set(policy.fallback) == {"xml", "json"}


def test_the_own_default_goes_before_the_extended_one_and_refuse_is_the_default_of_all() -> None:
    policy = compiled(CHILD + "defaults: {unmatched: refuse}\n", base=BASE)
    assert (policy.unmatched, policy.fallback) == (Action.REFUSE, {})
    assert compiled("version: 1").unmatched is Action.REFUSE


def test_common_rules_of_another_direction_form_or_phase_do_not_apply() -> None:
    policy = compiled(
        "version: 1\ncommon:\n  - direction: agent\n"
        "    request: {'json:$.a': allow}\n    response: {'json:$.b': allow}\nmessages:\n"
        + message("{method: GET, path: /a}", "request: {'json:$.x': drop}", "agent", "a")
        + message("{method: GET, path: /b}", "request: {'json:$.x': drop}", "outbound", "b")
        + message("{method: GET, path: /c}", "request: {'xml:/x/y': drop}", "agent", "c")
    )
    a, b, c = (call.request for call in policy.calls)
    assert [len(rules.rules) for rules in (a, b, c)] == [2, 1, 1]


def test_a_fault_that_many_messages_inherit_is_told_once() -> None:
    text = CLASSES + "common: [{direction: inbound, request: {'xml:/xml/z': {class: secret, as: z, bind: [nope]}}}]\n"
    text += "messages:\n" + message("{type: text}", name="a") + message("{type: image}", name="b")
    assert codes(text) == ["bind-unknown"]


def test_a_base_that_is_not_there_is_a_problem_where_it_is_named() -> None:
    (problem,) = problems(CHILD)
    assert (problem.code, problem.place.line, problem.place.column) == ("extends-missing", 2, 11)


@pytest.mark.parametrize(
    "files",
    [
        {"p.yaml": "version: 1\nextends: [p.yaml]"},
        {"p.yaml": "version: 1\nextends: [a]", "a": "version: 1\nextends: [p.yaml]"},
        {"p.yaml": "version: 1\nextends: [a]", "a": "version: 1\nextends: [b]", "b": "version: 1\nextends: [a]"},
        {"p.yaml": "version: 1\nextends: [n0]"} | {f"n{n}": f"version: 1\nextends: [n{n + 1}]" for n in range(2000)},
    ],
    ids=["itself", "two", "three", "endless"],
)
def test_policies_that_extend_each_other_in_a_circle_or_without_end_are_a_problem(files: dict[str, str]) -> None:
    with pytest.raises(Problems) as error:
        compile_policy("p.yaml", loader(files))
    assert "extends-circle" in {problem.code for problem in error.value.found}


def test_two_ways_to_one_base_read_it_once() -> None:
    files = {"p.yaml": "version: 1\nextends: [a, b]", "a": "version: 1\nextends: [c]", "b": "version: 1\nextends: [c]"}
    files["c"] = "version: 1\nmessages:\n" + message("{type: text}")
    assert len(compile_policy("p.yaml", loader(files)).pushes) == 1


def test_problems_name_the_file_they_are_in() -> None:
    (problem,) = problems(CHILD, base=BASE + "nonsense: 1\n")
    assert (problem.place.file, problem.code) == ("base.yaml", "unknown-key")


def test_the_main_file_that_is_not_there_is_the_loader_s_to_tell() -> None:
    with pytest.raises(FileNotFoundError):
        compile_policy("p.yaml", loader({}))


def test_the_revision_is_that_of_all_bytes() -> None:
    one = compiled(CHILD, base=BASE).revision
    assert one == compiled(CHILD, base=BASE).revision
    assert len(one) == 16
    assert one != compiled(CHILD + "# x\n", base=BASE).revision
    assert one != compiled(CHILD, base=BASE + "# x\n").revision


def test_only_the_own_tests_are_run() -> None:
    tests = "tests: [{sample: %s, expect: {}}]\n"
    policy = compiled(CHILD + tests % "own", base=BASE + tests % "base")
    assert [test.sample for test in policy.tests] == ["own"]


def test_warnings_alone_do_not_stop_a_policy() -> None:
    policy = compiled("version: 1\nmessages:\n" + message("{type: image}", "request: {'xml:/xml/PicUrl': allow}"))
    assert [warning.code for warning in policy.warnings] == ["allow-handle"]


def test_classes_of_all_files_are_known_by_name() -> None:
    assert set(compiled(CHILD + "classes: {x: {action: drop}}", base=BASE).classes) == {"id", "x"}


def test_a_call_without_rules_has_no_body() -> None:
    text = "version: 1\nmessages:\n" + message("{method: GET, path: /a}", "request: {}", "agent")
    (call,) = compiled(text).calls
    assert (call.direction, call.request.form, call.response.form) == (Direction.AGENT, "", "")


def test_two_thousand_rules_compile_in_bounded_time() -> None:
    rules = "".join(f"      json:$.f{n}: {{class: secret, as: f{n}}}\n" for n in range(2000))
    start = time.process_time()
    compiled(CLASSES + "messages:\n" + SEND + rules)
    assert time.process_time() - start < 10
