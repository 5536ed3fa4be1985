"""The version of a star table's rule changes with what decides its rows, and with nothing else."""

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from etl_assets.schema.columns import about, enum, missing_as, optional, personal, renamed_from
from etl_assets.schema.table import Catalog
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.code_version import code_version, rule_versions
from etl_assets.transformation.star_table import ColumnOf, StarTable
from etl_assets_tests.pipeline import CATALOG, SOURCE, STAR

RULES = '''
from etl_assets.schema.columns import columns
from etl_assets.transformation.star_table import star_table
from invoicing import rates
from invoicing.rounding import rounded
import pandas as pd
import pyarrow as pa

FACTOR = 2


def doubled(values):
    """Return twice the values."""
    return values * FACTOR


@star_table(primary_key=("invoice_id",), columns=columns(invoice_id=pa.int32(), total=pa.int32()))
def dim_invoice(invoice: pd.DataFrame) -> pd.DataFrame:
    """Invoices."""
    return invoice.assign(total=rounded(doubled(invoice["total"])) * rates.vat())
'''
ROUNDING = "def rounded(values):\n    return values.round(2)\n"
RATES = "def vat():\n    return 1.2\n\n\ndef other():\n    return 3\n"

Version = Callable[..., str]


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Version]:
    """A function that returns the version of `dim_invoice` with some of the files replaced."""
    folder = tmp_path / "invoicing"
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "invoicing"]:
            del sys.modules[name]

    def compute(rules: str = RULES, rounding: str = ROUNDING, rates: str = RATES) -> str:
        forget()
        importlib.invalidate_caches()
        for name, text in {"__init__": "", "rules": rules, "rounding": rounding, "rates": rates}.items():
            (folder / f"{name}.py").write_text(text)
        star: StarTable = importlib.import_module("invoicing.rules").dim_invoice
        return code_version(star)

    yield compute
    forget()


@pytest.mark.parametrize(
    "changed",
    [
        {"rules": RULES.replace("FACTOR = 2", "FACTOR = 3")},
        {"rules": RULES.replace("values * FACTOR", "values + FACTOR")},
        {"rules": RULES.replace("total=rounded(", "total=1 + rounded(")},
        {"rules": RULES.replace("total=pa.int32()", "total=pa.int64()")},
        {"rounding": ROUNDING.replace("2", "3")},
        {"rates": RATES.replace("1.2", "1.19")},
    ],
)
def test_what_decides_the_rows_changes_the_version(version: Version, changed: dict[str, str]) -> None:
    assert version(**changed) != version()


@pytest.mark.parametrize(
    "changed",
    [
        {"rules": RULES.replace("Invoices.", "All invoices.").replace("twice", "double")},
        {"rules": RULES.replace("FACTOR = 2", "FACTOR  =  (2)  # as agreed") + "\n\nUNUSED = 1\n"},
        {"rules": RULES.replace("return values * FACTOR", "return (\n        values * FACTOR\n    )")},
        {"rates": RATES.replace("3", "4")},
    ],
)
def test_comments_formatting_and_what_is_not_used_do_not(version: Version, changed: dict[str, str]) -> None:
    assert version(**changed) == version()


def test_every_star_table_has_a_version_of_its_own() -> None:
    assert len({code_version(star) for star in STAR_TABLES}) == len(STAR_TABLES)


def test_a_declaration_is_part_of_the_version_and_its_descriptions_are_not() -> None:
    staff = STAR["dim_staff"]
    others = [
        replace(staff, primary_key=("email_address",)),
        replace(staff, columns=staff.columns.set(1, optional(pa.string()).with_name("first_name"))),
        replace(staff, foreign_keys={"staff_id": "dim_staff"}),
        replace(staff, derived_from={"location": (ColumnOf("department", "manager"),)}),
        replace(staff, record_id="staff_record_id"),
    ]
    assert len({code_version(star) for star in (staff, *others)}) == 1 + len(others)
    described = about("Another description.", pa.string()).with_name("first_name")
    assert code_version(replace(staff, columns=staff.columns.set(1, described))) == code_version(staff)


def changed_rules(catalog: Catalog[StarTable]) -> set[str]:
    """Return the star tables whose rule differs in another catalog."""
    before = rule_versions(CATALOG)
    return {name for name, version in rule_versions(catalog).items() if version != before[name]}


def with_source_column(table: str, column: pa.Field) -> Catalog[StarTable]:
    """Return the catalog with a column of a source table declared otherwise."""
    columns = SOURCE[table].columns
    changed = replace(SOURCE[table], columns=columns.set(columns.get_field_index(column.name), column))
    return replace(CATALOG, sources=tuple(changed if each.name == table else each for each in CATALOG.sources))


def test_every_star_table_has_a_rule_version_of_its_own() -> None:
    versions = rule_versions(CATALOG)
    assert [*versions] == [star.name for star in STAR_TABLES]
    assert len({*versions.values()}) == len(versions)
    assert all(len(version) == 16 for version in versions.values())


def test_a_change_of_a_star_table_changes_the_rules_of_those_made_from_it() -> None:
    fact = replace(STAR["fact_payment"], record_id="record_id")
    stars = tuple(fact if star.name == fact.name else star for star in STAR_TABLES)
    assert changed_rules(replace(CATALOG, stars=stars)) == {"fact_payment", "dim_date"}


@pytest.mark.parametrize(
    "column",
    [
        missing_as("London", pa.string()),
        renamed_from("town", pa.string()),
        enum("London", "Leeds"),
        optional(pa.string()),
        pa.field("", pa.binary(), nullable=False),
    ],
)
def test_how_a_source_column_is_read_changes_the_rules_of_the_star_tables_of_its_table(column: pa.Field) -> None:
    assert changed_rules(with_source_column("address", column.with_name("city"))) == {
        "dim_location",
        "dim_counterparty",
    }


def test_another_value_that_stands_for_a_missing_one_changes_the_rule() -> None:
    one, other = (
        rule_versions(with_source_column("address", missing_as(city, pa.string()).with_name("city")))["dim_location"]
        for city in ("London", "Leeds")
    )
    assert one != other


def test_what_describes_a_source_column_does_not_change_a_rule() -> None:
    column = about("Town or city.", personal(pa.string())).with_name("city")
    assert changed_rules(with_source_column("address", column)) == set()
