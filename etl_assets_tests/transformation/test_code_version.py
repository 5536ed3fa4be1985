"""The version of a star table's rule changes with what decides its rows, and with nothing else."""

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from etl_assets.schema.columns import about, optional
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.code_version import code_version
from etl_assets.transformation.star_table import ColumnOf, StarTable
from etl_assets_tests.pipeline import STAR

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
