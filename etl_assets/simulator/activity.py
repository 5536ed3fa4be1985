"""How totesys behaves, as measured on the real one.

On weekdays from 08:00 to 18:59 UTC about 31 transactions are made, 71 % of them sales. An order, its transaction and
its payment share one created_at; the payment is of quantity times price; agreed dates are 0 to 7 days later. At
07:55:10 one UPDATE marks the payments due that day as paid and bumps their last_updated, so that payments due on a
weekend or made on the day they are due stay unpaid. About twice a week each, a row of sales_order, purchase_order and
design is edited: one column, of a row of any age, without touching last_updated.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.databases import Connection, csv_chunks, quoted, transaction
from etl_assets.tables import MONEY

TRANSACTIONS_PER_DAY = 31.0
_SALES_SHARE = 0.71
_DESIGNS_PER_DAY = 0.9
_SILENT_EDITS_PER_DAY = 0.4  # of each table: two in a week of five days
_OPENS_AT = time(8)
_OPEN_MILLISECONDS = 11 * 60 * 60 * 1000
_PAYMENT_RUN_AT = time(7, 55, 10)
_FRIDAY = 4
_BATCH_ROWS = 64 * 1024

_STAFF, _COUNTERPARTIES, _ADDRESSES, _CURRENCIES, _FIRST_DESIGNS = 20, 20, 30, 3, 10
_SALES_RECEIPT, _PURCHASE_PAYMENT = 1, 3

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
_LAST_NAMES = (
    "Byron",
    "O'Neill",
    "Moreau",
    "VonRueden",
    "Okafor",
    "Lindqvist",
    "García",
    "Tanaka",
    "Novák",
    "Patel",
)
_STREETS = ("Herzog Via", "Alexie Cliffs", "Sincere Fort", "Rogahn Skyway", "Koch Drives", "Cole Corner")
_CITIES = ("Aliso Viejo", "Lake Charles", "Olsonside", "Hackensack", "Pueblo", "Fresno", "Utica", "Napa")
_DISTRICTS = (None, None, "Avon", "Bedfordshire", "Borders")
_COUNTRIES = (
    "Turkey",
    "Iceland",
    "Republic of Korea",
    "Austria",
    "Bolivia",
    "Kiribati",
    "Sierra Leone",
    "Guam",
)
_COMPANIES = ("Fahey and Sons", "Leannon, Predovic and Morar", "Armstrong Inc", "Kohler Inc", "Bosco - Grant")
_MATERIALS = ("Wooden", "Steel", "Granite", "Rubber", "Fresh", "Plastic", "Frozen", "Cotton", "Metal")
_FOLDERS = ("/lib", "/usr/local/src", "/System", "/etc/periodic", "/media", "/lost+found")


def create_schema(connection: Connection) -> None:
    """Create the tables of totesys, empty."""
    connection.run(files(__package__).joinpath("totesys.sql").read_text())


@dataclass(frozen=True)
class Event:
    """Something that happens in totesys at a time."""

    at: datetime
    happen: Callable[[], object]


class Totesys:
    """A simulated totesys: the same seed and calls give the same rows."""

    def __init__(self, connection: Connection, seed: int = 0) -> None:
        self._connection = connection
        self._random = np.random.default_rng(seed)

    def past(self, start: date, end: date, transactions_per_day: float = TRANSACTIONS_PER_DAY) -> None:
        """Fill empty tables with what happened from `start` until before `end`, in bulk."""
        opened = datetime.combine(start, time(7))
        self._found(opened)
        working_days = [day for day in _days(start, end) if day.weekday() <= _FRIDAY]
        self._past_designs(working_days, opened)
        self._past_orders(working_days, end, transactions_per_day)
        for table in ("design", "sales_order", "purchase_order", "transaction", "payment"):
            self._connection.run(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{table}_id'), "
                f"(SELECT coalesce(max({table}_id), 1) FROM {table}))"
            )

    def day(self, day: date, transactions_per_day: float = TRANSACTIONS_PER_DAY) -> int:
        """Live through a day at once; give the number of events."""
        events = self.events(day, transactions_per_day)
        for event in events:
            event.happen()
        return len(events)

    def events(self, day: date, transactions_per_day: float = TRANSACTIONS_PER_DAY) -> list[Event]:
        """Plan what happens on a day, in order; nothing on a weekend."""
        if day.weekday() > _FRIDAY:
            return []
        planned = [Event(datetime.combine(day, _PAYMENT_RUN_AT), partial(self.run_payments, day))]
        for happen, expected in (
            (self.sell, transactions_per_day * _SALES_SHARE),
            (self.purchase, transactions_per_day * (1 - _SALES_SHARE)),
            (self.design, _DESIGNS_PER_DAY),
        ):
            planned += [Event(at, partial(happen, at)) for at in self._times(day, expected)]
        for table in _EDITS:
            times = self._times(day, _SILENT_EDITS_PER_DAY)
            planned += [Event(at, partial(self.edit_silently, table)) for at in times]
        return sorted(planned, key=lambda event: event.at)

    def run_payments(self, day: date) -> None:
        """Mark the payments due on a day as paid."""
        self._connection.run(
            "UPDATE payment SET paid = true, last_updated = :at WHERE payment_date = :day AND NOT paid",
            at=datetime.combine(day, _PAYMENT_RUN_AT),
            day=day.isoformat(),
        )

    def sell(self, at: datetime) -> None:
        """Make a sales order, with its transaction and payment."""
        units, price = self._integer(1_000, 100_000), self._price(200, 400)
        values = {"design_id": self._any_id("design"), "units_sold": units, "unit_price": price}
        self._order("sales_order", "SALE", _SALES_RECEIPT, at, values, units * price)

    def purchase(self, at: datetime) -> None:
        """Make a purchase order, with its transaction and payment."""
        quantity, price = self._integer(1, 1_000), self._price(100, 100_000)
        values = {"item_code": self._code(7).upper(), "item_quantity": quantity, "item_unit_price": price}
        self._order("purchase_order", "PURCHASE", _PURCHASE_PAYMENT, at, values, quantity * price)

    def design(self, at: datetime) -> None:
        """Add a design."""
        self._insert("design", self._new_design(at) | {"created_at": at, "last_updated": at})

    def edit_silently(self, table: str) -> int | None:
        """Change one column of a row of any age and leave its last_updated; give its key, if there is a row."""
        key = self._any_id(table)
        column = str(self._random.choice(list(_EDITS[table])))
        self._connection.run(
            f"UPDATE {quoted(table)} SET {quoted(column)} = :value WHERE {quoted(table + '_id')} = :key",
            value=_EDITS[table][column](self),
            key=key,
        )
        return key

    def _order(
        self, table: str, kind: str, payment_type: int, at: datetime, values: dict[str, Any], amount: Decimal
    ) -> None:
        stamps = {"created_at": at, "last_updated": at}
        counterparty, currency = self._integer(1, _COUNTERPARTIES + 1), self._integer(1, _CURRENCIES + 1)
        due = self._agreed_date(at.date())
        with transaction(self._connection):
            order = self._insert(
                table,
                values
                | stamps
                | {
                    "staff_id": self._integer(1, _STAFF + 1),
                    "counterparty_id": counterparty,
                    "currency_id": currency,
                    "agreed_delivery_date": self._agreed_date(at.date()),
                    "agreed_payment_date": due,
                    "agreed_delivery_location_id": self._integer(1, _ADDRESSES + 1),
                },
            )
            made = self._insert("transaction", {"transaction_type": kind, f"{table}_id": order} | stamps)
            self._insert(
                "payment",
                stamps
                | {
                    "transaction_id": made,
                    "counterparty_id": counterparty,
                    "payment_amount": amount,
                    "currency_id": currency,
                    "payment_type_id": payment_type,
                    "paid": False,
                    "payment_date": due,
                    "company_ac_number": self._account(),
                    "counterparty_ac_number": self._account(),
                },
            )

    def _insert(self, table: str, values: dict[str, Any]) -> int:
        columns = ", ".join(quoted(column) for column in values)
        bound = ", ".join(f":{column}" for column in values)
        [[key]] = self._connection.run(
            f"INSERT INTO {quoted(table)} ({columns}) VALUES ({bound}) RETURNING {quoted(table + '_id')}",
            **values,
        )
        return int(key)

    def _any_id(self, table: str) -> int:
        key = quoted(table + "_id")
        [[highest]] = self._connection.run(f"SELECT coalesce(max({key}), 0) FROM {quoted(table)}")
        return self._integer(1, highest + 1) if highest else 0

    def _integer(self, low: int, high: int) -> int:
        return int(self._random.integers(low, high))

    def _price(self, low_cents: int, high_cents: int) -> Decimal:
        return Decimal(self._integer(low_cents, high_cents)) / 100

    def _account(self) -> int:
        return self._integer(10_000_000, 100_000_000)

    def _agreed_date(self, day: date) -> str:
        return (day + timedelta(days=self._integer(0, 8))).isoformat()

    def _recent_date(self) -> str:
        return self._agreed_date(date(2024, 1, 1) + timedelta(days=self._integer(0, 365)))

    def _code(self, length: int) -> str:
        return "".join(self._random.choice(list("abcdefghijklmnopqrstuvwxyz0123456789"), length))

    def _new_design(self, at: datetime) -> dict[str, str]:
        material = str(self._random.choice(_MATERIALS))
        return {
            "design_name": material,
            "file_location": str(self._random.choice(_FOLDERS)),
            "file_name": f"{material.lower()}-{at:%Y%m%d}-{self._code(4)}.json",
        }

    def _times(self, day: date, expected: float) -> list[datetime]:
        """Draw when on a day something happens that does so `expected` times a day."""
        opening = datetime.combine(day, _OPENS_AT)
        offsets = np.sort(self._random.integers(0, _OPEN_MILLISECONDS, self._random.poisson(expected)))
        return [opening + timedelta(milliseconds=int(offset)) for offset in offsets]

    def _found(self, at: datetime) -> None:
        """Insert what was there before the first order."""
        stamps = {"created_at": at, "last_updated": at}
        choice = self._random.choice
        for name, location, manager in _DEPARTMENTS:
            self._insert("department", {"department_name": name, "location": location, "manager": manager} | stamps)
        for code in ("GBP", "USD", "EUR"):
            self._insert("currency", {"currency_code": code} | stamps)
        for name in ("SALES_RECEIPT", "SALES_REFUND", "PURCHASE_PAYMENT", "PURCHASE_REFUND"):
            self._insert("payment_type", {"payment_type_name": name} | stamps)
        for _ in range(_ADDRESSES):
            self._insert(
                "address",
                {
                    "address_line_1": f"{self._integer(1, 9999):04} {choice(_STREETS)}",
                    "address_line_2": None if self._integer(0, 3) else f"{choice(_LAST_NAMES)} Glens",
                    "district": choice(np.array(_DISTRICTS, dtype=object)),
                    "city": str(choice(_CITIES)),
                    "postal_code": f"{self._integer(0, 100_000):05}",
                    "country": str(choice(_COUNTRIES)),
                    "phone": f"{self._integer(0, 10_000):04} {self._integer(0, 1_000_000):06}",
                }
                | stamps,
            )
        for number in range(_COUNTERPARTIES):
            company = _COMPANIES[number % len(_COMPANIES)]
            self._insert(
                "counterparty",
                {
                    "counterparty_legal_name": company if number < len(_COMPANIES) else f"{company} {number}",
                    "legal_address_id": self._integer(1, _ADDRESSES + 1),
                    "commercial_contact": f"{choice(_FIRST_NAMES)} {choice(_LAST_NAMES)}",
                    "delivery_contact": f"{choice(_FIRST_NAMES)} {choice(_LAST_NAMES)}",
                }
                | stamps,
            )
        for number in range(_STAFF):
            first, last = _FIRST_NAMES[number % len(_FIRST_NAMES)], str(choice(_LAST_NAMES))
            self._insert(
                "staff",
                {
                    "first_name": first,
                    "last_name": last,
                    "department_id": self._integer(1, len(_DEPARTMENTS) + 1),
                    "email_address": f"{first}.{last}.{number}@terrifictotes.com".lower(),
                }
                | stamps,
            )

    def _past_designs(self, working_days: list[date], opened: datetime) -> None:
        times = [opened] * _FIRST_DESIGNS
        for day in working_days:
            times += self._times(day, _DESIGNS_PER_DAY)
        designs = [
            self._new_design(at) | {"design_id": number, "created_at": at, "last_updated": at}
            for number, at in enumerate(times, 1)
        ]
        self._copy("design", pa.Table.from_pylist(designs))
        self._design_times = np.array(times, dtype="datetime64[ms]")

    def _past_orders(self, working_days: list[date], end: date, transactions_per_day: float) -> None:
        per_day = self._random.poisson(transactions_per_day, len(working_days))
        count = int(per_day.sum())
        days = np.repeat(np.array(working_days, dtype="datetime64[D]"), per_day)
        opening = np.timedelta64(_OPENS_AT.hour, "h")
        created = np.sort(days.astype("datetime64[ms]") + opening + self._random.integers(0, _OPEN_MILLISECONDS, count))
        days = created.astype("datetime64[D]")
        sale = self._random.random(count) < _SALES_SHARE
        order_id = np.where(sale, np.cumsum(sale), np.cumsum(~sale)).astype("int32")
        quantity = np.where(sale, self._between(1_000, 100_000, count), self._between(1, 1_000, count))
        cents = np.where(sale, self._between(200, 400, count), self._between(100, 100_000, count))
        due, delivery = (days + self._random.integers(0, 8, count).astype("timedelta64[D]") for _ in range(2))
        common: dict[str, Any] = {
            "created_at": created,
            "last_updated": created,
            "staff_id": self._between(1, _STAFF + 1, count),
            "counterparty_id": self._between(1, _COUNTERPARTIES + 1, count),
            "currency_id": self._between(1, _CURRENCIES + 1, count),
            "agreed_delivery_date": np.datetime_as_string(delivery),
            "agreed_payment_date": np.datetime_as_string(due),
            "agreed_delivery_location_id": self._between(1, _ADDRESSES + 1, count),
        }
        designs_then = np.searchsorted(self._design_times, created, side="right")
        sales = {
            "sales_order_id": order_id,
            "design_id": self._random.integers(1, designs_then + 1),
            "units_sold": quantity,
            "unit_price": _money(cents),
        }
        alphabet = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
        codes = self._random.choice(alphabet, (count, 7)).view("U7").ravel()
        purchases = {
            "purchase_order_id": order_id,
            "item_code": codes,
            "item_quantity": quantity,
            "item_unit_price": _money(cents),
        }
        self._copy("sales_order", pa.table(sales | common).filter(pa.array(sale)))
        self._copy("purchase_order", pa.table(purchases | common).filter(pa.array(~sale)))
        numbers = np.arange(1, count + 1, dtype="int32")
        transactions = {
            "transaction_id": numbers,
            "transaction_type": np.where(sale, "SALE", "PURCHASE"),
            "sales_order_id": pa.array(order_id, mask=~sale),
            "purchase_order_id": pa.array(order_id, mask=sale),
            "created_at": created,
            "last_updated": created,
        }
        self._copy("transaction", pa.table(transactions))
        payment_run = due.astype("datetime64[ms]") + np.timedelta64(
            (_PAYMENT_RUN_AT.hour * 60 + _PAYMENT_RUN_AT.minute) * 60 + _PAYMENT_RUN_AT.second, "s"
        )
        # day 0 of numpy's calendar, 1970-01-01, was a Thursday
        weekday = (due.astype("int64") + 3) % 7
        paid = (weekday <= _FRIDAY) & (due > days) & (due < np.datetime64(end, "D"))
        payments = {
            "payment_id": numbers,
            "created_at": created,
            "last_updated": np.where(paid, payment_run, created),
            "transaction_id": numbers,
            "counterparty_id": common["counterparty_id"],
            "payment_amount": _money(quantity.astype("int64") * cents),
            "currency_id": common["currency_id"],
            "payment_type_id": np.where(sale, _SALES_RECEIPT, _PURCHASE_PAYMENT),
            "paid": paid,
            "payment_date": common["agreed_payment_date"],
            "company_ac_number": self._between(10_000_000, 100_000_000, count),
            "counterparty_ac_number": self._between(10_000_000, 100_000_000, count),
        }
        self._copy("payment", pa.table(payments))

    def _between(self, low: int, high: int, count: int) -> Any:
        return self._random.integers(low, high, count, dtype="int32")

    def _copy(self, table: str, rows: pa.Table) -> None:
        self._connection.copy_in(quoted(table), rows.column_names, csv_chunks(rows.to_batches(_BATCH_ROWS)))


def _money(cents: Any) -> pa.Array:
    return pc.multiply(pa.array(cents.astype("int64")).cast(pa.decimal128(19)), pa.scalar(Decimal("0.01"))).cast(MONEY)


def _days(start: date, end: date) -> Iterator[date]:
    for number in range((end - start).days):
        yield start + timedelta(days=number)


_EDITS: dict[str, dict[str, Callable[[Totesys], Any]]] = {
    "sales_order": {
        "units_sold": lambda totesys: totesys._integer(1_000, 100_000),
        "unit_price": lambda totesys: totesys._price(200, 400),
        "counterparty_id": lambda totesys: totesys._integer(1, _COUNTERPARTIES + 1),
        "agreed_delivery_date": lambda totesys: totesys._recent_date(),
        "agreed_delivery_location_id": lambda totesys: totesys._integer(1, _ADDRESSES + 1),
    },
    "purchase_order": {
        "item_quantity": lambda totesys: totesys._integer(1, 1_000),
        "item_unit_price": lambda totesys: totesys._price(100, 100_000),
        "agreed_delivery_date": lambda totesys: totesys._recent_date(),
    },
    "design": {
        "design_name": lambda totesys: str(totesys._random.choice(_MATERIALS)),
        "file_location": lambda totesys: str(totesys._random.choice(_FOLDERS)),
        "file_name": lambda totesys: f"edited-{totesys._code(4)}.json",
    },
}
