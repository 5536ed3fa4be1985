"""What the attempts share: a quiet company, and a seed."""

from datetime import date

import pytest

from etl_assets.databases import connect
from etl_assets.simulator.activity import Totesys
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED, history
from etl_assets_tests.conftest import fresh
from etl_assets_tests.platform import Platform


@pytest.fixture(scope="session")
def quiet_totesys(server: Server, empty_totesys: str) -> str:
    """The name of a database with three days of totesys, whose every change is noted."""
    with connect(server.create_database("quiet_totesys", empty_totesys)) as connection:
        Totesys(connection, seed=SEED).past(date(2024, 8, 19), date(2024, 8, 22))
        history.watch(connection)
    return "quiet_totesys"


@pytest.fixture
def totesys_url(server: Server, quiet_totesys: str) -> str:
    return fresh(server, quiet_totesys)


@pytest.fixture
def quiet(platform: Platform) -> Platform:
    """The platform over three days of totesys."""
    return platform
