"""Concurrent writers of totesys: late commits, silent edits, wrong clocks, deadlocks, rows that go and return."""

import random
from collections.abc import Callable
from itertools import count
from threading import Event, Thread

from etl_assets.adapters.postgres import Connection, DatabaseUnavailableError, StatementRefusedError, connect

_SKEWS = ("0 days", "0 days", "-400 days", "-3 days", "2 days", "700 days", "-2 hours")
_LONGEST_PAUSE_SECONDS = 12.0
_TRUNCATE_EVERY = 400
"""Each writer truncates tables once in so many transactions, each at another time."""

_RENAMED = {
    "design": ("design_name", "file_name"),
    "department": ("department_name", "location"),
    "address": ("city", "phone"),
    "staff": ("first_name", "last_name"),
    "counterparty": ("counterparty_legal_name",),
}
_PASSING_KEYS = range(1_001, 1_007)
"""Keys of rows of dimensions that come and go."""

_REFERRING = {
    "design": (("sales_order", "design_id"),),
    "department": (("staff", "department_id"),),
    "staff": (("sales_order", "staff_id"), ("purchase_order", "staff_id")),
    "counterparty": tuple((table, "counterparty_id") for table in ("sales_order", "purchase_order", "payment")),
    "address": (
        ("counterparty", "legal_address_id"),
        ("sales_order", "agreed_delivery_location_id"),
        ("purchase_order", "agreed_delivery_location_id"),
    ),
}


class Writer(Thread):
    """Writes random transactions until `stop` is set."""

    def __init__(self, url: str, seed: int, stop: Event) -> None:
        super().__init__(name=f"writer {seed}", daemon=True)
        self._url = url
        self._draw = random.Random(seed)
        self._digit = seed % 10
        self._stop_requested = stop
        self.rolled_back = 0
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            with connect(self._url) as connection:
                for number in count():
                    if self._stop_requested.is_set():
                        break
                    self._transaction(connection, truncates=number % _TRUNCATE_EVERY == 20 + 40 * self._digit)
        except BaseException as error:
            self.failed = error
            raise

    def _transaction(self, connection: Connection, *, truncates: bool) -> None:
        draw = self._draw
        connection.run("BEGIN")
        try:
            if truncates:
                connection.run(f"TRUNCATE {draw.choice(['payment', 'payment', 'transaction, payment'])}")
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
        if self._digit % 2 if truncates else draw.random() < 0.2:
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
            (self._insert_order, 12),
            (self._edit_fact, 8),
            (self._edit_payment, 6),
            (self._rename, 4),
            (self._move_staff, 1),
            (self._insert_dimension_row, 4),
            (self._delete_dimension_row, 4),
            (self._delete_payment, 5),
            (self._delete_order, 5),
            (self._delete_and_insert_payment, 2),
            (self._change_key, 1),
            (self._swap_keys, 1),
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
            "staff": draw.choice([draw.randint(1, 20), self._any_key(connection, "staff")]),
            "counterparty": draw.randint(1, 20),
            "currency": draw.randint(1, 3),
            "units": draw.randint(1, 100_000),
            "cents": draw.randint(1, 999_999),
            "place": draw.choice([draw.randint(1, 30), self._any_key(connection, "address")]),
            "design": self._any_key(connection, "design"),
            "days": draw.randint(0, 7),
        }
        connection.run(
            """WITH times AS (SELECT localtimestamp(3) + CAST(:skew AS interval) AS at),
                   inserted AS (
                       INSERT INTO sales_order (created_at, last_updated, design_id, staff_id, counterparty_id,
                           units_sold, unit_price, currency_id, agreed_delivery_date, agreed_payment_date,
                           agreed_delivery_location_id)
                       SELECT at, at, :design, :staff, :counterparty, :units,
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

    def _rename(self, connection: Connection) -> None:
        """Change a name in a dimension row, silently or with a new `last_updated`."""
        table = self._draw.choice([*_RENAMED])
        silently = self._draw.random() < 0.6
        connection.run(
            f"""UPDATE {table} SET {self._draw.choice(_RENAMED[table])} = :value
                {"" if silently else ", last_updated = localtimestamp(3)"} WHERE {table}_id = :key""",
            value=f"{self._draw.random():.12f}",
            key=self._any_key(connection, table),
        )

    def _move_staff(self, connection: Connection) -> None:
        connection.run(
            "UPDATE staff SET department_id = :department WHERE staff_id = :key",
            department=self._any_key(connection, "department"),
            key=self._any_key(connection, "staff"),
        )

    def _insert_dimension_row(self, connection: Connection) -> None:
        """Insert a row, maybe under the key of one that was deleted, and maybe with its content."""
        table = self._draw.choice([*_REFERRING])
        connection.run(
            f"""INSERT INTO {table} SELECT (jsonb_populate_record(template, jsonb_build_object(
                    '{table}_id', CAST(:key AS integer), '{_RENAMED[table][0]}', CAST(:value AS text)))).*
                FROM {table} template WHERE {table}_id = 1 ON CONFLICT DO NOTHING""",
            key=self._draw.choice(_PASSING_KEYS),
            value=self._draw.choice("ab"),
        )

    def _delete_dimension_row(self, connection: Connection) -> None:
        table = self._draw.choice([*_REFERRING])
        unused = " AND ".join(
            f"NOT EXISTS (SELECT FROM {other} WHERE {column} = {table}_id)" for other, column in _REFERRING[table]
        )
        connection.run(
            f"DELETE FROM {table} WHERE {table}_id = :key AND {unused}", key=self._draw.choice(_PASSING_KEYS)
        )

    def _change_key(self, connection: Connection) -> None:
        """Give a payment another key: no deletion is counted."""
        connection.run(
            "UPDATE payment SET payment_id = :new WHERE payment_id = :key",
            key=self._any_key(connection, "payment"),
            new=1_000_000 + self._draw.randrange(1_000_000),
        )

    def _swap_keys(self, connection: Connection) -> None:
        """Swap the keys of two payments."""
        first, second = (self._any_key(connection, "payment") for _ in range(2))
        free = -self._draw.randrange(1, 2**31)
        for old, new in ((first, free), (second, first), (free, second)):
            connection.run("UPDATE payment SET payment_id = :new WHERE payment_id = :old", old=old, new=new)

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
