"""The simulation behaves as measured on the real totesys."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import islice
from pathlib import Path

import pytest

from etl_assets.adapters.postgres import Connection, connect
from etl_assets.simulator import postgres
from etl_assets.simulator.__main__ import main
from etl_assets.simulator.activity import Totesys
from etl_assets.simulator.live import plan, plan_mishaps
from etl_assets_tests.harness import new_database

MONDAY = date(2024, 8, 26)


@pytest.fixture
def connection(server: postgres.Server, empty_totesys: str) -> Iterator[Connection]:
    with connect(new_database(server, empty_totesys)) as opened:
        yield opened


def all_rows(connection: Connection) -> list[list[list[object]]]:
    return [
        connection.run(f"SELECT * FROM {table} ORDER BY 1")
        for table in ("address", "staff", "design", "sales_order", "purchase_order", "transaction", "payment")
    ]


def test_rows_depend_on_the_seed_only(server: postgres.Server, empty_totesys: str) -> None:
    contents = []
    for seed in (3, 3, 4):
        with connect(new_database(server, empty_totesys)) as connection:
            totesys = Totesys(connection, seed)
            totesys.generate_history(MONDAY - timedelta(days=14), MONDAY)
            totesys.simulate_day(MONDAY)
            contents.append(all_rows(connection))
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_two_years_of_history_are_as_measured(connection: Connection) -> None:
    Totesys(connection).generate_history(date(2022, 8, 22), date(2024, 8, 22))
    [[per_day, sales, weekends, outside]] = connection.run(
        """SELECT count(*) / count(DISTINCT created_at::date)::float, avg((transaction_type = 'SALE')::int)::float,
                  count(*) FILTER (WHERE extract(isodow FROM created_at) > 5),
                  count(*) FILTER (WHERE created_at::time NOT BETWEEN '08:00' AND '18:59:59.999') FROM transaction"""
    )
    assert per_day == pytest.approx(31, rel=0.05)
    assert sales == pytest.approx(0.71, abs=0.02)
    assert (weekends, outside) == (0, 0)
    [[wrong_amounts, wrong_timestamps, never_paid]] = connection.run(
        """SELECT count(*) FILTER (WHERE payment_amount <> units_sold * unit_price),
                  count(*) FILTER (WHERE p.created_at <> o.created_at OR t.created_at <> o.created_at),
                  avg((NOT paid)::int) FILTER (WHERE payment_date < '2024-08-22')::float
           FROM payment p JOIN transaction t USING (transaction_id) JOIN sales_order o USING (sales_order_id)"""
    )
    assert (wrong_amounts, wrong_timestamps) == (0, 0)
    assert never_paid == pytest.approx(0.39, abs=0.03)
    assert connection.run("SELECT count(*) FROM payment WHERE paid AND last_updated::time <> '07:55:10'") == [[0]]


def test_a_day_has_orders_and_a_payment_run_and_a_weekend_has_none(connection: Connection) -> None:
    totesys = Totesys(connection, 5)
    totesys.generate_history(MONDAY - timedelta(days=14), MONDAY)
    due = connection.run("SELECT count(*) FROM payment WHERE payment_date = '2024-08-26' AND NOT paid")
    before = connection.run("SELECT count(*) FROM transaction")[0][0]
    totesys.simulate_day(MONDAY)
    assert connection.run("SELECT count(*) FROM payment WHERE last_updated = '2024-08-26 07:55:10'") == due
    assert 10 < connection.run("SELECT count(*) FROM transaction")[0][0] - before < 60
    assert totesys.simulate_day(MONDAY - timedelta(days=1)) == 0


def test_a_silent_edit_changes_one_column_and_no_timestamp(connection: Connection) -> None:
    totesys = Totesys(connection, 6)
    totesys.generate_history(MONDAY - timedelta(days=60), MONDAY)
    for table in ("sales_order", "purchase_order", "design"):
        before = {row[0]: row for row in connection.run(f"SELECT * FROM {table}")}
        for _ in range(5):
            totesys.edit_silently(table)
        after = {row[0]: row for row in connection.run(f"SELECT * FROM {table}")}
        columns = [column["name"] for column in connection.columns]
        changed = {
            name for key in after for name, old, new in zip(columns, before[key], after[key], strict=True) if old != new
        }
        assert changed
        assert not changed & {"created_at", "last_updated"}


def test_the_command_line_fills_a_database(server: postgres.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = new_database(server)
    monkeypatch.setenv("TOTESYS_DATABASE_URL", url)
    main(["past", "--start", "2024-08-01", "--end", "2024-08-22", "--transactions-per-day", "100"])
    with connect(url) as connection:
        assert connection.run("SELECT count(*) BETWEEN 1300 AND 1700 FROM transaction") == [[True]]


def test_a_missing_database_url_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOTESYS_DATABASE_URL", raising=False)
    with pytest.raises(SystemExit, match=r"^TOTESYS_DATABASE_URL is not set") as exited:
        main(["live"])
    assert "\n" not in str(exited.value)


def test_a_server_cannot_be_started_twice_on_the_same_data(tmp_path: Path) -> None:
    with postgres.serve(tmp_path / "pg"):
        assert postgres.is_running(tmp_path / "pg")
        with pytest.raises(postgres.ServerRunningError), postgres.serve(tmp_path / "pg"):
            pass
    assert not postgres.is_running(tmp_path / "pg")
    postgres.remove(tmp_path / "pg")


def test_events_of_a_day_are_in_order(connection: Connection) -> None:
    times = [event.at for event in Totesys(connection).plan_day(MONDAY)]
    assert times == sorted(times)
    assert times[0] == datetime(2024, 8, 26, 7, 55, 10)


def test_activity_is_squeezed_day_after_working_day_from_any_moment_on(connection: Connection) -> None:
    totesys = Totesys(connection)
    totesys.generate_history(MONDAY - timedelta(days=14), MONDAY)
    saturday_night = datetime(2024, 8, 31, 23, 30)
    squeezed = list(islice(plan(totesys, saturday_night, speed=300), 200))
    times = [event.at for event in squeezed]
    assert times == sorted(times)
    assert times[0] == saturday_night
    assert times[-1] - times[0] < timedelta(minutes=20), "five working days"
    for event in squeezed[:50]:
        event.apply(event.at)
    stamps = connection.run("SELECT DISTINCT created_at::date FROM sales_order WHERE created_at > '2024-08-31'")
    assert {day for [day] in stamps} <= {date(2024, 8, 31), date(2024, 9, 1)}, "the days on which it happened"


def test_activity_in_real_time_goes_on_from_now(connection: Connection) -> None:
    totesys = Totesys(connection)
    totesys.generate_history(MONDAY - timedelta(days=14), MONDAY)
    noon = datetime(2024, 8, 30, 12)
    times = [event.at for event in islice(plan(totesys, noon), 60)]
    assert times == sorted(times)
    assert times[0] > noon
    assert {time.date() for time in times} >= {date(2024, 8, 30), date(2024, 9, 2)}, "without the weekend"


def test_a_mistyped_date_is_corrected_and_a_cancelled_order_is_gone(connection: Connection) -> None:
    totesys = Totesys(connection)
    totesys.generate_history(MONDAY - timedelta(days=14), MONDAY)
    mistype, cancel, correct = islice(plan_mishaps(totesys, datetime.combine(MONDAY, time(9))), 3)
    happened = str(mistype.apply(mistype.at))
    [[order]] = connection.run("SELECT sales_order_id FROM sales_order WHERE agreed_delivery_date = '2026-02-30'")
    assert f"2026-02-30 into agreed_delivery_date of sales order {order}" in happened
    correct.apply(correct.at)
    assert connection.run("SELECT count(agreed_delivery_date::date) > 0 FROM sales_order") == [[True]]
    counts = "SELECT (SELECT count(*) FROM sales_order), (SELECT count(*) FROM transaction), count(*) FROM payment"
    [[orders, transactions, payments]] = connection.run(counts)
    cancel.apply(cancel.at)
    assert connection.run(counts) == [[orders - 1, transactions - 1, payments - 1]]
