"""A guard that is taken out is missed by a test. Some guards on every run, all of them by `make mutate`."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.promises.guards import GUARDS, Guard

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("mutate", str(ROOT / "tools" / "mutate"))
    spec = importlib.util.spec_from_loader("mutate", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("guard", GUARDS, ids=[guard.name for guard in GUARDS])
def test_the_guard_is_where_the_table_says(guard: Guard) -> None:
    assert (ROOT / guard.file).read_text().count(guard.old) == 1
    assert guard.old != guard.new
    assert all((ROOT / test.partition("::")[0]).is_file() for test in guard.tests)


def test_guards_have_names_of_their_own() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)
    assert sum(guard.quick for guard in GUARDS) >= 8


@pytest.mark.timeout(300)
def test_the_quick_ones_are_missed(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    code = tool.mutate([guard for guard in GUARDS if guard.quick], lanes=2)
    assert code == 0, capsys.readouterr().out


@pytest.mark.timeout(300)
def test_one_that_no_test_misses_is_told(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Guard("a comment", "proxy/caller.py", "Pure.", "Impure.", ("tests/test_message.py",))
    moved = Guard("gone", "proxy/message.py", "nowhere to be found", "", ("tests/test_message.py",))
    assert tool.mutate([quiet], lanes=1) == 1
    assert "no test misses: a comment" in capsys.readouterr().out
    assert tool.mutate([moved], lanes=1) == 2
    assert "not where" in capsys.readouterr().out
