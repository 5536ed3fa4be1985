"""The trace of a row: where each of its versions came from, line by line, and what the source has now."""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from textwrap import wrap
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl_assets.adapters.postgres import (
    Connection,
    DatabaseUnavailableError,
    column_list,
    quote_identifier,
    transaction,
)
from etl_assets.catalog.stages import INGESTION, TRANSFORMATION
from etl_assets.ingestion.csv_lines import find_line
from etl_assets.ingestion.manifest import Capture, latest, list_after, read_captures
from etl_assets.schema.columns import CAPTURED_AT, DELETED, MASK, is_personal
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.table import Catalog, Table
from etl_assets.schema.types import sql_type
from etl_assets.schema.validation import ValidatedRows
from etl_assets.transformation.parquet_files import REBUILDS_FOLDER, NotMaterializedError, NotTransformedError, StarRows
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ledger import latest_loaded, rules_of_tables
from etl_assets.warehouse.rebuild import Stores
from etl_assets.warehouse.relations import LOADS, PENDING, REJECTED, relation
from etl_assets.warehouse.source_row import SourceRow, joined_key

_WIDTH = 118
_LABEL_WIDTH = 20
_NO_BREAK = "\N{NO-BREAK SPACE}"


class KeyMismatchError(PermanentError):
    """The values given are not a key of the table."""

    def __init__(self, star: StarTable, problem: str) -> None:
        columns = ", ".join(f"{name} ({star.columns.field(name).type})" for name in star.primary_key)
        super().__init__(f"the key of {star.name} is {columns}: {problem}")


class RowUnknownError(PermanentError):
    """Neither the warehouse nor the source has the row, and no version of it is known."""

    def __init__(self, star: StarTable, key: str, present: str) -> None:
        super().__init__(f"{star.name} has no row {key}, nor has totesys: {present}")


@dataclass(frozen=True)
class Place:
    """Where a row of a table is in a bucket: in which line of a CSV object, or which row of a Parquet object.

    problem: why that is not known, if so.
    """

    table: str
    object: str = ""
    position: str = ""
    problem: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.object, self.position, self.problem)))


@dataclass(frozen=True)
class Version:
    """A version of the row: one that is loaded, or one that is not, for the reason in `not_loaded`.

    captured_at, valid_to: when it was captured, and when the next one that is loaded was; UTC, naive.
    capture: the id of its capture, and what is known of that, in words.
    places: of the captured rows that it is made of, and of what was made of them.
    values: by column, captured_at left out; None if they are not in the warehouse.
    """

    captured_at: datetime
    capture: tuple[str, str] = ("", "")
    places: Sequence[Place] = ()
    values: Mapping[str, Any] | None = None
    record_id: int | None = None
    valid_to: datetime | None = None
    is_deleted: bool = False
    not_loaded: str | None = None


@dataclass(frozen=True)
class Trace:
    """All that is known of a row, oldest version first.

    function: the function that makes it, and the version of the rule.
    buckets: the URLs of the buckets that places are in, by stage.
    latest: what the table of the latest versions has, in words, if it differs from them: somebody changed it.
    source: what the source has now, in words. Personal data is masked in both unless `show_personal`.
    """

    star: StarTable
    key: Mapping[str, Any]
    function: str
    buckets: Mapping[str, str]
    versions: Sequence[Version]
    latest: str | None
    source: Sequence[str]
    show_personal: bool


def trace(
    stores: Stores,
    connect_source: Callable[[], AbstractContextManager[Connection]],
    catalog: Catalog[StarTable],
    rules: Mapping[str, str],
    name: str,
    values: Sequence[str],
    *,
    show_personal: bool = False,
) -> Trace:
    """Return where each version of a row of a star table came from, given the values of its key as text.

    If the source is down, the rest is returned.

    Raises:
        UnknownTableError: there is no star table of this name.
        KeyMismatchError: the values are not a key of it.
        RowUnknownError: there is no such row.
        DatabaseUnavailableError: the warehouse is down.
    """
    star = catalog.star(name)
    tracer = _Tracer(stores, catalog, star, _parse_key(star, values), show_personal)
    with stores.connect() as connection, transaction(connection, snapshot=True):
        loaded = latest_loaded(connection)
        rule = rules_of_tables(connection).get(name) if loaded else None
        versions = list(tracer.versions(connection, rule)) if loaded else []
        here = next((version for version in reversed(versions) if not version.not_loaded), None)
        changed_by_others = tracer.latest(connection, here) if loaded else None
        present = _present_keys(connection, star) if loaded else "nothing is loaded yet"
    waiting = list(tracer.versions_to_load(loaded))
    source = tracer.source(connect_source, here, waiting)
    if not versions and not waiting and source == [_ABSENT]:
        raise RowUnknownError(star, " ".join(map(_shown, tracer.key.values())), present)
    return Trace(
        star,
        tracer.key,
        _function(star, rule, rules[name]),
        {INGESTION: stores.ingestion.url, TRANSFORMATION: stores.transformation.url},
        [*versions, *waiting],
        changed_by_others,
        source,
        show_personal,
    )


def _parse_key(star: StarTable, values: Sequence[str]) -> dict[str, Any]:
    if len(values) != len(star.primary_key):
        raise KeyMismatchError(star, f"give {len(star.primary_key)}, not {len(values)} values")
    key = {}
    for name, value in zip(star.primary_key, values, strict=True):
        type_ = star.columns.field(name).type
        try:
            key[name] = pa.array([value]).cast(type_)[0].as_py()
        except pa.ArrowInvalid:
            raise KeyMismatchError(star, f"{value!r} is no {type_}") from None
    return key


def _present_keys(connection: Connection, star: StarTable) -> str:
    first = star.primary_key[0]
    column = quote_identifier(first)
    [[lowest, highest]] = connection.run(f"SELECT min({column}), max({column}) FROM {relation(star.versions)}")
    if is_personal(star.columns.field(first)):
        return f"{first} is personal data"
    return "it is empty" if lowest is None else f"{first} is between {lowest} and {highest}"


def _function(star: StarTable, rule: str | None, deployed: str) -> str:
    function = inspect.unwrap(star.transform)
    place = f"{function.__module__}:{function.__code__.co_firstlineno} {function.__name__}"
    waits = f"; deployed is rule {deployed}, by which a rebuild will make it" if rule not in (None, deployed) else ""
    return f"{place}, rule {rule or deployed}{waits}"


def _shown(value: Any) -> str:
    """Return a value in one line, from which null and the empty text can be told."""
    if value is None:
        return "null"
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return text if text.isprintable() and text.strip() == text != "" else json.dumps(text, ensure_ascii=False)


_ABSENT = "has no such row"
_LOST = "its manifest is not in the ingestion bucket"


@dataclass(frozen=True)
class _Tracer:
    """The trace of one row."""

    stores: Stores
    catalog: Catalog[StarTable]
    star: StarTable
    key: Mapping[str, Any]
    show_personal: bool

    @property
    def inputs(self) -> list[Table]:
        return [self.catalog[name] for name in self.star.inputs(self.catalog.stars)]

    @property
    def source_key(self) -> dict[str, Any]:
        """The key of the row in the first input; empty if it is not made of one row of a source table."""
        first = self.inputs[0]
        columns = None if isinstance(first, StarTable) else self.star.source_key(first.columns.names)
        return dict(zip(columns or (), self.key.values(), strict=bool(columns)))

    def versions(self, connection: Connection, rule: str | None) -> Iterator[Version]:
        """Yield the versions that the warehouse has, those in quarantine included, oldest first."""
        found = [*self._loaded(connection), *self._pending(connection), *self._rejected(connection)]
        loads = self._loads(connection, {version.captured_at for version in found})
        for version in sorted(found, key=lambda version: version.captured_at):
            if version.captured_at not in loads:
                yield replace(version, capture=("not in warehouse.loads", ""))
                continue
            id_, loaded_at = loads[version.captured_at]
            capture = self._manifest(id_)
            text = f"{self._described(capture) if capture else _LOST}; loaded {loaded_at:%Y-%m-%d %H:%M:%S} UTC"
            places: list[Place] = []
            if capture and version.is_deleted:
                places = [self._absent(capture)]
            elif capture:
                places = [*self._lines(capture), *([self._made(capture, rule)] if version.values else [])]
            yield replace(version, capture=(id_, text), places=places)

    def versions_to_load(self, loaded: str | None) -> Iterator[Version]:
        """Yield the versions in captures that are not loaded."""
        if not self.source_key:
            return
        for capture in read_captures(self.stores.ingestion, list_after(self.stores.ingestion, loaded)):
            first, *others = self._lines(capture)
            if first.position:
                text = capture.id, self._described(capture)
                yield Version(capture.captured_at, text, [first, *others], not_loaded="captured, to be loaded")

    # What the warehouse has

    @property
    def _columns(self) -> list[str]:
        return [*self.star.columns.names, CAPTURED_AT, DELETED]

    @property
    def _bound(self) -> dict[str, Any]:
        return {f"key_{number}": value for number, value in enumerate(self.key.values())}

    def _is_row(self, alias: str) -> str:
        return " AND ".join(
            f"{alias}.{quote_identifier(name)} = CAST(:key_{number} AS {sql_type(self.star.columns.field(name).type)})"
            for number, name in enumerate(self.key)
        )

    def _version(self, cells: Sequence[Any], **known: Any) -> Version:
        values = dict(zip(self._columns, cells, strict=True))
        return Version(values.pop(CAPTURED_AT), is_deleted=values.pop(DELETED), values=values, **known)

    def _loaded(self, connection: Connection) -> Iterator[Version]:
        record_id = quote_identifier(self.star.record_id) if self.star.record_id else "NULL"
        for record, valid_to, *cells in connection.run(
            f"""SELECT {record_id}, lead({CAPTURED_AT}) OVER (ORDER BY {CAPTURED_AT}), {column_list(self._columns)}
                FROM {relation(self.star.versions)} version WHERE {self._is_row("version")}
                ORDER BY {CAPTURED_AT}""",
            **self._bound,
        ):
            yield self._version(cells, record_id=record, valid_to=valid_to)

    def latest(self, connection: Connection, here: Version | None) -> str | None:
        """Return how the table of the latest versions, if there is one, differs from the latest version of the row."""
        if self.star.keeps_every_version:
            return None
        columns = [*self.star.columns.names, DELETED]
        rows = connection.run(
            f"SELECT {column_list(columns)} FROM {relation(self.star)} latest WHERE {self._is_row('latest')}",
            **self._bound,
        )
        if not rows or not here or here.values is None:
            return None if bool(rows) is bool(here) else f"{self.star.name} {'has' if rows else 'lacks'} the row"
        before = {**here.values, DELETED: here.is_deleted}
        changes = changed_values(self.star, before, dict(zip(columns, rows[0], strict=True)), self.show_personal)
        text = _listed(changes)
        return f"{self.star.name} differs from the latest version: {text}" if text else None

    def _pending(self, connection: Connection) -> Iterator[Version]:
        for column, value, referenced, *cells in connection.run(
            f"""SELECT pending."column", pending.value, referenced, {column_list(self._columns, "version")}
                FROM {PENDING} pending,
                     jsonb_populate_record(NULL::{relation(self.star.versions)}, pending."row") version
                WHERE star_table = :star AND {self._is_row("version")}""",
            star=self.star.name,
            **self._bound,
        ):
            why = f"pending: {column} {self._value(self.star, column, value)} is not in {referenced}"
            yield self._version(cells, not_loaded=why)

    def _rejected(self, connection: Connection) -> Iterator[Version]:
        reasons: dict[datetime, list[str]] = {}
        for captured_at, table, column, value, reason in connection.run(
            f"""SELECT {CAPTURED_AT}, source_table, "column", value, reason FROM {REJECTED}
                WHERE star_table = :star AND source_table = ANY(:tables) AND key = ANY(CAST(:keys AS jsonb[]))
                ORDER BY {CAPTURED_AT}, "column" """,
            star=self.star.name,
            tables=[self.star.name, self.inputs[0].name],
            keys=[json.dumps(key, default=str) for key in (self.key, self.source_key)],
        ):
            shown = self._value(self.catalog[table], column, value)
            reasons.setdefault(captured_at, []).append(f"{column} {shown} {reason}")
        for captured_at, texts in reasons.items():
            yield Version(captured_at, not_loaded=f"rejected: {'; '.join(texts)}")

    def _loads(self, connection: Connection, times: Iterable[datetime]) -> dict[datetime, tuple[str, datetime]]:
        rows = connection.run(
            f"""SELECT {CAPTURED_AT}, capture, loaded_at FROM {LOADS}
                WHERE {CAPTURED_AT} = ANY(CAST(:times AS timestamp[]))""",
            times=sorted(times),
        )
        return {captured_at: (capture, loaded_at) for captured_at, capture, loaded_at in rows}

    # Where it came from

    def _manifest(self, id_: str) -> Capture | None:
        try:
            return next(read_captures(self.stores.ingestion, [id_]))
        except FileNotFoundError:
            return None

    def _described(self, capture: Capture) -> str:
        if capture.full_because:
            return f"every row, {capture.full_because}"
        reasons = [capture.full_tables[table.name] for table in self.inputs if table.name in capture.full_tables]
        if reasons:
            return f"every row of the table, {reasons[0]}"
        keys = [capture.key_reasons[table.name] for table in self.inputs[:1] if table.name in capture.key_reasons]
        return f"changed rows, and the keys of all rows, because {keys[0]}" if keys else "changed rows"

    def _absent(self, capture: Capture) -> Place:
        """Return the object that should have a row that a capture found gone."""
        name = self.inputs[0].name
        file = capture.key_files.get(name) or capture.files.get(name)
        if not file:
            return Place(name, problem="the capture found no rows of it")
        return Place(name, file.key, problem="without the row")

    def _lines(self, capture: Capture) -> Iterator[Place]:
        """Yield the line of each captured row that a version was made of."""
        found: dict[str, Mapping[str, Any]] = {}
        for table in self.inputs:
            if isinstance(table, StarTable):
                yield Place(table.name, problem="a star table: trace its rows")
                continue
            key = joined_key(self.catalog, table, found) if table is not self.inputs[0] else self.source_key
            file = capture.files.get(table.name)
            if not key or not file:
                yield Place(table.name, problem="no row of it is in the capture" if key else "no row is known")
                continue
            try:
                match = find_line(self.stores.ingestion, file.key, table, key)
            except FileNotFoundError:
                yield Place(table.name, file.key, problem="which is not in the bucket")
                continue
            if match:
                line, found[table.name] = match
                yield Place(table.name, file.key, f"line {line}")
            else:
                yield Place(table.name, file.key, problem="without the row")

    def _made(self, capture: Capture, rule: str | None) -> Place:
        """Return the row of the Parquet object that a version was loaded from.

        A rebuild makes other objects than those of partitions. Of several, it is the one by the rule of the warehouse.
        """
        name = self.star.name
        other = Place(name, problem="in no Parquet object")
        for folder, partition in ((name, capture.partition), (f"{REBUILDS_FOLDER}/{name}", None)):
            rows = StarRows(
                asset=f"{TRANSFORMATION}/{name}",
                folder=folder,
                table=self.star,
                open_bucket=lambda: self.stores.transformation,
            )
            try:
                with rows.open(partition, {capture.id}) as file:
                    row = self._row_number(file.rows, capture.captured_at)
                    place = Place(name, file.key, f"row {row}", "" if file.rule == rule else "by another rule")
            except (NotMaterializedError, NotTransformedError):
                continue
            if row and file.rule == rule:
                return place
            other = place if row else other
        return other

    def _row_number(self, file: pq.ParquetFile, captured_at: datetime) -> int:
        """Return which row of a file the row is in a capture; 0 if it has none."""
        wanted = {**self.key, CAPTURED_AT: captured_at}
        rows = file.read(columns=[*wanted], use_threads=False)
        is_row = pa.chunked_array([pa.repeat(pa.scalar(True), rows.num_rows)])
        for name, value in wanted.items():
            is_row = pc.and_(is_row, pc.equal(rows.column(name), pa.scalar(value, rows.schema.field(name).type)))
        return int(pc.index(is_row, pa.scalar(True)).as_py()) + 1

    # What the source has

    def source(
        self,
        connect: Callable[[], AbstractContextManager[Connection]],
        here: Version | None,
        waiting: Sequence[Version],
    ) -> list[str]:
        """Return what the source has now, compared with the latest version here, in words."""
        if not self.source_key:
            return [f"has no single row of it: it is made from {', '.join(table.name for table in self.inputs)}"]
        try:
            with connect() as connection, transaction(connection, snapshot=True):
                row = SourceRow(connection, self.catalog, self.star, self.source_key)
                since = latest(self.stores.ingestion)
                is_written = row.exists and since is not None and row.is_written_since(since)
                now = row.transformed() if row.exists else None
        except (DatabaseUnavailableError, PermanentError) as error:
            return [f"cannot be read: {' '.join(str(error).split())}"]
        if now is None:
            return [self._absence(here)]
        captured = f"not written since the latest capture, {since.id}" if since else "nothing is captured yet"
        if since and is_written:
            captured = f"written since the latest capture, {since.id}: the next one has it"
        elif waiting:
            captured = f"captured by {waiting[-1].capture[0]}, to be loaded"
        return [self._comparison(now, here), captured]

    def _absence(self, here: Version | None) -> str:
        if here is None:
            return _ABSENT
        return "gone, and deleted here" if here.is_deleted else "gone, which no loaded capture has found yet"

    def _comparison(self, now: ValidatedRows, here: Version | None) -> str:
        if not now.rows.num_rows:
            [rejection, *_] = now.rejected.to_pylist() or [None]
            if not rejection:
                return "makes no row of the star table"
            value = self._value(self.catalog[rejection["table"]], rejection["column"], rejection["value"])
            return f"does not fit: {rejection['column']} {value} {rejection['reason']}"
        if here is None or here.is_deleted or here.values is None:
            return "has the row, which is deleted here" if here else "has the row, of which no version is loaded"
        [values] = now.rows.select(self.star.columns.names).to_pylist()
        changes = _listed(changed_values(self.star, here.values, values, self.show_personal))
        return f"differs from the latest version here: {changes}" if changes else "as in the latest version here"

    def _value(self, table: Table, column: str, value: Any) -> str:
        return value_text(table, column, value, show_personal=self.show_personal)


def value_text(table: Table, column: str, value: Any, *, show_personal: bool) -> str:
    """Return a value of a column as text in one line, masked if it is personal."""
    is_masked = column in table.columns.names and is_personal(table.columns.field(column)) and not show_personal
    return MASK if is_masked and value is not None else _shown(value)


def changed_values(
    star: StarTable, before: Mapping[str, Any], after: Mapping[str, Any], show_personal: bool
) -> Iterator[str]:
    """Yield the columns of a star table that differ between two versions, each with both values."""
    for name, value in after.items():
        if value != before[name]:
            both = (value_text(star, name, each, show_personal=show_personal) for each in (before[name], value))
            yield f"{name} {' → '.join(both)}"


def as_text(found: Trace) -> str:
    """Return a trace as aligned text."""
    star = found.star
    lines = [f"{star.name} {' '.join(map(_shown, found.key.values()))}", *_labelled("made by", found.function)]
    for stage, url in found.buckets.items():
        lines += _labelled(stage, url)
    before: Mapping[str, Any] | None = None
    for number, version in enumerate(found.versions, 1):
        lines += ["", f"{number}. {_heading(star, version)}", *_labelled("capture", *version.capture)]
        for place in version.places:
            lines += _labelled(place.table, str(place))
        if version.values and not version.is_deleted:
            lines += _values(found, before, version.values)
        before = version.values or before
    if found.latest:
        lines += ["", "in the warehouse, now", *_labelled("changed by others", found.latest)]
    return "\n".join([*lines, "", "at the source, now", *_labelled("totesys", *found.source)])


def _values(found: Trace, before: Mapping[str, Any] | None, values: Mapping[str, Any]) -> list[str]:
    star, show_personal = found.star, found.show_personal
    if before is None:
        texts = (f"{name} {value_text(star, name, each, show_personal=show_personal)}" for name, each in values.items())
        return _labelled("values", _listed(texts))
    changed = _listed(changed_values(star, before, values, show_personal))
    return _labelled("changed", changed or "nothing")


def _heading(star: StarTable, version: Version) -> str:
    begins = f"{version.captured_at} UTC"
    if version.not_loaded:
        return f"{begins}, {version.not_loaded}"
    until = f"until {version.valid_to} UTC" if version.valid_to else "until now"
    record = f", {star.record_id} {version.record_id}" if version.record_id else ""
    deleted = ": deleted, the capture found the row gone" if version.is_deleted else ""
    return f"{begins} {until}{record}{deleted}"


def _labelled(label: str, *texts: str) -> list[str]:
    """Return texts as lines with a label before the first."""
    width = _WIDTH - _LABEL_WIDTH - 3
    lines = [line for text in texts for line in wrap(text, width, break_long_words=False, break_on_hyphens=False)]
    labels = [label, *[""] * len(lines)]
    return [
        f"   {each:<{_LABEL_WIDTH}}{line}".replace(_NO_BREAK, " ") for each, line in zip(labels, lines, strict=False)
    ]


def _listed(values: Iterable[str]) -> str:
    """Return values, separated by commas. Short ones are not broken at the end of a line."""
    return ", ".join(value.replace(" ", _NO_BREAK) if len(value) < _WIDTH // 2 else value for value in values)
