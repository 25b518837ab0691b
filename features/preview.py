"""What a sample of a data set's first landing file would become, before anything runs.

In: a data set and the folder of its files. Out: events and refused rows, in memory. Nothing is
written. It goes the way of `land`: the same reader, the same expressions, the same refusals.
"""

from dataclasses import dataclass

import pyarrow as pa

from contracts.dataset import Dataset
from contracts.engine import connect
from contracts.errors import FootpathError
from features.arrivals import find_arrivals
from features.cutting import Cutter
from features.mapping import FIELDS, check_mapping
from features.rows import RowReader
from features.sql import name

SAMPLE_BYTES = 4 << 20


@dataclass(frozen=True)
class Preview:
    """The sample, and what it would become."""

    file: str
    files: int  # how many landing files there are
    rows: int  # in the sample
    refused_rows: int
    events: pa.Table  # the first ones: source_line, day and the fields of an event
    refused: pa.Table  # the first ones: source_line, broken, detail, raw


def preview(dataset: Dataset, source: str, rows: int = 10) -> Preview:
    """Reads a sample of the first landing file below a folder or URL.

    Raises:
      FootpathError: there is no landing file, the file is broken, or an expression is wrong.
    """
    arrivals = find_arrivals(dataset, None, source)
    if not arrivals:
        raise FootpathError(f"there is no {dataset.landing.url} under {source}")
    first = arrivals[:1]
    with connect() as connection:
        check_mapping(connection, dataset)
        reader = RowReader(connection, dataset.landing, [first[0].file], SAMPLE_BYTES)
        cutter = Cutter(connection, dataset, first)
        for _ in reader.chunks():
            cutter.add_rows()
        if reader.faults:
            raise FootpathError(reader.faults[0])
        fields = ", ".join(name(field) for field in FIELDS)
        total, bad = connection.sql("SELECT count(*), count(broken) FROM landed").fetchall()[0]
        events = connection.sql(
            f"SELECT source_line, day, {fields} FROM landed WHERE broken IS NULL "
            f"ORDER BY source_line, place LIMIT {int(rows)}"
        ).to_arrow_table()
        refused = connection.sql(
            "SELECT source_line, broken, detail, raw FROM landed WHERE broken IS NOT NULL "
            f"ORDER BY source_line, place LIMIT {int(rows)}"
        ).to_arrow_table()
    return Preview(first[0].file.path, len(arrivals), total, bad, events, refused)
