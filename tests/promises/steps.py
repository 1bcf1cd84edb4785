"""Every step of an exchange that can fail, found by looking: a function or port method added later is one too."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from proxy import caller, cleared, journey, ports
from proxy.crypto import field_token
from proxy.edge import http_guard, upstream_request
from proxy.gateway import World
from proxy.policy import carry_out, plan
from proxy.wechat import delivery, envelope, push, reply, signature
from tests.promises.house import House

SPINE: tuple[ModuleType, ...] = (journey, cleared)
"""Swept with every fault, with the functions that decide, carry out, and read what arrives."""
DEEP: tuple[ModuleType, ...] = (
    *(plan, carry_out, caller, push, signature, envelope, reply, delivery, field_token, http_guard, upstream_request),
)
"""What the spine calls: swept with some."""

APART = frozenset(
    {
        # A policy on trial may fail as it likes: tests/promises/test_shadow.py.
        "proxy.journey.differences",
        # Reached by forms and empty values only, inside steps that are swept as a whole: tests/policy/.
        "proxy.policy.plan._says_nothing",
        "proxy.policy.carry_out._names",
        "proxy.policy.carry_out._findable",
        "proxy.policy.carry_out.redaction_of",
    }
)

type Hook = Callable[[], object]
"""Called when a step is entered. What it raises, the step raises; what it returns, if awaitable, is awaited first."""


@dataclass(frozen=True, slots=True)
class Step:
    """A function of a module, or a method of the port that stands in `field` of gateway.World."""

    name: str
    full: bool
    function: Callable[..., Any] | None = None
    field: str = ""
    method: str = ""
    waits: bool = False
    """It is asynchronous: it can also never end."""

    @contextmanager
    def hooked(self, house: House, hook: Hook, *, after: bool = False) -> Iterator[None]:
        """The step calls `hook` whenever it is entered, or when it is through."""
        if self.function is not None:
            with _replaced(self.function, _around(self.function, hook, after)):
                yield
            return
        before = house.world
        port = _Port(getattr(before, self.field), self.method, hook, after)
        house.world = dataclasses.replace(before, **{self.field: port})
        try:
            yield
        finally:
            house.world = before


def all_steps() -> list[Step]:
    found = [
        Step(
            f"{module.__name__.removeprefix('proxy.')}.{name}",
            module in SPINE or name in ("carry_out", "make_plan", "read_head"),
            it,
        )
        for module in (*SPINE, *DEEP)
        for name, it in vars(module).items()
        if inspect.isfunction(it) and it.__module__ == module.__name__ and f"{module.__name__}.{name}" not in APART
    ]
    for field, protocol in typing.get_type_hints(World).items():
        assert protocol.__module__ == ports.__name__
        for name in _methods(protocol):
            waits = inspect.iscoroutinefunction(getattr(protocol, name))
            found.append(Step(f"{field}.{name}", True, None, field, name, waits))
    return found


def _methods(protocol: type) -> list[str]:
    return [
        name
        for name, it in vars(protocol).items()
        if inspect.isfunction(it) and (name == "__call__" or not name.startswith("_"))
    ]


class _Port:
    """A port one method of which is hooked."""

    def __init__(self, real: Any, method: str, hook: Hook, after: bool) -> None:
        self._real, self._method, self._hook, self._after = real, method, hook, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return _around(real, self._hook, self._after) if name == self._method else real

    def __call__(self, *args: Any) -> Any:
        return _around(self._real, self._hook, self._after)(*args)


def _around(real: Callable[..., Any], hook: Hook, after: bool) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(real):

        @functools.wraps(real)
        async def waiting(*args: Any, **named: Any) -> Any:
            result = await real(*args, **named) if after else None
            if inspect.isawaitable(pause := hook()):
                await pause
            return result if after else await real(*args, **named)

        return waiting

    @functools.wraps(real)
    def plain(*args: Any, **named: Any) -> Any:
        result = real(*args, **named) if after else None
        hook()
        return result if after else real(*args, **named)

    return plain


@contextmanager
def _replaced(function: Callable[..., Any], by: Callable[..., Any]) -> Iterator[None]:
    """Wherever in the project the name stands: a function is imported by name in more than one place."""
    places = [
        (module, name)
        for key, module in list(sys.modules.items())
        if key == "proxy" or key.startswith("proxy.")
        for name, it in list(vars(module).items())
        if it is function
    ]
    for module, name in places:
        setattr(module, name, by)
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, function)


def cancelled_from_outside() -> object:
    """Somebody cancels the exchange while the step waits."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return asyncio.sleep(30)


def never_ends() -> object:
    return asyncio.get_running_loop().create_future()
