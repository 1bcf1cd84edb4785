"""Every code of a problem has its entry in docs/errors.md, and every entry its code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+|secret")


def codes_in(*rooms: str) -> set[str]:
    """The codes in every call of `Problem(...)` and of methods and functions named `problem`."""
    found = set()
    for room in rooms:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("Problem", "problem"):
                    found |= {
                        arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant) and _is_code(arg.value)
                    }
    return found


def _is_code(value: object) -> bool:
    return isinstance(value, str) and CODE.fullmatch(value) is not None


def entries() -> dict[str, str]:
    text = (ROOT / "docs" / "errors.md").read_text()
    section = re.split(r"^## ", text, flags=re.M)
    (problems,) = [part for part in section if part.startswith("Problems in files\n")]
    parts = re.split(r"^### (.+)\n", problems, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_code_of_files_and_policies_has_its_entry() -> None:
    codes = codes_in("proxy/source", "proxy/policy", "proxy/serve")
    assert len(codes) > 30
    assert codes - entries().keys() == set()


def test_no_entry_is_left_over() -> None:
    assert entries().keys() - codes_in("proxy") == set()


@pytest.mark.parametrize("code", sorted(entries()))
def test_an_entry_says_what_it_means_where_it_comes_from_and_what_to_do(code: str) -> None:
    lines = entries()[code].strip().splitlines()
    assert [line.split(":")[0] for line in lines] == ["- Means", "- Cause", "- Fix"]
    assert all(len(line) > 12 for line in lines)
