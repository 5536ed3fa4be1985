"""Which captures tell what rows a star table has, so that a row they lack was deleted: docs/adr/0014."""

import json
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.ingestion.manifest import Capture
from etl_assets.ingestion.present_keys import has_keys
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.schema.table import Table
from etl_assets.transformation.star_table import StarTable


def can_lose_rows(star: StarTable, source: Table) -> bool:
    """Whether a row that is not in a complete capture is gone. A calendar day, for one, is not at the source."""
    return star.keeps_every_version or not isinstance(source, StarTable)


def captured_key(star: StarTable, source: Table) -> tuple[str, ...] | None:
    """Return the columns of a star table's first input that its primary key is taken from as it is, or None."""
    key = star.source_key(source.columns.names)
    types = [source.columns.field(name).type for name in key or ()]
    return key if types == [star.columns.field(name).type for name in star.primary_key] else None


def has_list(star: StarTable, source: Table, capture: Capture) -> bool:
    """Whether a capture has the keys of all rows of a star table, by the list of its first input."""
    return {*(captured_key(star, source) or ())} == {*source.primary_key} and has_keys(capture, source)


def kept_keys(
    star: StarTable, source: Table, rejected: pa.Table, captured_at: datetime
) -> frozenset[tuple[str, ...]] | None:
    """Return the keys, as text, of the rows that a capture rejected: it has them.

    None if a rejected row identifies no row of the star table: then the capture does not tell what was deleted.
    """
    of_capture = pc.and_(
        pc.equal(rejected.column(CAPTURED_AT), captured_at),
        pc.is_in(rejected.column("table"), pa.array([star.name, source.name])),
    )
    columns = [star.primary_key, captured_key(star, source) or star.primary_key]
    found = set()
    for text in pc.unique(rejected.filter(of_capture).column("key")).to_pylist():
        key = json.loads(text)
        names = next((names for names in columns if {*names} <= {*key}), None)
        if names is None:
            return None
        found.add(tuple(str(key[name]) for name in names))
    return frozenset(found)
