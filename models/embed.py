"""Writes one vector a user and day, as of the day's end, and what it predicts.

    python -m models.embed JOB.json

JOB.json holds a contracts.recipes.jobs.EmbedJob, for example
    {"models": [{"model_version": "ptum_bert4rec_v1",
                 "checkpoint": ".footpath/lake/shop/trials/0123456789abcdef",
                 "days": [{"event_timestamp": "2026-02-22T23:00:00+00:00",
                           "created": "2026-02-23T00:00:00+00:00",
                           "sequences": ".footpath/lake/shop/sequences/2026-02-22.json",
                           "out": "/tmp/2026-02-22.parquet"}]}]}

Comes in: checkpoints, and sequences that were encoded with their vocabularies. Goes out: a Parquet
file a model and day, of schema `embeddings_schema`, sorted by user, visible only when it is whole.
A day is embedded in shards of users; where its job gives a folder for them, a process that comes
after one that was killed goes on at the shard at which it was.
A task model, as models.finetune saves it, is a checkpoint too: its vectors come with its scores.
The scores of a profile follow from the users' behavior features as well, `features` of the day;
without these they are null. In the lake the file is added to what is published of its day
(features/store/embeddings.py).
"""

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from contracts.lake.schemas import embeddings_schema
from contracts.recipes.jobs import EmbedDay, EmbedJob
from models.checkpoint import Checkpoint
from models.data.batching import blocks
from models.data.sequences import Sequences, open_sequences, same_vocabulary
from models.encoder import Encoder
from models.probing.heads import HeadFeatures, load_head_features
from models.runtime.device import prepare
from models.runtime.report import Reporter, run_program

SHARD_EVENTS = 1 << 22  # of the users of a shard: what a kill costs at most, some CPU minutes


def embed(job: EmbedJob, reporter: Reporter) -> dict[str, Any]:
    """Embeds every user who has an event by the end of each day, and returns how many."""
    device = prepare(job.runtime.device, job.runtime.threads)
    days = [day for model in job.models for day in model.days]
    clocks = {id(day): _clocks(day) for day in days}
    begun, rows, events, done = time.monotonic(), 0, 0, 0
    for asked in job.models:
        encoder = Encoder.load(asked.checkpoint, device)
        for day in asked.days:
            clock = clocks[id(day)]
            sequences = open_sequences(day.sequences)
            _check(day, sequences, encoder.checkpoint, clock["event_timestamp"])
            known = load_head_features(day.features, sequences) if day.features else None
            rows += _embed_day(asked.model_version, day, clock, sequences, encoder, known)
            events += len(sequences.item)
            done += 1
            reporter.progress(done, len(days))
    seconds = time.monotonic() - begun
    return {
        "rows": rows,
        "events": events,
        "seconds": round(seconds, 3),
        "events_per_second": round(events / max(seconds, 1e-9), 1),
    }


def _embed_day(
    version: str,
    day: EmbedDay,
    clocks: dict[str, dt.datetime],
    sequences: Sequences,
    encoder: Encoder,
    features: HeadFeatures | None,
) -> int:
    """Writes the vectors of one day, visible only once they are whole; returns their number."""
    users = np.flatnonzero(sequences.lengths)
    ids = pa.array(sequences.user_ids(), pa.string()).take(pa.array(users))
    task = encoder.task
    schema = embeddings_schema(encoder.checkpoint.model.config.dim, task.scores if task else 0)
    same = clocks | {"model_version": version}
    now = int(clocks["event_timestamp"].timestamp())
    with Lake(day.out.parent).staging() as folder:
        shards = day.shards or folder / "shards"
        shards.mkdir(parents=True, exist_ok=True)
        paths = []
        for part in blocks(sequences.lengths[users], SHARD_EVENTS):
            path = shards / f"{part.start}-{part.stop}.parquet"
            if not path.exists():
                with pq.ParquetWriter(folder / path.name, schema, compression="zstd") as writer:
                    for rows in _encoded(encoder, sequences, users[part], ids[part], now, features):
                        writer.write_table(_rows(rows, same, schema))
                publish_file(folder / path.name, path)
            paths.append(path)
        _join(paths, folder / day.out.name, schema, day.notes)
        publish_file(folder / day.out.name, day.out)
    return len(users)


def _encoded(
    encoder: Encoder,
    sequences: Sequences,
    users: np.ndarray,
    ids: pa.Array,
    now: int,
    features: HeadFeatures | None,
) -> Iterator[dict[str, pa.Array]]:
    """Yields the columns that differ from user to user, block by block."""
    for block, encoded in encoder.encode(sequences, users, now, features):
        columns = {"user_id": ids[block], "embedding": _vectors(encoded.vectors_nD)}
        if encoded.predicted_nC is not None:
            columns |= _scores(encoded.predicted_nC)
        yield columns


def _join(paths: list[Path], out: Path, schema: pa.Schema, notes: dict[str, str]) -> None:
    """Writes the rows of all shards into one file, with notes in its footer."""
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for path in paths:
            with pq.ParquetFile(path) as shard:
                for batch in shard.iter_batches():
                    writer.write_batch(batch)
        writer.add_key_value_metadata(notes)


def _scores(predicted_nC: np.ndarray) -> dict[str, pa.Array]:
    """Columns of what a task's model predicts; null where that is no number."""
    if predicted_nC.shape[1] > 1:
        is_known_n = np.isfinite(predicted_nC).all(axis=1)
        return {"scores": _vectors(predicted_nC, pa.array(~is_known_n))}
    score_n = predicted_nC[:, 0]  # a number, or the probability of the second class
    return {"score": pa.array(score_n, pa.float64(), mask=~np.isfinite(score_n))}


def _vectors(x_nD: np.ndarray, mask: pa.Array | None = None) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(x_nD.reshape(-1), x_nD.shape[1], mask=mask)


def _rows(columns: dict[str, pa.Array], same: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """Table of columns, and of what all rows have in common."""
    count = len(columns["user_id"])
    common = {
        name: pa.repeat(pa.scalar(value, schema.field(name).type), count)
        for name, value in same.items()
    }
    return pa.table(columns | common, schema=schema)


def _clocks(day: EmbedDay) -> dict[str, dt.datetime]:
    clocks = {
        "event_timestamp": _instant("event_timestamp", day.event_timestamp),
        "created": _instant("created", day.created),
    }
    if clocks["created"] < clocks["event_timestamp"]:
        raise FootpathError(
            f"created ({day.created}) is before event_timestamp ({day.event_timestamp}): "
            f"a vector cannot be known before its input ends"
        )
    return clocks | {"written_at": now()}


def _instant(name: str, text: str) -> dt.datetime:
    try:
        instant = dt.datetime.fromisoformat(text)
    except ValueError:
        raise FootpathError(f"{name}: '{text}' is not an ISO 8601 instant") from None
    if instant.tzinfo is None:
        raise FootpathError(f"{name}: '{text}' has no time zone: write it in UTC, ending in +00:00")
    return instant


def _check(day: EmbedDay, sequences: Sequences, checkpoint: Checkpoint, as_of: dt.datetime) -> None:
    same_vocabulary(sequences, checkpoint.facts.vocabulary_hash, checkpoint.folder)
    newest = dt.datetime.fromtimestamp(int(sequences.time.max()), dt.UTC)
    if newest >= as_of:
        raise FootpathError(
            f"{day.sequences} holds an event of {newest.isoformat()}, which is not before "
            f"event_timestamp {day.event_timestamp}: build the sequences as of that day"
        )


if __name__ == "__main__":
    run_program(EmbedJob, embed)
