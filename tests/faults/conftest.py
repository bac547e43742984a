"""Fixtures of the fault tests."""

from collections.abc import Iterator

import pytest

from pacifica.tests.system.graphs import House


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Flow on servers of its own, which lives through all rounds."""
    house = House(tmp_path_factory.mktemp("rounds"))
    try:
        yield house.start(tmp_path_factory.mktemp("processes"))
    finally:
        house.remove()
