"""A sample of every landing file, mapped as `land` maps it, in the table `sampled` of a connection.

In:  a data set and the folder of its files. Out: rows of all files, or of as many as there is time
for, spread over them; and a sentence for each file that landing would refuse. Nothing is written.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from features.ingestion.landing import too_few_usable
from features.ingestion.listing import Arrival, find_arrivals
from features.ingestion.mapping import check_mapping
from features.ingestion.partition import Partitioner
from features.ingestion.reader import RowReader
from features.ingestion.streams import Archives

# Bytes that are read of all files together, and of each at most and at least.
ALL_BYTES, MOST_BYTES, LEAST_BYTES = 16 << 20, 4 << 20, 16 << 10

# After so long, no further file is begun.
SECONDS = 20.0

# Files that are read together.
FILES = 100


@dataclass
class Sample:
    """What was looked at."""

    files: list[str]  # paths of all landing files
    looked_at: int = 0  # how many of them
    faults: list[str] = field(default_factory=list)  # a sentence for each that would be refused


def sample_files(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, folder: str, seconds: float = SECONDS
) -> Sample:
    """Makes `sampled`, the columns of `landed` (partition.py) for some rows of every file.

    Args:
      connection: DuckDB.
      dataset: says what the files are.
      folder: where they lie, or a URL.
      seconds: when they have passed, files are left out.

    Raises:
      FootpathError: there is no landing file, or an expression is wrong.
    """
    arrivals = find_arrivals(dataset, None, folder)
    if not arrivals:
        raise FootpathError(f"there is no {dataset.landing.url} under {folder}")
    check_mapping(connection, dataset)
    sample = Sample([arrival.file.path for arrival in arrivals])
    size = min(MOST_BYTES, max(LEAST_BYTES, ALL_BYTES // len(arrivals)))
    ends = time.monotonic() + seconds
    with Archives() as archives:
        for number, batch in enumerate(_spread(arrivals)):
            files = [arrival.file for arrival in batch]
            reader = RowReader(connection, dataset.landing, files, size, archives)
            partitioner = Partitioner(connection, dataset, batch)
            for _ in reader.chunks():
                partitioner.add_rows()
                if time.monotonic() > ends:
                    break
            _note_faults(sample, dataset, batch, reader, partitioner)
            how = "INSERT INTO sampled" if number else "CREATE OR REPLACE TEMP TABLE sampled AS"
            connection.execute(f"{how} SELECT * FROM landed")
            if time.monotonic() > ends:
                break
    return sample


def _note_faults(
    sample: Sample,
    dataset: Dataset,
    batch: list[Arrival],
    reader: RowReader,
    partitioner: Partitioner,
) -> None:
    counts = partitioner.counts()
    for number, arrival in enumerate(batch):
        if number in reader.faults:
            sample.faults.append(reader.faults[number])
        elif fault := too_few_usable(dataset, reader.facts[number].rows, counts[number]):
            example = partitioner.example(number)
            sample.faults.append(f"{arrival.file.path}: {fault}, of a sample ({example})")
    sample.looked_at += len(reader.digests.keys() | reader.faults.keys())


def _spread(arrivals: list[Arrival]) -> Iterator[list[Arrival]]:
    """The files by the batch: the first and the last, then in any order; archives as they lie."""
    alone = [arrival for arrival in arrivals if not arrival.file.archive]
    middle = alone[1:-1]
    random.Random(0).shuffle(middle)
    members = [arrival for arrival in arrivals if arrival.file.archive]
    members.sort(key=lambda arrival: arrival.file.place)  # so that each is gone through once
    in_turn = [*alone[:1], *alone[1:][-1:], *middle, *members]
    for start in range(0, len(in_turn), FILES):
        yield in_turn[start : start + FILES]
