"""Questions to the star as of a moment, against the same questions to its latest state."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.bench import Bench
from benchmarks.measure import compared, in_turn, timed
from etl_assets.adapters.postgres import Connection, connect, transaction
from etl_assets.schema.table import referenced_first
from etl_assets.transformation import STAR_TABLES
from etl_assets.warehouse.ddl import create_missing

_DESIGNS, _LOOKUPS = 400, 1_000
_TARGET = 1.5
_QUESTIONS = {
    "orders and their value": "SELECT count(*), sum(units_sold * unit_price) FROM {}.fact_sales_order_current",
    "bags sold by design": """SELECT design_name, sum(units_sold)
        FROM {0}.fact_sales_order_current JOIN {0}.dim_design USING (design_id) GROUP BY design_name""",
    f"{_LOOKUPS:,} orders by their keys": f"""SELECT count(*) FROM generate_series(1, {_LOOKUPS}) AS id
        CROSS JOIN LATERAL (SELECT units_sold FROM {{}}.fact_sales_order_current
                            WHERE sales_order_id = id OFFSET 0) found""",
}


def moments(bench: Bench) -> None:
    """Measure questions as of the moment when half of the versions were captured."""
    versions = bench.sizes.rows * 10
    with _star(bench, versions) as connection:
        for what, question in _QUESTIONS.items():
            as_of, now = in_turn(
                bench.sizes.long_rounds,
                *(partial(timed, connection.run, question.format(schema)) for schema in ("as_of", "warehouse")),
            )
            title = f"as of a moment, {versions:,} versions of a fact: {what}"
            bench.report.row(compared(title, as_of, {"the latest state": now}, _TARGET))


@contextmanager
def _star(bench: Bench, versions: int) -> Iterator[Connection]:
    """Return a connection to a warehouse with two versions of each order and of each design."""
    url = bench.server.create_database("moments")
    with connect(url) as connection:
        with transaction(connection):
            create_missing(connection, referenced_first(STAR_TABLES))
        connection.run(
            f"""INSERT INTO warehouse.dim_design_versions
                SELECT id, 'design ' || id || ' ' || version, 'folder', 'file',
                       timestamp '2024-01-01' + version * interval '1 year'
                FROM generate_series(1, {_DESIGNS}) AS id, generate_series(0, 1) AS version"""
        )
        connection.run(
            """INSERT INTO warehouse.dim_design SELECT DISTINCT ON (design_id) * FROM warehouse.dim_design_versions
               ORDER BY design_id, captured_at DESC"""
        )
        connection.run(
            f"""INSERT INTO warehouse.fact_sales_order
                    (sales_order_id, created_date, created_time, last_updated_date, last_updated_time, sales_staff_id,
                     counterparty_id, units_sold, unit_price, currency_id, design_id, agreed_payment_date,
                     agreed_delivery_date, agreed_delivery_location_id, captured_at)
                SELECT id, day, '10:00', day, '10:00', 1, 1, id % 1000, 2.50, 1, 1 + id % {_DESIGNS}, day, day, 1, at
                FROM (SELECT id, timestamp '2024-01-01' + (id + version * {versions // 4}) * interval '1 second' AS at
                      FROM generate_series(1, {versions // 2}) AS id, generate_series(0, 1) AS version) captured,
                LATERAL (SELECT at::date AS day) days
                ORDER BY at"""
        )
        connection.run("VACUUM ANALYZE")
        connection.run(
            f"""SELECT set_config('etl_assets.as_of', CAST(max(captured_at) AS text), false) FROM (
                    SELECT captured_at FROM warehouse.fact_sales_order
                    ORDER BY captured_at LIMIT {versions // 2}) earlier"""
        )
        yield connection
    bench.drop("moments")
