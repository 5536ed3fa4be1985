"""The views of the warehouse: the star as of a moment, and each fact with its dimensions as they were."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import Connection, StatementRefusedError, connect, transaction
from etl_assets.ingestion.manifest import list_partition
from etl_assets.schema.columns import columns
from etl_assets.simulator.postgres import Server
from etl_assets.transformation.star_table import StarTable, star_table
from etl_assets.warehouse.ddl import comments, create_missing
from etl_assets.warehouse.relations import qualified
from etl_assets.warehouse.views import as_was_columns, as_was_queries
from etl_assets_tests.harness import Platform, new_database


@star_table(primary_key=("shop_id",), columns=columns(shop_id=pa.int32(), town=pa.string()))
def dim_shop(shop: pd.DataFrame) -> pd.DataFrame:
    """Shops."""
    return shop


@star_table(primary_key=("day",), columns=columns(day=pa.date32(), weekday=pa.string()), derived_from={})
def dim_day(**facts: pd.DataFrame) -> pd.DataFrame:
    """Days of sales."""
    return facts["fact_sale"]


@star_table(
    primary_key=("sale_id",),
    record_id="sale_record_id",
    event_time=("day", "time"),
    foreign_keys={"shop_id": "dim_shop", "sent_from_id": "dim_shop", "day": "dim_day"},
    columns=columns(
        sale_id=pa.int32(), shop_id=pa.int32(), sent_from_id=pa.int32(), day=pa.date32(), time=pa.time64("us")
    ),
)
def fact_sale(sale: pd.DataFrame) -> pd.DataFrame:
    """Sales."""
    return sale


STARS = [dim_shop, dim_day, fact_sale]
START = datetime(2024, 8, 22, 12)


def moment(hours: float) -> datetime:
    return START + timedelta(hours=hours)


@dataclass(frozen=True)
class Shop:
    """A version of a row of the dimension, by the hours until it was captured."""

    captured: float
    shop_id: int
    town: str
    deleted: bool = False


@dataclass(frozen=True)
class Sale:
    """A version of a fact."""

    captured: float
    sale_id: int
    shop_id: int
    sent_from_id: int
    sold: float
    deleted: bool = False


@pytest.fixture(scope="module")
def empty(server: Server) -> Iterator[Connection]:
    """The warehouse of the small star, without rows and foreign keys."""
    with connect(new_database(server)) as connection:
        with transaction(connection):
            create_missing(connection, STARS)
        yield connection


@pytest.fixture
def warehouse(empty: Connection) -> Iterator[Connection]:
    yield empty
    empty.run("RESET etl_assets.as_of")
    empty.run("RESET search_path")


def fill(connection: Connection, shops: Sequence[Shop], sales: Sequence[Sale]) -> None:
    """Replace what the warehouse holds."""
    connection.run("TRUNCATE warehouse.dim_shop, warehouse.dim_shop_versions, warehouse.fact_sale")
    for shop in shops:
        connection.run(
            "INSERT INTO warehouse.dim_shop_versions VALUES (:shop_id, :town, :captured_at, :deleted)",
            shop_id=shop.shop_id,
            town=shop.town,
            captured_at=moment(shop.captured),
            deleted=shop.deleted,
        )
    connection.run(
        "INSERT INTO warehouse.dim_shop SELECT DISTINCT ON (shop_id) * FROM warehouse.dim_shop_versions "
        "ORDER BY shop_id, captured_at DESC"
    )
    for sale in sales:
        connection.run(
            """INSERT INTO warehouse.fact_sale (sale_id, shop_id, sent_from_id, day, time, captured_at, deleted)
               VALUES (:sale_id, :shop_id, :sent_from_id, :day, :time, :captured_at, :deleted)""",
            sale_id=sale.sale_id,
            shop_id=sale.shop_id,
            sent_from_id=sale.sent_from_id,
            day=moment(sale.sold).date(),
            time=moment(sale.sold).time(),
            captured_at=moment(sale.captured),
            deleted=sale.deleted,
        )


def sales_as_was(connection: Connection, schema: str = "warehouse") -> list[list[Any]]:
    return connection.run(f"SELECT sale_id, shop_town, sent_from_town FROM {schema}.fact_sale_as_was ORDER BY 1")


def towns_of_sales(connection: Connection, *sold: float) -> list[str]:
    """Return the towns of sales of shop 1, in the order of these times."""
    connection.run("TRUNCATE warehouse.fact_sale")
    for sale_id, hours in enumerate(sold):
        connection.run(
            """INSERT INTO warehouse.fact_sale (sale_id, shop_id, sent_from_id, day, time, captured_at)
               VALUES (:sale_id, 1, 1, :day, :time, :captured_at)""",
            sale_id=sale_id,
            day=moment(hours).date(),
            time=moment(hours).time(),
            captured_at=moment(100),
        )
    return [town for _, town, _ in sales_as_was(connection)]


# The star as of a moment

_CAPTURES: list[list[str]] = [
    [],
    ["UPDATE design SET design_name = 'Renamed' WHERE design_id = 1", "UPDATE payment SET paid = NOT paid"],
    [
        "INSERT INTO design VALUES (9999, now(), 'Short-lived', '/', 'short.json', now())",
        "UPDATE sales_order SET units_sold = 11 WHERE sales_order_id IN (1, 2)",
        "UPDATE department SET location = 'Moved' WHERE department_id = 2",
    ],
    ["full", "DELETE FROM design WHERE design_id = 9999", "DELETE FROM payment WHERE payment_id IN (3, 4)"],
    [],
    [
        "INSERT INTO design VALUES (9999, now(), 'Returned', '/', 'short.json', now())",
        "UPDATE sales_order SET units_sold = 12 WHERE sales_order_id = 1",
        "UPDATE design SET design_name = 'Renamed again' WHERE design_id = 1",
    ],
    ["full"],
]


def as_of_relations(connection: Connection) -> list[str]:
    rows = connection.run("SELECT relname::text FROM pg_class WHERE relnamespace = 'as_of'::regnamespace ORDER BY 1")
    return [name for [name] in rows]


Contents = dict[str, tuple[list[str], int, str]]


def contents(connection: Connection, schema: str) -> Contents:
    """Return the columns, the number of rows and their hash of what there is in both schemas."""
    found = {}
    for name in as_of_relations(connection):
        connection.run(f"SELECT * FROM {schema}.{name} LIMIT 0")
        names = [column["name"] for column in connection.columns or ()]
        [[count, digest]] = connection.run(
            f"""SELECT count(*), md5(coalesce(string_agg(CAST(each AS text), chr(10) ORDER BY CAST(each AS text)), ''))
                FROM {schema}.{name} each"""
        )
        found[name] = names, count, digest
    return found


def test_the_star_as_of_each_capture_is_what_the_warehouse_held_after_it(platform: Platform) -> None:
    held, bucket = [], Bucket(platform.ingestion_url)
    for changes in _CAPTURES:
        for change in changes:
            if change != "full":
                platform.totesys(change)
        platform.refresh(full_capture="full" in changes)
        with connect(platform.warehouse_url) as connection:
            times = [capture.captured_at for capture in list_partition(bucket, platform.partition)]
            held.append((times, contents(connection, "warehouse")))
        platform.next_window()
    design_versions = [after["dim_design_versions"][1] for _, after in held]
    assert [count - design_versions[0] for count in design_versions] == [0, 1, 2, 3, 3, 5, 5]
    with connect(platform.warehouse_url) as connection:
        names = as_of_relations(connection)
        kinds = ("", "_current", "_history", "_as_was")
        assert {f"fact_payment{kind}" for kind in kinds} | {"dim_date", "dim_date_versions", "loads"} <= {*names}
        assert contents(connection, "as_of") == held[-1][1], "not set: now"
        nothing = hashlib.md5(b"", usedforsecurity=False).hexdigest()
        empty: Contents = {name: (names, 0, nothing) for name, (names, *_) in held[0][1].items()}
        before = empty
        for times, after in held:
            connection.run(f"SET etl_assets.as_of = '{times[0] - timedelta(microseconds=1)}'")
            assert contents(connection, "as_of") == before
            connection.run(f"SET etl_assets.as_of = '{times[-1]}'")
            assert contents(connection, "as_of") == after
            before = after
        connection.run("SET etl_assets.as_of = '1999-12-31'")
        assert contents(connection, "as_of") == empty
        connection.run("SET etl_assets.as_of = 'infinity'")
        assert contents(connection, "as_of") == held[-1][1]
        connection.run("SET etl_assets.as_of = '1999-12-31'")
        connection.run("RESET etl_assets.as_of")
        assert contents(connection, "as_of") == held[-1][1]


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-08-22 10:00", "2024-08-22 10:00"),
        ("2024-08-22 10:00+02", "2024-08-22 08:00"),
        ("2024-08-22T10:00:00Z", "2024-08-22 10:00"),
        ("2024-08-22 10:00 Europe/London", "2024-08-22 09:00"),
        ("2024-08-02", "2024-08-02 00:00"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("style", ["ISO, MDY", "SQL, DMY", "German, DMY"])
def test_a_moment_is_utc_unless_it_says_otherwise_whatever_the_session_uses(
    warehouse: Connection, text: str, utc: str, zone: str, style: str
) -> None:
    with transaction(warehouse):
        for name, value in (("TimeZone", zone), ("DateStyle", style), ("etl_assets.as_of", text)):
            warehouse.run(f"SET LOCAL {name} = '{value}'")
        assert warehouse.run("SELECT to_char(as_of.moment(), 'YYYY-MM-DD HH24:MI')") == [[utc]]
        assert warehouse.run("SHOW TimeZone") == [[zone]]


def test_a_moment_that_is_none_is_an_error_and_not_the_state_of_now(warehouse: Connection) -> None:
    fill(warehouse, [Shop(0, 1, "Leeds")], [Sale(1, 7, 1, 1, 0.5)])
    for text in ("yesterdayish", "2024-02-30", " "):
        warehouse.run(f"SET etl_assets.as_of = '{text}'")
        for name in ("dim_shop", "fact_sale", "fact_sale_current", "fact_sale_as_was"):
            with pytest.raises(StatementRefusedError, match=r"timestamp with time zone|out of range"):
                warehouse.run(f"SELECT * FROM as_of.{name}")
    warehouse.run("SET etl_assets.as_of = ''")
    assert warehouse.run("SELECT as_of.moment() = 'infinity'") == [[True]]


def test_a_query_of_the_star_is_asked_of_another_moment_by_the_search_path_alone(warehouse: Connection) -> None:
    fill(warehouse, [Shop(0, 1, "Leeds"), Shop(2, 1, "York")], [Sale(1, 7, 1, 1, 0.5), Sale(3, 8, 1, 1, 2.5)])
    query = "SELECT sale_id, town, captured_at FROM (SELECT sale_id, shop_id FROM fact_sale_current) sale " + (
        "JOIN dim_shop USING (shop_id) ORDER BY 1"
    )
    warehouse.run(f"SET etl_assets.as_of = '{moment(1)}'")
    warehouse.run("SET search_path = warehouse")
    assert warehouse.run(query) == [[7, "York", moment(2)], [8, "York", moment(2)]]
    warehouse.run("SET search_path = as_of")
    assert warehouse.run(query) == [[7, "Leeds", moment(0)]]
    warehouse.run("RESET etl_assets.as_of")
    assert warehouse.run(query) == [[7, "York", moment(2)], [8, "York", moment(2)]]


def test_an_analyst_may_read_the_star_as_of_a_moment(warehouse: Connection) -> None:
    fill(warehouse, [Shop(0, 1, "Leeds")], [Sale(1, 7, 1, 1, 0.5)])
    with transaction(warehouse):
        warehouse.run("SET LOCAL ROLE analyst")
        warehouse.run(f"SET LOCAL etl_assets.as_of = '{moment(1)}'")
        for name in as_of_relations(warehouse):
            warehouse.run(f"SELECT * FROM as_of.{name}")
        assert sales_as_was(warehouse, "as_of") == [[7, "Leeds", "Leeds"]]


def test_a_row_is_looked_up_as_of_a_moment_by_an_index_and_the_moment_is_computed_once(warehouse: Connection) -> None:
    fill(warehouse, [], [])
    warehouse.run(
        """INSERT INTO warehouse.dim_shop_versions
           SELECT n / 4, 'town ' || n, timestamp '2024-01-01' + n * interval '1 minute'
           FROM generate_series(1, 20000) n"""
    )
    warehouse.run(
        """INSERT INTO warehouse.fact_sale (sale_id, shop_id, sent_from_id, day, time, captured_at)
           SELECT n / 4, 1, 1, '2024-01-01', '12:00', timestamp '2024-01-01' + n * interval '1 minute'
           FROM generate_series(1, 20000) n"""
    )
    warehouse.run("ANALYZE warehouse.dim_shop_versions")
    warehouse.run("ANALYZE warehouse.fact_sale")
    warehouse.run("SET etl_assets.as_of = '2024-01-10'")
    for view, key, index in (
        ("dim_shop", "shop_id", "dim_shop_versions_shop_id_captured_at_key"),
        ("dim_shop_history", "shop_id", "dim_shop_versions_shop_id_captured_at_key"),
        ("fact_sale_current", "sale_id", "fact_sale_sale_id_captured_at_key"),
        ("fact_sale_history", "sale_id", "fact_sale_sale_id_captured_at_key"),
        ("fact_sale_as_was", "sale_id", "fact_sale_sale_id_captured_at_key"),
    ):
        rows = warehouse.run(f"EXPLAIN (ANALYZE, COSTS off) SELECT * FROM as_of.{view} WHERE {key} = 1234")
        text = "\n".join(line for [line] in rows)
        assert f"using {index}" in text or f"Bitmap Index Scan on {index}" in text, text
        calls = [line for line in text.splitlines() if "Result" in line]
        assert "InitPlan" in text and calls and all("loops=1)" in line for line in calls), text


# Each fact with its dimensions as they were


def test_a_fact_has_its_dimension_row_as_it_was_when_it_happened(warehouse: Connection) -> None:
    fill(warehouse, [Shop(0, 1, "Leeds"), Shop(5, 1, "York"), Shop(9, 1, "Hull")], [])
    towns = {4.0: "Leeds", 5.0: "York", 5.5: "York", 8.999: "York", 9.0: "Hull", 1_000.0: "Hull"}
    assert towns_of_sales(warehouse, *towns) == [*towns.values()]


def test_a_fact_that_is_older_than_the_first_capture_has_the_first_version(warehouse: Connection) -> None:
    fill(warehouse, [Shop(0, 1, "Leeds"), Shop(5, 1, "York")], [])
    assert towns_of_sales(warehouse, -100_000, -0.001) == ["Leeds", "Leeds"]


def test_a_fact_of_a_deleted_dimension_row_keeps_its_last_version_until_the_row_returns(warehouse: Connection) -> None:
    shops = [Shop(0, 1, "Leeds"), Shop(5, 1, "Leeds", deleted=True), Shop(9, 1, "York")]
    fill(warehouse, shops, [])
    assert towns_of_sales(warehouse, 1, 6, 9) == ["Leeds", "Leeds", "York"]
    at_a_time = "SELECT town FROM warehouse.dim_shop_history WHERE valid_from <= :time AND :time < valid_to"
    assert warehouse.run(at_a_time, time=moment(6)) == []


def test_two_foreign_keys_to_one_dimension_have_columns_of_their_own(warehouse: Connection) -> None:
    fill(warehouse, [Shop(0, 1, "Leeds"), Shop(0, 2, "York")], [Sale(1, 7, 1, 2, 1), Sale(1, 8, 2, 2, 1)])
    assert sales_as_was(warehouse) == [[7, "Leeds", "York"], [8, "York", "York"]]


_HOURS = st.integers(0, 6)
_SHOPS = st.lists(
    st.builds(Shop, _HOURS, st.integers(1, 3), st.sampled_from(["Leeds", "York", "Hull"]), st.booleans()),
    max_size=12,
    unique_by=lambda shop: (shop.captured, shop.shop_id),
)
_SALES = st.lists(
    st.builds(Sale, _HOURS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(-2, 8), st.booleans()),
    max_size=12,
    unique_by=lambda sale: (sale.captured, sale.sale_id),
)


def expected_town(shops: Sequence[Shop], shop_id: int, sold: float) -> str | None:
    """Return the town of the last version until the sale that was not a deletion; of the first one if all are later."""
    versions = sorted(
        (each for each in shops if each.shop_id == shop_id and not each.deleted), key=lambda v: v.captured
    )
    past = [version for version in versions if version.captured <= sold]
    return past[-1].town if past else versions[0].town if versions else None


def expected_sales(shops: Sequence[Shop], sales: Sequence[Sale]) -> list[list[Any]]:
    latest = {sale.sale_id: sale for sale in sorted(sales, key=lambda sale: sale.captured)}
    return [
        [sale_id, expected_town(shops, sale.shop_id, sale.sold), expected_town(shops, sale.sent_from_id, sale.sold)]
        for sale_id, sale in sorted(latest.items())
        if not sale.deleted
    ]


@settings(max_examples=100, deadline=None, database=None)
@given(shops=_SHOPS, sales=_SALES)
def test_whatever_the_history_no_fact_is_lost_or_doubled_and_each_has_the_version_of_its_time(
    empty: Connection, shops: list[Shop], sales: list[Sale]
) -> None:
    with transaction(empty):
        fill(empty, shops, sales)
        assert sales_as_was(empty) == sales_as_was(empty, "as_of") == expected_sales(shops, sales)
        for hours in range(-1, 7):
            empty.run(f"SET LOCAL etl_assets.as_of = '{moment(hours)}'")
            known_shops = [shop for shop in shops if shop.captured <= hours]
            known_sales = [sale for sale in sales if sale.captured <= hours]
            assert sales_as_was(empty, "as_of") == expected_sales(known_shops, known_sales)
            current = empty.run("SELECT sale_id FROM as_of.fact_sale_current ORDER BY 1")
            assert [[sale_id] for sale_id, *_ in expected_sales(known_shops, known_sales)] == current


# Which views there are, and which columns they have


def test_without_an_event_time_a_fact_has_no_view_as_was(server: Server) -> None:
    timeless = replace(fact_sale, event_time=())
    assert as_was_queries(timeless, [dim_shop, timeless]) == {}
    with connect(new_database(server)) as connection:
        create_missing(connection, [dim_shop, dim_day, timeless])
        assert [name for name in as_of_relations(connection) if "as_was" in name] == []
        create_missing(connection, STARS)
        views = connection.run("SELECT oid::regclass::text FROM pg_class WHERE relname = 'fact_sale_as_was' ORDER BY 1")
        assert views == [["as_of.fact_sale_as_was"], ["warehouse.fact_sale_as_was"]], "declared later"


def test_an_event_time_names_declared_columns() -> None:
    with pytest.raises(ValueError, match=r"fact_sale: columns of the event time that are not declared: \['hour'\]"):
        replace(fact_sale, event_time=("day", "hour"))


def test_a_dimension_made_from_star_tables_is_not_joined(warehouse: Connection) -> None:
    warehouse.run("SELECT * FROM warehouse.fact_sale_as_was LIMIT 0")
    assert [column["name"] for column in warehouse.columns or ()] == [
        "sale_record_id", "sale_id", "shop_id", "sent_from_id", "day", "time", "captured_at", "deleted",
        "shop_town", "sent_from_town",
    ]  # fmt: skip


def test_columns_whose_names_collide_get_longer_names(server: Server) -> None:
    """The fact has a column of the name, the dimension two that would get the same, and aliases would be equal."""
    shop = replace(
        dim_shop, columns=columns(shop_id=pa.int32(), town=pa.string(), shop_town=pa.string(), shop_name=pa.string())
    )
    sale = StarTable(
        name="fact_sale",
        description="Sales.",
        primary_key=("sale_id",),
        record_id="sale_record_id",
        event_time=("sold_at",),
        foreign_keys={"shop_id": "dim_shop", "shop": "dim_shop", "fact_id": "dim_shop"},
        columns=columns(
            sale_id=pa.int32(),
            shop_id=pa.int32(),
            shop=pa.int32(),
            fact_id=pa.int32(),
            shop_name=pa.string(),
            sold_at=pa.timestamp("us"),
        ),
        transform=fact_sale.transform,
    )
    stars = [shop, sale]
    assert as_was_columns(sale, stars) == (
        "sale_record_id", "sale_id", "shop_id", "shop", "fact_id", "shop_name", "sold_at", "captured_at", "deleted",
        "shop_town", "shop_shop_town", "shop_shop_name",
        "shop_shop_shop_town", "shop_shop_shop_shop_town", "shop_shop_shop_name",
        "fact_town", "fact_shop_town", "fact_shop_name",
    )  # fmt: skip
    with connect(new_database(server)) as connection:
        create_missing(connection, stars)
        for table in ("dim_shop", "dim_shop_versions"):
            connection.run(f"INSERT INTO warehouse.{table} VALUES (1, 'Leeds', 'Old town', 'Bags', '2024-01-01')")
        connection.run(
            "INSERT INTO warehouse.fact_sale VALUES (1, 7, 1, 1, 1, 'mine', '2024-01-02', '2024-01-02', false)"
        )
        for name in ("fact_sale_as_was", "as_of.fact_sale_as_was"):
            columns_ = "shop_name, shop_town, shop_shop_town, shop_shop_name, fact_town, fact_shop_town"
            rows = connection.run(f"SELECT {columns_} FROM {qualified(name)}")
            assert rows == [["mine", "Leeds", "Old town", "Bags", "Leeds", "Old town"]]
        described = {column for name, column in comments(sale, stars) if name == "fact_sale_as_was" and column}
        assert described == {*as_was_columns(sale, stars)}
