"""Strict YAML: what it reads, and every way a file can mean something else than it seems to say."""

import math
import time
import tracemalloc

import pytest

from proxy.source.problem import Problem, Problems
from proxy.source.yaml_reader import MAX_BYTES, MAX_NODES, Mapping, Node, Scalar, Sequence, read_yaml

Found = list[tuple[str, int, int]]


def read(text: str | bytes) -> Node:
    return read_yaml(text if isinstance(text, bytes) else text.encode(), "f.yaml")


def found(text: str | bytes) -> Found:
    with pytest.raises(Problems) as error:
        read(text)
    return [(problem.code, problem.place.line, problem.place.column) for problem in error.value.found]


def problems(text: str | bytes) -> list[Problem]:
    with pytest.raises(Problems) as error:
        read(text)
    return error.value.found


def plain(node: Node) -> object:
    if isinstance(node, Mapping):
        return {key.text: plain(value) for key, value in node.entries}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return node.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(word, word) for word in ("yes", "no", "on", "off", "y", "Yes", "NO", "On", "tRUE", "nULL")],
        *[(word, True) for word in ("true", "True", "TRUE")],
        *[(word, False) for word in ("false", "False", "FALSE")],
        *[(word, None) for word in ("null", "Null", "NULL", "~", "")],
        *[("0", 0), ("-12", -12), ("+3", 3), ("017", 17), ("0o7", 7), ("0o17", 15), ("0x1F", 31)],
        *[("1e3", 1000.0), ("-1.5", -1.5), (".5", 0.5), ("1.", 1.0), ("1E-2", 0.01), (".inf", math.inf)],
        *[("-.INF", -math.inf), ("1e9999", math.inf)],
        # YAML 1.1 only: numbers with underscores, in base 60 or 2, dates, the default key
        *[(word, word) for word in ("1_000", "1:30", "0b1", "2001-01-01", "=", "0o8", "0xg", "1e", "e1", ".", "+")],
        *[('"12"', "12"), ("'true'", "true"), ('""', ""), ("'~'", "~"), ('"a\\u00e9"', "aé")],
    ],
)
def test_scalars_are_read_by_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    node = plain(read(f"a: {text}\n"))
    assert node == {"a": value}
    assert isinstance(node, dict)
    assert type(node["a"]) is type(value)


def test_not_a_number_is_a_float() -> None:
    node = plain(read("a: .nan"))
    assert isinstance(node, dict)
    assert math.isnan(node["a"])


def test_what_was_written_stays_readable() -> None:
    node = read("a: 0x1F")
    assert isinstance(node, Mapping)
    assert [(key.text, value.text) for key, value in node.entries if isinstance(value, Scalar)] == [("a", "0x1F")]


def test_places_count_lines_and_characters_from_1() -> None:
    node = read("键:\n  - 值: [1, 二, 3]\n")
    assert isinstance(node, Mapping)
    (key, items) = node.entries[0]
    assert isinstance(items, Sequence)
    inner = items.items[0]
    assert isinstance(inner, Mapping)
    (name, values) = inner.entries[0]
    assert isinstance(values, Sequence)
    places = [key.place, items.place, name.place, values.place, *(item.place for item in values.items)]
    assert [(place.line, place.column) for place in places] == [
        (1, 1),
        (2, 3),
        (2, 5),
        (2, 8),
        (2, 9),
        (2, 12),
        (2, 15),
    ]


def test_block_scalars_flow_mappings_and_windows_lines_are_read() -> None:
    assert plain(read("a: |\r\n  x\r\n  y\r\nb: {c, d: 1}\r\n")) == {"a": "x\ny\n", "b": {"c": None, "d": 1}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", [("yaml-duplicate", 3, 1)]),
        ('"a": 1\na: 2\n', [("yaml-duplicate", 2, 1)]),
        ("{x: {a: 1, a: 2}}", [("yaml-duplicate", 1, 12)]),
        ("a: !!str 12\n", [("yaml-tag", 1, 4)]),
        ("a: ! 12\n", [("yaml-tag", 1, 4)]),
        ("a: !!python/object/apply:os.system [true]\n", [("yaml-tag", 1, 4)]),
        ("!<tag:yaml.org,2002:map> {a: 1}", [("yaml-tag", 1, 1)]),
        ("a: &x\n  b: 1\nc: *x\n", [("yaml-alias", 1, 4), ("yaml-alias", 3, 4)]),
        ("&a a: 1\n", [("yaml-alias", 1, 1)]),
        ("a: *nothing\n", [("yaml-alias", 1, 4)]),
        ("a: &loop [*loop]\n", [("yaml-alias", 1, 4), ("yaml-alias", 1, 11)]),
        ("a:\n  <<: {b: 1}\n", [("yaml-alias", 2, 3)]),
        ("a: 1\n---\nb: 1\n", [("yaml-documents", 2, 1)]),
        ("%YAML 1.1\n---\na: yes\n", [("yaml-directive", 1, 1)]),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", [("yaml-directive", 1, 1)]),
        ("a: 1\n...\nb: 1\n", [("yaml-syntax", 3, 1)]),
        ("a:\n\tb: 1\n", [("yaml-syntax", 2, 1)]),
        ("a: 1\n  b: 2\n", [("yaml-syntax", 2, 4)]),
        ("a: [1, 2\nb: 3\n", [("yaml-syntax", 2, 2)]),
        ("a: 'x\n", [("yaml-syntax", 2, 1)]),
        ("? [a]\n: 1\n? {b: 1}\n: 2\n", [("yaml-key", 1, 3), ("yaml-key", 3, 3)]),
        ("", [("yaml-empty", 1, 1)]),
        ("# nothing\n", [("yaml-empty", 1, 1)]),
        ("a: 1\n二: \x00", [("yaml-encoding", 2, 4)]),
        ("a: \x1b[2J", [("yaml-encoding", 1, 4)]),
        ("\ufeffa: 1\n", [("yaml-encoding", 1, 1)]),
        ("a: \ufeff1\n", [("yaml-encoding", 1, 4)]),
        # libyaml takes U+2028, U+0085 and a lone CR for line breaks: editors show a comment, libyaml reads a key
        ("a: 1 # b\u2028c: 2\n", [("yaml-encoding", 1, 9)]),
        ("a: 1 # b\u0085c: 2\n", [("yaml-encoding", 1, 9)]),
        ("a: 1 # b\rc: 2\n", [("yaml-encoding", 1, 9)]),
        ("a: x\u202ey\n", [("yaml-encoding", 1, 5)]),
        ('a: "\\x00"\nb: "\\u202e"\n', [("yaml-encoding", 1, 4), ("yaml-encoding", 2, 4)]),
    ],
)
def test_what_could_be_read_in_two_ways_is_a_problem_at_its_place(text: str, expected: Found) -> None:
    assert found(text) == expected


def test_a_duplicate_names_the_line_of_the_first() -> None:
    assert "first in line 2" in problems("x: 0\na: 1\na: 2\n")[0].message


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b"\xff\xfea\x00", 1, 1),
        (b"a: 1\nb: \xe9t\xe9\n", 2, 4),
        ("中文: ".encode() + b"\xff", 1, 5),
        (b"a: \xed\xa0\x80", 1, 4),
        (b"a: \xc0\xaf", 1, 4),
        (b"a: \xe4\xb8", 1, 4),
    ],
)
def test_bytes_that_are_not_utf_8_are_found_by_character(data: bytes, line: int, column: int) -> None:
    assert found(data) == [("yaml-encoding", line, column)]


def test_all_problems_are_told_at_once_the_syntax_error_that_ends_the_reading_too() -> None:
    text = "a: !!str 1\na: 2\n<<: &x {}\nb: *x\nc: [\n"
    assert found(text) == [
        ("yaml-tag", 1, 4),
        ("yaml-duplicate", 2, 1),
        ("yaml-alias", 3, 1),
        ("yaml-alias", 3, 5),
        ("yaml-alias", 4, 4),
        ("yaml-syntax", 6, 1),
    ]


BILLION_LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (BILLION_LAUGHS.encode(), "yaml-alias"),
        (b"[" * 100_000, "yaml-too-large"),
        (b"{a: " * 100_000, "yaml-too-large"),
        (b"- " * 100_000, "yaml-too-large"),
        (b"? " * 100_000, "yaml-too-large"),
        (b"[" + b"1," * (MAX_NODES + 1) + b"]", "yaml-too-large"),
        (b"a: " + b"x" * MAX_BYTES, "yaml-too-large"),
        (b"a: 1\n" * 20_000, "yaml-duplicate"),
    ],
    ids=["laughs", "flow lists", "flow maps", "block lists", "block keys", "values", "bytes", "duplicates"],
)
def test_bombs_are_refused_in_bounded_time(data: bytes, code: str) -> None:
    start = time.process_time()
    assert code in {name for name, _, _ in found(data[: MAX_BYTES + 1])}
    assert time.process_time() - start < 10


def test_50_megabytes_are_refused_before_anything_is_made_of_them() -> None:
    data = b"- a\n" * (50 * 1024 * 1024 // 4)
    tracemalloc.start()
    try:
        assert found(data) == [("yaml-too-large", 1, 1)]
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_the_largest_file_and_the_deepest_nesting_still_read() -> None:
    assert isinstance(read(b"a: " + b"x" * (MAX_BYTES - 3)), Mapping)
    assert isinstance(read("[" * 20 + "]" * 20), Sequence)
    assert found("[" * 22 + "]" * 22) == [("yaml-too-large", 1, 22)]


def test_an_endless_number_is_read_in_bounded_time() -> None:
    start = time.process_time()
    assert plain(read(b"a: " + b"1" * (MAX_BYTES - 3))) == {"a": math.inf}
    assert time.process_time() - start < 5
