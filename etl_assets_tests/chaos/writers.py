"""Concurrent writers of totesys: late commits, edits without a new `last_updated`, wrong clocks, deadlocks."""

import random
from collections.abc import Callable
from threading import Event, Thread

from etl_assets.adapters.postgres import Connection, DatabaseUnavailableError, StatementRefusedError, connect

_SKEWS = ("0 days", "0 days", "-400 days", "-3 days", "2 days", "700 days", "-2 hours")
_LONGEST_PAUSE_SECONDS = 12.0


class Writer(Thread):
    """Writes random transactions until `stop` is set."""

    def __init__(self, url: str, seed: int, stop: Event) -> None:
        super().__init__(name=f"writer {seed}", daemon=True)
        self._url = url
        self._draw = random.Random(seed)
        self._stop_requested = stop
        self.rolled_back = 0
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            with connect(self._url) as connection:
                while not self._stop_requested.is_set():
                    self._transaction(connection)
        except BaseException as error:
            self.failed = error
            raise

    def _transaction(self, connection: Connection) -> None:
        draw = self._draw
        connection.run("BEGIN")
        try:
            for _ in range(draw.randint(1, 5)):
                if draw.random() < 0.2:
                    self._change_in_savepoint(connection)
                else:
                    self._change(connection)
                if draw.random() < 0.01:  # open during several captures
                    self._stop_requested.wait(draw.uniform(1, _LONGEST_PAUSE_SECONDS))
        except (StatementRefusedError, DatabaseUnavailableError):  # a deadlock or a foreign key
            connection.run("ROLLBACK")
            self.rolled_back += 1
            return
        if draw.random() < 0.2:
            connection.run("ROLLBACK")
            self.rolled_back += 1
        else:
            connection.run("COMMIT")
        self._stop_requested.wait(draw.uniform(0, 0.05))

    def _change_in_savepoint(self, connection: Connection) -> None:
        connection.run("SAVEPOINT nested")
        self._change(connection)
        if self._draw.random() < 0.5:
            connection.run("ROLLBACK TO SAVEPOINT nested")
        else:
            connection.run("RELEASE SAVEPOINT nested")

    def _change(self, connection: Connection) -> None:
        draw = self._draw
        changes: list[tuple[Callable[[Connection], None], int]] = [
            (self._insert_order, 6),
            (self._edit_fact, 6),
            (self._edit_payment, 4),
            (self._edit_dimension, 3),
            (self._delete_payment, 2),
            (self._delete_order, 2),
            (self._delete_and_insert_payment, 1),
        ]
        [change] = draw.choices([change for change, _ in changes], [weight for _, weight in changes])
        change(connection)

    def _any_key(self, connection: Connection, table: str) -> int:
        rows = connection.run(
            f"SELECT {table}_id FROM {table} ORDER BY md5({table}_id::text || '{self._draw.random()}') LIMIT 1"
        )
        return int(rows[0][0]) if rows else 0

    def _insert_order(self, connection: Connection) -> None:
        draw = self._draw
        values = {
            "skew": draw.choice(_SKEWS),
            "staff": draw.randint(1, 20),
            "counterparty": draw.randint(1, 20),
            "currency": draw.randint(1, 3),
            "units": draw.randint(1, 100_000),
            "cents": draw.randint(1, 999_999),
            "place": draw.randint(1, 30),
            "days": draw.randint(0, 7),
        }
        connection.run(
            """WITH times AS (SELECT localtimestamp(3) + CAST(:skew AS interval) AS at),
                   inserted AS (
                       INSERT INTO sales_order (created_at, last_updated, design_id, staff_id, counterparty_id,
                           units_sold, unit_price, currency_id, agreed_delivery_date, agreed_payment_date,
                           agreed_delivery_location_id)
                       SELECT at, at, (SELECT min(design_id) FROM design), :staff, :counterparty, :units,
                           CAST(:cents AS numeric) / 100, :currency, CAST(at::date + CAST(:days AS integer) AS text),
                           CAST(at::date AS text), :place
                       FROM times RETURNING sales_order_id),
                   transacted AS (
                       INSERT INTO transaction (created_at, last_updated, transaction_type, sales_order_id)
                       SELECT at, at, 'SALE', sales_order_id FROM times, inserted RETURNING transaction_id)
               INSERT INTO payment (created_at, last_updated, transaction_id, counterparty_id, payment_amount,
                   currency_id, payment_type_id, paid, payment_date, company_ac_number, counterparty_ac_number)
               SELECT at, at, transaction_id, :counterparty, CAST(:units AS numeric), :currency, 1, false,
                   CAST(at::date AS text), 1, 1
               FROM times, transacted""",
            **values,
        )

    def _edit_fact(self, connection: Connection) -> None:
        table, column = self._draw.choice(
            [("sales_order", "units_sold"), ("purchase_order", "item_quantity"), ("payment", "counterparty_ac_number")]
        )
        connection.run(
            f"UPDATE {table} SET {column} = :value WHERE {table}_id = :key",
            value=self._draw.randint(1, 1000),
            key=self._any_key(connection, table),
        )

    def _edit_payment(self, connection: Connection) -> None:
        connection.run(
            """UPDATE payment SET paid = NOT paid, last_updated = localtimestamp(3) + CAST(:skew AS interval)
               WHERE payment_id = :key""",
            skew=self._draw.choice(_SKEWS),
            key=self._any_key(connection, "payment"),
        )

    def _edit_dimension(self, connection: Connection) -> None:
        table, column = self._draw.choice(
            [
                ("design", "file_name"),
                ("department", "department_name"),
                ("address", "city"),
                ("staff", "first_name"),
                ("counterparty", "counterparty_legal_name"),
            ]
        )
        connection.run(
            f"UPDATE {table} SET {column} = :value WHERE {table}_id = :key",
            value=f"{self._draw.random():.12f}",
            key=self._any_key(connection, table),
        )

    def _delete_payment(self, connection: Connection) -> None:
        connection.run("DELETE FROM payment WHERE payment_id = :key", key=self._any_key(connection, "payment"))

    def _delete_order(self, connection: Connection) -> None:
        connection.run(
            """WITH unpaid AS (
                   SELECT transaction_id, sales_order_id FROM transaction
                   WHERE sales_order_id = :key AND NOT EXISTS (
                       SELECT FROM payment WHERE payment.transaction_id = transaction.transaction_id)),
               deleted AS (
                   DELETE FROM transaction USING unpaid WHERE transaction.transaction_id = unpaid.transaction_id)
               DELETE FROM sales_order USING unpaid WHERE sales_order.sales_order_id = unpaid.sales_order_id""",
            key=self._any_key(connection, "sales_order"),
        )

    def _delete_and_insert_payment(self, connection: Connection) -> None:
        key = self._any_key(connection, "payment")
        rows = connection.run("DELETE FROM payment WHERE payment_id = :key RETURNING to_jsonb(payment)::text", key=key)
        for [row] in rows:
            connection.run(
                "INSERT INTO payment SELECT * FROM jsonb_populate_record(NULL::payment, CAST(:row AS jsonb))", row=row
            )
