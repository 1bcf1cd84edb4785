"""What the import contract cannot say, said over the syntax trees of all of proxy/."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "proxy").rglob("*.py"))
ENGINE = ("mitmproxy", "OpenSSL")
# The parts of the engine that forward by default, run add-ons or open sockets of their own.
FORBIDDEN = (
    "mitmproxy.master",
    "mitmproxy.addons",
    "mitmproxy.addonmanager",
    "mitmproxy.script",
    "mitmproxy.tools",
    "mitmproxy.proxy.layers.http",
    "mitmproxy.proxy.layers.modes",
    "mitmproxy.proxy.mode_servers",
    "mitmproxy.proxy.mode_specs",
    "mitmproxy.proxy.server",
)
PURE = ("wechat", "document", "crypto", "policy", "source")
PURE_FILES = ("message", "route", "caller", "refusal", "cleared", "journey")

SECRET_NAME = re.compile(r"(^|_)(signature|signed|digest|token|hash|mac|tag|secret|password|dek|kek|key_id)s?$")
# Comparisons of public values, whose duration tells nobody anything.
PUBLIC_COMPARISONS = {
    "crypto/field_token.py: parsed.key_id != key.id",  # ids stand in every token
    "observe/audit.py: (entry.n, entry.hash) == (known.n, known.hash)",  # hashes stand in the file beside the records
    "observe/audit.py: (entry.n, entry.prev) == (known.n + 1, known.hash)",
    "observe/audit_verify.py: digest(match[3], line[:-_HASH_FIELD] + b'}') != match[4]",
    "observe/audit_verify.py: entry.prev.decode() != self.head.hash",
    "observe/audit_verify.py: entry.hash.decode() != self.exported.hash",
    "serve/selfcheck.py: signed == '1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1'",  # a published vector
    "serve/worker.py: loaded.settings.digest != digest",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "proxy").as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def imports(tree: ast.AST) -> Iterator[str]:
    """Every dotted name an import may bring in: `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def comparisons(tree: ast.AST) -> Iterator[str]:
    """`==` and `!=` with an operand whose name says it is a signature, digest, token, hash or key."""
    for node in (item for item in ast.walk(tree) if isinstance(item, ast.Compare)):
        equal = any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        if equal and any(_sounds_secret(operand) for operand in (node.left, *node.comparators)):
            yield ast.unparse(node)


def _sounds_secret(node: ast.expr) -> bool:
    """Looks through tuples, calls such as `digest(...)` or `hash.decode()`, and slices."""
    if isinstance(node, ast.Tuple):
        return any(_sounds_secret(item) for item in node.elts)
    if isinstance(node, ast.Call):
        inner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if isinstance(inner, ast.Name | ast.Attribute) and _sounds_secret(inner):
            return True
        return _sounds_secret(node.func)
    if isinstance(node, ast.Subscript):
        return _sounds_secret(node.value)
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return SECRET_NAME.search(name) is not None


def swallowing(tree: ast.AST) -> Iterator[int]:
    """Lines of handlers that catch everything and do nothing; `suppress(Exception)` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            idle = all(isinstance(item, ast.Pass | ast.Continue) or _is_constant(item) for item in node.body)
            found = idle and (node.type is None or _is_everything(node.type))
        else:
            found = isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress"
            found = found and any(_is_everything(arg) for arg in node.args)
        if found:
            yield node.lineno


def _is_everything(node: ast.expr) -> bool:
    return bool({"Exception", "BaseException"} & set(re.findall(r"\w+", ast.unparse(node))))


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_engines_forwarding_parts_are_imported_nowhere(path: Path) -> None:
    assert [name for name in imports(tree_of(path)) if within(name, *FORBIDDEN)] == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_engine_is_imported_in_the_edge_only(path: Path) -> None:
    if not name_of(path).startswith("edge/"):
        assert [name for name in imports(tree_of(path)) if within(name, *ENGINE)] == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_imported_by_a_name_made_at_run_time(path: Path) -> None:
    text = ast.unparse(tree_of(path))
    if name_of(path) != "cli/__init__.py":  # its table names our own commands
        assert "importlib" not in text
    assert "__import__" not in text


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_reaches_a_forbidden_part_through_a_package(path: Path) -> None:
    """`import mitmproxy.proxy` and then `mitmproxy.proxy.layers.http`: an attribute is as good as an import."""
    text = ast.unparse(tree_of(path))
    assert not re.search(r"\blayers\.(http|modes)\b|\bmitmproxy\.(master|addons|addonmanager|script|tools)\b", text)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_secrets_are_compared_in_constant_time(path: Path) -> None:
    found = {f"{name_of(path)}: {text}" for text in comparisons(tree_of(path)) if not name_of(path).startswith("emul")}
    assert found - PUBLIC_COMPARISONS == set()


def test_no_public_comparison_is_left_over() -> None:
    found = {f"{name_of(path)}: {text}" for path in FILES for text in comparisons(tree_of(path))}
    assert PUBLIC_COMPARISONS - found == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_swallows_every_exception(path: Path) -> None:
    assert list(swallowing(tree_of(path))) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    tree = tree_of(path)
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_pure_code_has_its_tests_in_the_same_place(path: Path) -> None:
    name = Path(name_of(path))
    pure = name.parts[0] in PURE if len(name.parts) > 1 else name.stem in PURE_FILES
    if pure and name.name != "__init__.py":
        assert (ROOT / "tests" / name.parent / f"test_{name.name}").is_file()


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (comparisons, "if msg_signature == given: pass", "if len(body) == 40: pass"),
        (comparisons, "x = self.tag != other", "x = tags_in(a) is b"),
        (comparisons, "y = sha256(x).digest() == b", "y = compare_digest(a, b)"),
        (swallowing, "try: f()\nexcept Exception: pass", "try: f()\nexcept ValueError: pass"),
        (swallowing, "try: f()\nexcept: ...", "try: f()\nexcept Exception: raise"),
        (swallowing, "with suppress(OSError, Exception): f()", "with suppress(OSError): f()"),
    ],
)
def test_the_checks_see_what_they_are_for(check, bad: str, good: str) -> None:  # type: ignore[no-untyped-def]
    assert list(check(ast.parse(bad)))
    assert not list(check(ast.parse(good)))


def test_an_import_is_seen_in_every_spelling() -> None:
    for text in (
        "import mitmproxy.master",
        "from mitmproxy import master",
        "from mitmproxy.proxy.layers import http",
        "from mitmproxy.proxy.layers.http import HttpLayer",
        "def f():\n    from mitmproxy.addons import core",
    ):
        assert any(within(name, *FORBIDDEN) for name in imports(ast.parse(text))), text
    assert not any(within(name, *FORBIDDEN) for name in imports(ast.parse("import proxy.edge.http_layer")))
