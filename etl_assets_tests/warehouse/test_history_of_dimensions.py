"""What dimensions said earlier: the star as of a moment, and facts with the names of their time."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from etl_assets.adapters.postgres import connect
from etl_assets.simulator.postgres import Server
from etl_assets_tests.harness import Platform, snapshot_of

NEW_DESIGN, NEW_DEPARTMENT = "Renamed design", "Renamed department"
ORDERS_AFTER = 3

SALES_BY_DESIGN = """SELECT design_name, sum(units_sold * unit_price)
    FROM {}sales_order{} JOIN {}design USING (design_id) GROUP BY design_name"""


@pytest.fixture(params=["simulated", "real"])
def platform(
    request: pytest.FixtureRequest, server: Server, warehouse_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> Platform:
    return Platform(snapshot_of(request.param, server, request), warehouse_url, bucket_url, monkeypatch)


def as_of(platform: Platform, time: datetime | None, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query of a session that has set the moment."""
    with connect(platform.warehouse_url) as connection:
        if time:
            connection.run(f"SET etl_assets.as_of = '{time}'")
        return [tuple(row) for row in connection.run(sql)]


def sales_at_source(platform: Platform) -> dict[str, Decimal]:
    return dict(map(tuple, platform.totesys(SALES_BY_DESIGN.format("", "", ""))))


def capture_and_load(platform: Platform) -> datetime:
    """Capture and load; return the time of the capture."""
    platform.refresh()
    platform.next_window()
    return platform.latest_capture.captured_at


def test_silent_renames_are_seen_as_of_each_moment_and_each_order_keeps_the_names_of_its_time(
    platform: Platform,
) -> None:
    [[order, design, staff, department]] = platform.totesys(
        """SELECT min(sales_order_id), design_id, staff_id, department_id FROM sales_order JOIN staff USING (staff_id)
           GROUP BY design_id, staff_id, department_id ORDER BY count(*) DESC, min(sales_order_id) LIMIT 1"""
    )
    [[old_design]] = platform.totesys("SELECT design_name FROM design WHERE design_id = :key", key=design)
    [[old_department]] = platform.totesys(
        "SELECT department_name FROM department WHERE department_id = :key", key=department
    )
    colleagues = {
        key for [key] in platform.totesys("SELECT staff_id FROM staff WHERE department_id = :key", key=department)
    }
    sales_before = sales_at_source(platform)
    before = capture_and_load(platform)

    platform.totesys("UPDATE design SET design_name = :name WHERE design_id = :key", name=NEW_DESIGN, key=design)
    platform.totesys(
        "UPDATE department SET department_name = :name WHERE department_id = :key", name=NEW_DEPARTMENT, key=department
    )
    sales_after = sales_at_source(platform)
    assert sales_after != sales_before
    after = capture_and_load(platform)

    columns = [
        name
        for [name] in platform.totesys(
            """SELECT column_name::text FROM information_schema.columns
               WHERE table_schema = 'public' AND table_name = 'sales_order'
               AND column_name NOT IN ('sales_order_id', 'created_at', 'last_updated')"""
        )
    ]
    [[highest]] = platform.totesys("SELECT max(sales_order_id) FROM sales_order")
    new_orders = [highest + number for number in range(1, ORDERS_AFTER + 1)]
    for new_order in new_orders:
        platform.totesys(
            f"""INSERT INTO sales_order (sales_order_id, created_at, last_updated, {", ".join(columns)})
                SELECT :new, localtimestamp(3), localtimestamp(3), {", ".join(columns)}
                FROM sales_order WHERE sales_order_id = :old""",
            new=new_order,
            old=order,
        )
    sales_now = sales_at_source(platform)
    now = capture_and_load(platform)

    name = f"SELECT design_name FROM as_of.dim_design WHERE design_id = {design}"
    departments = f"SELECT staff_id FROM as_of.dim_staff WHERE department_name = '{NEW_DEPARTMENT}'"
    sales = SALES_BY_DESIGN.format("as_of.fact_", "_current", "as_of.dim_")
    [(department_before,)] = as_of(
        platform, before, f"SELECT department_name FROM as_of.dim_staff WHERE staff_id = {staff}"
    )
    assert department_before == old_department
    for time, design_name, renamed, expected_sales in (
        (before, old_design, set(), sales_before),
        (after, NEW_DESIGN, colleagues, sales_after),
        (now, NEW_DESIGN, colleagues, sales_now),
        (None, NEW_DESIGN, colleagues, sales_now),
    ):
        assert as_of(platform, time, name) == [(design_name,)], time
        assert {key for (key,) in as_of(platform, time, departments)} == renamed, time
        assert dict(as_of(platform, time, sales)) == expected_sales, time

    for view in ("as_of.fact_sales_order_as_was", "warehouse.fact_sales_order_as_was"):
        orders = as_of(
            platform,
            None,
            f"""SELECT sales_order_id > {highest}, design_name, sales_staff_department_name
                FROM {view} WHERE design_id = {design} AND sales_staff_id = {staff}""",
        )
        assert {row for row in orders if not row[0]} == {(False, old_design, old_department)}
        assert [row for row in orders if row[0]] == [(True, NEW_DESIGN, NEW_DEPARTMENT)] * ORDERS_AFTER
        as_was = dict(as_of(platform, None, f"SELECT design_name, sum(units_sold * unit_price) FROM {view} GROUP BY 1"))
        assert as_was[NEW_DESIGN] == sales_now[NEW_DESIGN] - sales_after[NEW_DESIGN]
        assert {**as_was, NEW_DESIGN: 0} == {**sales_before, NEW_DESIGN: 0}
