"""The promises' fixtures: one gateway in this process, for every test that makes it fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.promises.house import House


@pytest.fixture(scope="session")
def built() -> Iterator[House]:
    with House() as house:
        house.converse()
        yield house


@pytest.fixture
def house(built: House) -> Iterator[House]:
    """The gateway as it was configured, whatever a test did to it."""
    world, table, behaviour = built.world, built.assembly.gateway.table, built.crm.behaviour
    yield built
    built.world, built.assembly.gateway.table, built.crm.behaviour = world, table, behaviour
    built.crm_answers = None
