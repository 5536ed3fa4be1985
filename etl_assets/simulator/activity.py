"""How totesys behaves, as measured on the real one.

About 31 transactions are made per weekday, from 08:00 to 18:59 UTC; 71 % are sales. An order, its transaction and its
payment share one created_at. The amount of a payment is quantity times price. Agreed dates are 0 to 7 days later. At
07:55:10 one UPDATE marks the payments due that day as paid and sets their last_updated, so payments that are due on a
weekend, or on the day they are created, stay unpaid. About twice a week in each of sales_order, purchase_order and
design, a row of any age is edited silently: one column changes, last_updated does not.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from importlib.resources import files
from string import ascii_uppercase, digits
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pg8000.native import literal

from etl_assets.adapters.postgres import Connection, column_list, csv_chunks, quote_identifier, transaction
from etl_assets.ingestion.changes import SOURCE_SCHEMA, relation
from etl_assets.ingestion.live_tables import live_tables
from etl_assets.schema.columns import enum_values
from etl_assets.schema.table import Table
from etl_assets.schema.types import sql_type
from etl_assets.totesys import TOTESYS_TABLES

TRANSACTIONS_PER_DAY = 31.0
_SALES_SHARE = 0.71
_DESIGNS_PER_DAY = 0.9
_SILENT_EDITS_PER_DAY = 0.4  # per table: two in a week of five days

# Times of day, since midnight.
_FIRST_ROWS_AT = timedelta(hours=7)
_PAYMENT_RUN_AT = timedelta(hours=7, minutes=55, seconds=10)
_OPENS_AT = timedelta(hours=8)
_OPEN_MILLISECONDS = 11 * 60 * 60 * 1000

_NO_SUCH_DAY = "2026-02-30"

_STAFF, _COUNTERPARTIES, _ADDRESSES, _CURRENCIES, _FIRST_DESIGNS = 20, 20, 30, 3, 10
_SALES_RECEIPT, _PURCHASE_PAYMENT = 1, 3
_BATCH_ROWS = 64 * 1024

# Random integers: the lowest, and the one after the highest.
_UNITS_SOLD, _UNIT_CENTS = (1_000, 100_000), (200, 400)
_ITEM_QUANTITY, _ITEM_CENTS = (1, 1_000), (100, 100_000)
_ACCOUNT_NUMBERS = (10_000_000, 100_000_000)

_DEPARTMENTS = (
    ("Sales", "Manchester", "Richard Roma"),
    ("Purchasing", "Manchester", "Naomi Lapaglia"),
    ("Production", "Leeds", "Chester Ming"),
    ("Dispatch", "Leds", "Mark Hanna"),
    ("Finance", "Manchester", "Jordan Belfort"),
    ("Facilities", "Manchester", "Shelley Levene"),
    ("Communications", "Leeds", "Ann Blake"),
    ("HR", "Leeds", "James Link"),
)
_FIRST_NAMES = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Tony", "Frances", "Ken")
_LAST_NAMES = ("Byron", "O'Neill", "Moreau", "VonRueden", "Okafor", "Lindqvist", "García", "Tanaka", "Novák", "Patel")
_STREETS = ("Herzog Via", "Alexie Cliffs", "Sincere Fort", "Rogahn Skyway", "Koch Drives", "Cole Corner")
_CITIES = ("Aliso Viejo", "Lake Charles", "Olsonside", "Hackensack", "Pueblo", "Fresno", "Utica", "Napa")
_DISTRICTS = (None, None, "Avon", "Bedfordshire", "Borders")
_COUNTRIES = ("Turkey", "Iceland", "Republic of Korea", "Austria", "Bolivia", "Kiribati", "Sierra Leone", "Guam")
_COMPANIES = ("Fahey and Sons", "Leannon, Predovic and Morar", "Armstrong Inc", "Kohler Inc", "Bosco - Grant")
_MATERIALS = ("Wooden", "Steel", "Granite", "Rubber", "Fresh", "Plastic", "Frozen", "Cotton", "Metal")
_CHARACTERS = list(ascii_uppercase + digits)
_FOLDERS = ("/lib", "/usr/local/src", "/System", "/etc/periodic", "/media", "/lost+found")


def create_schema(connection: Connection) -> None:
    """Create the tables of totesys, empty: those that it had, and those that are declared besides."""
    connection.run(files(__package__).joinpath("totesys.sql").read_text())
    create_missing_tables(connection)


def create_missing_tables(connection: Connection, tables: Iterable[Table] = TOTESYS_TABLES) -> None:
    """Create the declared tables that the simulated totesys lacks: empty, without foreign keys, and so they remain."""
    declared = {table.name: table for table in tables}
    for name in declared.keys() - live_tables(connection, SOURCE_SCHEMA, declared.values()).keys():
        connection.run("; ".join(_table_statements(declared[name])))


def _table_statements(table: Table) -> list[str]:
    """Return the statements that create the enums of a source table, and the table."""
    enums = {
        column.name: (relation(f"{table.name}_{column.name}"), values)
        for column in table.columns
        if (values := enum_values(column))
    }
    columns = [
        f"{quote_identifier(column.name)} {enums[column.name][0] if column.name in enums else sql_type(column.type)}"
        f"{'' if column.nullable else ' NOT NULL'}"
        for column in table.columns
    ]
    key = f"PRIMARY KEY ({column_list(table.primary_key)})"
    return [
        *(f"CREATE TYPE {name} AS ENUM ({', '.join(map(literal, values))})" for name, values in enums.values()),
        f"CREATE TABLE {relation(table.name)} ({', '.join([*columns, key])})",
    ]


class Event(NamedTuple):
    """A change of totesys, planned for a time. `apply` makes it, stamped with the time that it is given."""

    at: datetime
    apply: Callable[[datetime], object]


class Totesys:
    """A simulated totesys. The same seed and the same calls produce the same rows."""

    def __init__(self, connection: Connection, seed: int = 0) -> None:
        self._connection = connection
        self._random = np.random.default_rng(seed)

    def generate_history(self, start: date, end: date, transactions_per_day: float = TRANSACTIONS_PER_DAY) -> None:
        """Fill empty tables, in bulk, with the activity from `start` until before `end`."""
        first_rows_at = _midnight(start) + _FIRST_ROWS_AT
        self._insert_reference_data(first_rows_at)
        days = np.arange(start.isoformat(), end.isoformat(), dtype="datetime64[D]")
        working_days = days[np.is_busday(days)]
        design_times = [first_rows_at] * _FIRST_DESIGNS
        for day in working_days.tolist():
            design_times += self._times(day, _DESIGNS_PER_DAY)
        designs = [self._new_design(at) | {"created_at": at, "last_updated": at} for at in design_times]
        self._copy("design", pa.Table.from_pylist(designs))
        self._generate_orders(working_days, end, transactions_per_day, np.array(design_times, "datetime64[ms]"))

    def simulate_day(self, day: date) -> int:
        """Apply all events of a day at once. Return their number."""
        events = self.plan_day(day)
        for event in events:
            event.apply(event.at)
        return len(events)

    def plan_day(self, day: date, transactions_per_day: float = TRANSACTIONS_PER_DAY) -> list[Event]:
        """Return the events of a day, in order; none on a weekend."""
        if not np.is_busday(day):
            return []
        events = [Event(_midnight(day) + _PAYMENT_RUN_AT, self.run_payments)]
        for make, expected in (
            (self.sell, transactions_per_day * _SALES_SHARE),
            (self.purchase, transactions_per_day * (1 - _SALES_SHARE)),
            (self.add_design, _DESIGNS_PER_DAY),
        ):
            events += [Event(at, make) for at in self._times(day, expected)]
        for table in _SILENT_EDITS:
            edit = partial(self.edit_silently, table)
            events += [Event(at, edit) for at in self._times(day, _SILENT_EDITS_PER_DAY)]
        return sorted(events, key=lambda event: event.at)

    def run_payments(self, at: datetime) -> None:
        """Mark the payments due on the day as paid."""
        sql = "UPDATE payment SET paid = true, last_updated = :at WHERE payment_date = :day AND NOT paid"
        self._connection.run(sql, at=at, day=at.date().isoformat())

    def sell(self, at: datetime) -> None:
        """Insert a sales order, with its transaction and payment."""
        units, price = self._integer(*_UNITS_SOLD), self._price(*_UNIT_CENTS)
        order = {"design_id": self._any_id("design"), "units_sold": units, "unit_price": price}
        self._order("sales_order", "SALE", _SALES_RECEIPT, at, units * price, **order)

    def purchase(self, at: datetime) -> None:
        """Insert a purchase order, with its transaction and payment."""
        quantity, price = self._integer(*_ITEM_QUANTITY), self._price(*_ITEM_CENTS)
        order = {"item_code": self._code(7), "item_quantity": quantity, "item_unit_price": price}
        self._order("purchase_order", "PURCHASE", _PURCHASE_PAYMENT, at, quantity * price, **order)

    def add_design(self, at: datetime) -> None:
        """Insert a design."""
        self._insert("design", at, **self._new_design(at))

    def edit_silently(self, table: str, at: datetime | None = None) -> None:  # noqa: ARG002 - nothing tells the time
        """Change one column of a random row, but not its last_updated."""
        key = self._any_id(table)
        column = str(self._random.choice(list(_SILENT_EDITS[table])))
        value = _SILENT_EDITS[table][column](self)
        self._connection.run(f"UPDATE {table} SET {column} = :value WHERE {table}_id = :key", value=value, key=key)

    def mistype_date(self, at: datetime) -> str:
        """Set the delivery date of the latest sales order to a day that does not exist. Return what happened."""
        return self._retype_dates(at, f"'{_NO_SUCH_DAY}'", "= (SELECT max(sales_order_id) FROM sales_order)")

    def correct_dates(self, at: datetime) -> str:
        """Set the delivery dates that do not exist to the payment date. Return what happened."""
        mistyped = f"IN (SELECT sales_order_id FROM sales_order WHERE agreed_delivery_date = '{_NO_SUCH_DAY}')"
        return self._retype_dates(at, "agreed_payment_date", mistyped)

    def cancel_order(self, _: datetime) -> str:
        """Delete a random sales order, with its transaction and payment. Return what happened."""
        order = self._any_id("sales_order")
        with transaction(self._connection):
            for delete in (
                "payment USING transaction WHERE payment.transaction_id = transaction.transaction_id AND",
                "transaction WHERE",
                "sales_order WHERE",
            ):
                self._connection.run(f"DELETE FROM {delete} sales_order_id = :order", order=order)
        return f"sales order {order} is cancelled: deleted, with its transaction and payment"

    def _retype_dates(self, at: datetime, date_sql: str, which: str) -> str:
        rows = self._connection.run(
            f"""UPDATE sales_order SET agreed_delivery_date = {date_sql}, last_updated = :at
                WHERE sales_order_id {which} RETURNING sales_order_id, agreed_delivery_date""",
            at=at,
        )
        return "; ".join(
            f"a clerk types {typed} into agreed_delivery_date of sales order {order}" for order, typed in rows
        )

    def _order(self, table: str, kind: str, payment_type: int, at: datetime, amount: Decimal, **order: Any) -> None:
        counterparty, currency = self._integer(1, _COUNTERPARTIES + 1), self._integer(1, _CURRENCIES + 1)
        due = self._agreed_date(at.date())
        with transaction(self._connection):
            order_id = self._insert(
                table,
                at,
                **order,
                staff_id=self._integer(1, _STAFF + 1),
                counterparty_id=counterparty,
                currency_id=currency,
                agreed_delivery_date=self._agreed_date(at.date()),
                agreed_payment_date=due,
                agreed_delivery_location_id=self._integer(1, _ADDRESSES + 1),
            )
            transaction_id = self._insert("transaction", at, transaction_type=kind, **{f"{table}_id": order_id})
            self._insert(
                "payment",
                at,
                transaction_id=transaction_id,
                counterparty_id=counterparty,
                payment_amount=amount,
                currency_id=currency,
                payment_type_id=payment_type,
                paid=False,
                payment_date=due,
                company_ac_number=self._integer(*_ACCOUNT_NUMBERS),
                counterparty_ac_number=self._integer(*_ACCOUNT_NUMBERS),
            )

    def _insert(self, table: str, at: datetime, **values: Any) -> int:
        """Insert a row created at a time. Return its key."""
        row = values | {"created_at": at, "last_updated": at}
        bound = ", ".join(f":{column}" for column in row)
        sql = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({bound}) RETURNING {table}_id"
        [[key]] = self._connection.run(sql, **row)
        return int(key)

    def _any_id(self, table: str) -> int:
        """Return the key of a random row, 0 if there is none."""
        key = f"{table}_id"
        [[highest]] = self._connection.run(f"SELECT max({key}) FROM {table}")
        if not highest:
            return 0
        drawn = self._integer(1, highest + 1)
        [[present]] = self._connection.run(f"SELECT min({key}) FROM {table} WHERE {key} >= :drawn", drawn=drawn)
        return int(present)

    def _integer(self, low: int, high: int) -> int:
        return int(self._random.integers(low, high))

    def _price(self, low_cents: int, high_cents: int) -> Decimal:
        return Decimal(self._integer(low_cents, high_cents)) / 100

    def _agreed_date(self, day: date) -> str:
        return (day + timedelta(days=self._integer(0, 8))).isoformat()

    def _recent_date(self) -> str:
        return self._agreed_date(date(2024, 1, 1) + timedelta(days=self._integer(0, 365)))

    def _code(self, length: int) -> str:
        return "".join(self._random.choice(_CHARACTERS, length))

    def _new_design(self, at: datetime) -> dict[str, str]:
        material = str(self._random.choice(_MATERIALS))
        return {
            "design_name": material,
            "file_location": str(self._random.choice(_FOLDERS)),
            "file_name": f"{material}-{at:%Y%m%d}-{self._code(4)}.json".lower(),
        }

    def _times(self, day: date, expected: float) -> list[datetime]:
        """Return random times in the opening hours of a day, `expected` of them on average."""
        opening = _midnight(day) + _OPENS_AT
        offsets = np.sort(self._random.integers(0, _OPEN_MILLISECONDS, self._random.poisson(expected)))
        return [opening + timedelta(milliseconds=int(offset)) for offset in offsets]

    def _insert_reference_data(self, at: datetime) -> None:
        choice = self._random.choice
        for name, location, manager in _DEPARTMENTS:
            self._insert("department", at, department_name=name, location=location, manager=manager)
        for code in ("GBP", "USD", "EUR"):
            self._insert("currency", at, currency_code=code)
        for name in ("SALES_RECEIPT", "SALES_REFUND", "PURCHASE_PAYMENT", "PURCHASE_REFUND"):
            self._insert("payment_type", at, payment_type_name=name)
        for _ in range(_ADDRESSES):
            self._insert(
                "address",
                at,
                address_line_1=f"{self._integer(1, 9999):04} {choice(_STREETS)}",
                address_line_2=None if self._integer(0, 3) else f"{choice(_LAST_NAMES)} Glens",
                district=choice(np.array(_DISTRICTS, dtype=object)),
                city=str(choice(_CITIES)),
                postal_code=f"{self._integer(0, 100_000):05}",
                country=str(choice(_COUNTRIES)),
                phone=f"{self._integer(0, 10_000):04} {self._integer(0, 1_000_000):06}",
            )
        for number in range(_COUNTERPARTIES):
            company = _COMPANIES[number % len(_COMPANIES)]
            self._insert(
                "counterparty",
                at,
                counterparty_legal_name=company if number < len(_COMPANIES) else f"{company} {number}",
                legal_address_id=self._integer(1, _ADDRESSES + 1),
                commercial_contact=f"{choice(_FIRST_NAMES)} {choice(_LAST_NAMES)}",
                delivery_contact=f"{choice(_FIRST_NAMES)} {choice(_LAST_NAMES)}",
            )
        for number in range(_STAFF):
            first, last = _FIRST_NAMES[number % len(_FIRST_NAMES)], str(choice(_LAST_NAMES))
            self._insert(
                "staff",
                at,
                first_name=first,
                last_name=last,
                department_id=self._integer(1, len(_DEPARTMENTS) + 1),
                email_address=f"{first}.{last}.{number}@terrifictotes.com".lower(),
            )

    def _generate_orders(self, working_days: Any, end: date, transactions_per_day: float, design_times: Any) -> None:
        per_day = self._random.poisson(transactions_per_day, len(working_days))
        count = int(per_day.sum())
        opening = np.repeat(working_days, per_day).astype("datetime64[ms]") + np.timedelta64(_OPENS_AT, "ms")
        created = np.sort(opening + self._random.integers(0, _OPEN_MILLISECONDS, count))
        days = created.astype("datetime64[D]")
        sale = self._random.random(count) < _SALES_SHARE
        order_id = np.where(sale, np.cumsum(sale), np.cumsum(~sale)).astype("int32")
        integers = partial(self._random.integers, size=count, dtype="int32")
        quantity = np.where(sale, integers(*_UNITS_SOLD), integers(*_ITEM_QUANTITY))
        cents = np.where(sale, integers(*_UNIT_CENTS), integers(*_ITEM_CENTS))
        due, delivery = (days + self._random.integers(0, 8, count).astype("timedelta64[D]") for _ in range(2))
        timestamps = {"created_at": created, "last_updated": created}
        common = timestamps | {
            "staff_id": integers(1, _STAFF + 1),
            "counterparty_id": integers(1, _COUNTERPARTIES + 1),
            "currency_id": integers(1, _CURRENCIES + 1),
            "agreed_delivery_date": np.datetime_as_string(delivery),
            "agreed_payment_date": np.datetime_as_string(due),
            "agreed_delivery_location_id": integers(1, _ADDRESSES + 1),
        }
        sales = common | {
            "design_id": self._random.integers(1, np.searchsorted(design_times, created, side="right") + 1),
            "units_sold": quantity,
            "unit_price": cents / 100,
        }
        purchases = common | {
            "item_code": self._random.choice(_CHARACTERS, (count, 7)).view("U7").ravel(),
            "item_quantity": quantity,
            "item_unit_price": cents / 100,
        }
        self._copy("sales_order", pa.table(sales).filter(pa.array(sale)))
        self._copy("purchase_order", pa.table(purchases).filter(pa.array(~sale)))
        transactions = timestamps | {
            "transaction_type": np.where(sale, "SALE", "PURCHASE"),
            "sales_order_id": pa.array(order_id, mask=~sale),
            "purchase_order_id": pa.array(order_id, mask=sale),
        }
        self._copy("transaction", pa.table(transactions))
        paid = np.is_busday(due) & (due > days) & (due < np.datetime64(end, "D"))
        payments = timestamps | {
            "last_updated": np.where(paid, due + np.timedelta64(_PAYMENT_RUN_AT, "ms"), created),
            "transaction_id": np.arange(1, count + 1),
            "counterparty_id": common["counterparty_id"],
            "payment_amount": quantity.astype("int64") * cents / 100,
            "currency_id": common["currency_id"],
            "payment_type_id": np.where(sale, _SALES_RECEIPT, _PURCHASE_PAYMENT),
            "paid": paid,
            "payment_date": common["agreed_payment_date"],
            "company_ac_number": integers(*_ACCOUNT_NUMBERS),
            "counterparty_ac_number": integers(*_ACCOUNT_NUMBERS),
        }
        self._copy("payment", pa.table(payments))

    def _copy(self, table: str, rows: pa.Table) -> None:
        """Fill an empty table. PostgreSQL numbers the rows from 1."""
        self._connection.copy_in(table, rows.column_names, csv_chunks(rows.to_batches(_BATCH_ROWS)))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())


_SILENT_EDITS: dict[str, dict[str, Callable[[Totesys], object]]] = {
    "sales_order": {
        "units_sold": lambda totesys: totesys._integer(*_UNITS_SOLD),
        "unit_price": lambda totesys: totesys._price(*_UNIT_CENTS),
        "counterparty_id": lambda totesys: totesys._integer(1, _COUNTERPARTIES + 1),
        "agreed_delivery_date": lambda totesys: totesys._recent_date(),
        "agreed_delivery_location_id": lambda totesys: totesys._integer(1, _ADDRESSES + 1),
    },
    "purchase_order": {
        "item_quantity": lambda totesys: totesys._integer(*_ITEM_QUANTITY),
        "item_unit_price": lambda totesys: totesys._price(*_ITEM_CENTS),
        "agreed_delivery_date": lambda totesys: totesys._recent_date(),
    },
    "design": {
        "design_name": lambda totesys: str(totesys._random.choice(_MATERIALS)),
        "file_location": lambda totesys: str(totesys._random.choice(_FOLDERS)),
        "file_name": lambda totesys: f"edited-{totesys._code(4)}.json".lower(),
    },
}
