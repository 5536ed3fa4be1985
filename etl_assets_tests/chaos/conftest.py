"""Fixtures of the chaos tests: a small totesys in which every version of a fact is recorded."""

import pytest

from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos.history import create_totesys
from etl_assets_tests.harness import new_database


@pytest.fixture(scope="session")
def small_totesys(server: Server) -> str:
    """The name of a database with three days of totesys."""
    create_totesys(server, "small_totesys")
    return "small_totesys"


@pytest.fixture
def totesys_url(server: Server, small_totesys: str) -> str:
    """The platform of the chaos tests is over three days of totesys."""
    return new_database(server, small_totesys)
