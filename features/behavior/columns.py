"""Columns of a table of features while its list of features changes, for no row is taken away.

In:  the declared features, and the published days. Out: the columns of the days that are about to
be built, and published days that have a column for each feature of every registered view.

A day's object holds what is declared now and what its rows of before had, so that a removed
feature stays in them and is null in the rows that are built after. It also holds what the first
published object does: `widen` gives every object the columns of a new view, from then on a new
object has them too, and Feast's own file source, which takes the columns of the first object and
wants them in all others, can read every view there ever was. Our own readers (`read_by_name`
of features/daily.py) take columns by name, and null where an object lacks one.
"""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from contracts.lake.reading import open_parquet, read_schema, side_by_side, stamps
from contracts.lake.schemas import BUILT_FROM

TABLE = "user_behavior_features"


def day_schema(
    lake: Lake, declared: pa.Schema, days: list[dt.date], table: str = TABLE
) -> pa.Schema:
    """The columns of days that are about to be built: the declared ones, then others by name.

    A count may be null if rows of these days were built before it was declared.

    Args:
      lake: with the published days.
      declared: columns of the present list.
      days: the days; all get the same columns.
      table: of features.

    Raises:
      FootpathError: a column is published with another type.
    """
    published, wanted = lake.days(table), set(days)
    own = [day for day in published if day in wanted]
    found = {day: read_schema(lake.day(table, day)) for day in {*published[:1], *own}}
    check_types(declared, {lake.day(table, day): found[day] for day in sorted(found)})
    others = {field.name: field for schema in found.values() for field in schema}
    columns = [
        field.with_nullable(field.nullable or any(_may_be_null(found[d], field) for d in own))
        for field in declared
    ]
    columns += [
        others[name].with_nullable(True) for name in sorted(others.keys() - {*declared.names})
    ]
    return pa.schema(columns)


def check_declared(lake: Lake, declared: pa.Schema, table: str = TABLE) -> None:
    """Checks the declared features against the first and the last published day.

    Raises:
      FootpathError: a column is published with another type.
    """
    days = lake.days(table)
    ends = [lake.day(table, day) for day in {*days[:1], *days[-1:]}]
    check_types(declared, {path: read_schema(path) for path in sorted(ends)})


def check_types(declared: pa.Schema, published: dict[Path, pa.Schema]) -> None:
    """Checks that columns keep the type that published objects have.

    Raises:
      FootpathError: one would change it.
    """
    for path, schema in published.items():
        for field in declared:
            place = schema.get_field_index(field.name)
            if place >= 0 and schema.field(place).type != field.type:
                raise FootpathError(
                    f"behavior feature '{field.name}' would be {field.type}, and {path} holds it "
                    f"as {schema.field(place).type}: published rows stay as they are, so give the "
                    "feature another name"
                )


def widen(lake: Lake, columns: Iterable[pa.Field], table: str = TABLE) -> int:
    """Adds columns of nulls to the published days that lack some of these, and counts these days.

    Rows, their order and the footer stay as they are. A day that is published anew meanwhile is
    left alone: whoever built it has given it its columns.

    Raises:
      FootpathError: a day has such a column with another type.
    """
    wanted = pa.schema([field.with_nullable(True) for field in columns])
    known = stamps(lake.table(table))
    paths = [lake.table(table) / name for name in sorted(known)]
    found = dict(zip(paths, side_by_side(read_schema, paths), strict=True))
    check_types(wanted, found)
    narrow = [path for path in paths if {*wanted.names} - {*found[path].names}]
    with lake.staging() as folder:
        for path in narrow:
            _write_wider(path, wanted, folder / path.name)
            if stamps(path.parent, path.name).get(path.name) == known[path.name]:
                publish_file(folder / path.name, path)
    return len(narrow)


def _may_be_null(schema: pa.Schema, field: pa.Field) -> bool:
    place = schema.get_field_index(field.name)
    return place < 0 or schema.field(place).nullable


def _write_wider(source: Path, wanted: pa.Schema, target: Path) -> None:
    with pq.ParquetFile(open_parquet(source)) as file:
        missing = [field for field in wanted if field.name not in file.schema_arrow.names]
        schema = pa.schema([*file.schema_arrow, *missing])
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number)
                for field in missing:
                    rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
                writer.write_table(rows)
            built_from = (file.metadata.metadata or {}).get(BUILT_FROM)
            if built_from is not None:
                writer.add_key_value_metadata({BUILT_FROM: built_from})
