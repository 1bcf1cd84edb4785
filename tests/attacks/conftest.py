"""What attacks on a whole gateway or on its edge start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.promises.house import House
from tests.support.servers import Authority


@pytest.fixture(scope="package")
def house() -> Iterator[House]:
    with House() as one:
        yield one


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))
