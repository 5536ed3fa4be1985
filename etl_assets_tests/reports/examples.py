"""Made-up reports of a company that sells tote bags, and their answers."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

from etl_assets.reports.charts import draw_answers
from etl_assets.reports.page import render_page
from etl_assets.reports.report import Answer, Value, parse

NOON = datetime(2024, 8, 22, 12, tzinfo=UTC)
MONTHS = [date(2022 + month // 12, month % 12 + 1, 1) for month in range(8, 32)]
HOSTILE = """</script><script>alert("1")</script><img src=x onerror=alert(2)>' & ]]>"""
FORMULA = "=1+1 Ltd"


def make_answer(header: str, columns: str, *rows: tuple[Value, ...], name: str = "example") -> Answer:
    """An answer to a report with this header."""
    lines = "\n".join(f"-- {line.strip()}" for line in header.strip().splitlines())
    report = parse(name, f"{lines}\nSELECT 1;")
    return Answer(report=report, columns=columns.split(), rows=rows, captured_at=NOON)


def make_page(answers: Iterable[Answer]) -> str:
    drawn, _ = draw_answers(answers)
    return render_page(drawn, [], NOON)


def money(amount: float) -> Decimal:
    return Decimal(amount).quantize(Decimal("0.01"))


def example_answers(seed: int = 7) -> Iterator[Answer]:
    """An answer to each of ten reports."""
    random = Random(seed)
    base_revenue = {"GBP": 61_000, "USD": 44_000, "EUR": 27_000}
    yield make_answer(
        """title: Revenue by month and currency
        answers: Sales revenue of each month in each currency.
        chart: line x=month y=revenue series=currency
        units: revenue: order currency
        units: orders: sales orders""",
        "month currency orders revenue",
        *(
            (month, code, random.randint(90, 260), money(base * (1 + index / 40) * random.uniform(0.85, 1.2)))
            for index, month in enumerate(MONTHS)
            for code, base in base_revenue.items()
        ),
        name="revenue_by_month",
    )
    cloths = ("Wooden", "Steel", "Granite", "Bronze", "Soft", "Cotton", "Plastic", "Rubber", "Frozen", "Fresh", "Linen")
    yield make_answer(
        """title: Best-selling designs of the last quarter
        answers: Designs by bags sold.
        chart: bar x=design y=bags horizontal=yes
        units: bags: bags sold
        units: orders: sales orders""",
        "design bags orders",
        *(
            (f"{cloth} tote, long handles", 96_400 - 4_870 * index - index**2 * 37, 310 - 11 * index)
            for index, cloth in enumerate(cloths)
        ),
        name="top_designs",
    )
    staff = [
        "Ada Byron",
        "Deron Beier",
        "Jeanette Erdman",
        "Magdalena Zieme",
        "Flavio Kulas",
        "Jazmyn Kuhn",
        "Cora Adams",
    ]
    yield make_answer(
        """title: Staff league by quarter
        answers: Revenue by staff in each quarter. Counts orders in GBP only.
        chart: bar x=quarter y=revenue series=staff
        units: revenue: GBP""",
        "quarter staff orders revenue",
        *(
            (quarter, name, random.randint(20, 90), money(random.uniform(14_000, 58_000)))
            for quarter in ("2023 Q3", "2023 Q4", "2024 Q1", "2024 Q2")
            for name in staff
        ),
        name="staff_league",
    )
    countries = (
        "United Kingdom of Great Britain and Northern Ireland",
        "United States of America",
        "Germany",
        "France",
        "Netherlands",
        "South Georgia and the South Sandwich Islands",
        "Ireland",
    )
    yield make_answer(
        """title: Sales by country and currency
        answers: Sales orders by country of the buyer and currency.
        chart: bar x=country y=orders series=currency stacked=yes horizontal=yes
        units: orders: sales orders of the last 12 months""",
        "country currency orders",
        *(
            (country, code, random.randint(10, 400) // (index + 1) * 3)
            for index, country in enumerate(countries)
            for code in base_revenue
        ),
        name="sales_by_country",
    )
    yield make_answer(
        """title: Order values
        answers: Number of sales orders by order value.
        chart: bar x=order_value y=orders facet=currency
        units: order_value: thousands of the currency
        units: orders: sales orders""",
        "order_value currency orders",
        *(
            (f"{low} to {low + 20}", code, int(900 * 0.7**index * random.uniform(0.8, 1.1)) // (1 + code_index))
            for code_index, code in enumerate(base_revenue)
            for index, low in enumerate(range(0, 200, 20))
        ),
        name="order_values",
    )
    parties = (
        "Fahey and Sons",
        "Leannon and Predovic",
        "Armstrong Inc",
        "Kohler Inc",
        "Frami-Yundt",
        "Mraz LLC",
        "Sauer",
    )
    yield make_answer(
        """title: Purchases by month and counterparty
        answers: Spend on supplies, by counterparty.
        chart: bar x=month y=spent series=counterparty stacked=yes
        units: spent: GBP""",
        "month counterparty spent",
        *(
            (month, party, money(random.uniform(2_000, 22_000) / (1 + index / 2)))
            for month in MONTHS[-12:]
            for index, party in enumerate([*parties, HOSTILE])
        ),
        name="purchases",
    )
    yield make_answer(
        """title: Payments due
        answers: Payments that are due and not marked as paid.
        chart: table
        units: amount: payment currency
        units: days_late: days""",
        "payment_id counterparty kind currency amount due days_late disputed",
        *(
            (
                10_230 + index,
                random.choice([*parties, HOSTILE, FORMULA]),
                random.choice(["SALES_RECEIPT", "PURCHASE_PAYMENT"]),
                random.choice([*base_revenue]),
                money(random.uniform(-90_000, 480_000)),
                date(2024, 8, 21) - timedelta(days=index * 2),
                index * 2 + 1,
                random.choice([True, False, None]),
            )
            for index in range(45)
        ),
        name="payments_due",
    )
    yield make_answer(
        """title: Payment lag
        answers: Days from the payment date until the payment is marked as paid.
        chart: line x=week y=days_median
        units: days_median: days, negative if paid early""",
        "week days_median payments",
        *(
            (date(2024, 1, 1) + timedelta(weeks=week), None if week == 12 else random.randint(-30, 90) / 10, 40 + week)
            for week in range(34)
        ),
        name="payment_lag",
    )
    yield make_answer(
        """title: Silent order changes
        answers: Sales orders changed without a change of last_updated.
        chart: bar x=day y=orders
        units: orders: sales orders""",
        "day orders",
        name="order_changes",
    )
    yield make_answer(
        """title: Data freshness
        answers: Age of the latest data at each load.
        chart: line x=loaded_at y=minutes_old
        units: minutes_old: minutes""",
        "loaded_at minutes_old rows_loaded",
        (NOON.replace(tzinfo=None), 3.5, 1_204),
        name="freshness",
    )
