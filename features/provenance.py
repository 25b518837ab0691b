"""What a published day was built from, written into the day's own object.

In:  the fragments of a day of events, or the published days that a derived day is computed from.
Out: inputs (table -> name -> fingerprint), which `write_days` puts into the Parquet footer. As they
lie in the object itself, they become visible in the same step as its rows: whatever is killed, no
object ever tells of other inputs than its own.

A day's fingerprint is the hash of its inputs, so that of a session day changes when a fragment two
days before it does. Fingerprints follow the data alone: a changed YAML changes them where it makes
landing read files anew, and nowhere else.
"""

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from contracts.base.hashing import hash_json
from contracts.lake.layout import Lake
from contracts.lake.reading import read_metadata
from contracts.lake.schemas import BUILT_FROM
from features.ingestion.digests import Digest
from features.ingestion.manifest import Fragment

# table -> name of an input (a day; of fragments and lines, the landing file's id) -> its
# fingerprint
Inputs = dict[str, dict[str, str]]

# day -> table -> days of that table that the day is computed from
Needs = Mapping[dt.date, Mapping[str, list[dt.date]]]

# What an object of another release says of itself.
UNKNOWN: Inputs = {"unknown": {}}


# Beside the rows of fragments: where in their files they stand.
LINES = "lines"


def fragment_inputs(fragments: Iterable[Fragment]) -> Inputs:
    """Returns the inputs of a day of events."""
    return digest_inputs({part.identity: part.digest for part in fragments})


def digest_inputs(digests: Mapping[str, Digest]) -> Inputs:
    """Returns the inputs of a day of events from its fragments: landing file's id -> digest."""
    found = sorted(digests.items())
    return {
        "fragments": {identity: digest.content for identity, digest in found},
        LINES: {identity: digest.lines for identity, digest in found},
    }


def rows_only(inputs: Inputs) -> Inputs:
    """Returns inputs but for what does not change a row: published events know no line."""
    return {table: of_table for table, of_table in inputs.items() if table != LINES}


def published_inputs(lake: Lake, needs: Needs) -> dict[dt.date, Inputs]:
    """Returns the inputs of derived days as they are published now.

    Call it before the rows are read: should an input change in between, its old fingerprint is on
    record, and the day is due again.
    """
    tables = {table for of_day in needs.values() for table in of_day}
    known: dict[str, dict[dt.date, str]] = {}
    for table in tables:
        wanted = {day for of_day in needs.values() for day in of_day.get(table, [])}
        published = sorted(wanted & set(lake.days(table)))
        known[table] = {day: fingerprint(read_inputs(lake.day(table, day))) for day in published}
    return inputs_from(needs, known)


def inputs_from(
    needs: Needs, fingerprints: Mapping[str, Mapping[dt.date, str]]
) -> dict[dt.date, Inputs]:
    """Returns the inputs of derived days, given the fingerprints of what is published."""
    return {
        day: {
            table: {
                str(needed): fingerprints[table][needed]
                for needed in days
                if needed in fingerprints[table]
            }
            for table, days in of_day.items()
        }
        for day, of_day in needs.items()
    }


def fingerprint(inputs: Inputs) -> str:
    """Returns a short hash of inputs, as far as rows follow from them."""
    return hash_json(rows_only(inputs))


def footer(inputs: Inputs) -> dict[bytes, bytes]:
    """Returns inputs as they stand in a Parquet footer."""
    return {BUILT_FROM: json.dumps(inputs, separators=(",", ":")).encode()}


def read_inputs(path: Path) -> Inputs:
    """Returns what a published object says that it was built from."""
    return parse_inputs((read_metadata(path).metadata or {}).get(BUILT_FROM))


def parse_inputs(text: bytes | None) -> Inputs:
    """Returns inputs as they stand in a footer."""
    return json.loads(text) if text else UNKNOWN
