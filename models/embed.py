"""Writes one vector a user, as of the instant at which the sequences end.

    python -m models.embed JOB.json

JOB.json holds a contracts.recipes.jobs.EmbedJob, for example
    {"model_version": "ptum_bert4rec_v1",
     "event_timestamp": "2026-02-22T23:00:00+00:00", "created": "2026-02-23T00:00:00+00:00",
     "io": {"sequences": ".footpath/lake/shop/sequences/2026-02-22.json",
            "checkpoint": ".footpath/lake/shop/models/ptum_bert4rec_v1",
            "out": ".footpath/lake/shop/user_embeddings/ptum_bert4rec_v1/2026-02-22.parquet"}}

Comes in: a checkpoint, and sequences that were encoded with its vocabulary. Goes out: a Parquet
object of schema `embeddings_schema`, sorted by user, visible only when it is whole.
"""

import datetime as dt
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from contracts.base.clock import now
from contracts.base.errors import FootpathError
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_file
from contracts.lake.schemas import embeddings_schema
from contracts.recipes.jobs import EmbedJob
from models.checkpoint import Checkpoint, load_checkpoint
from models.data.sequences import Sequences, open_sequences, same_vocabulary
from models.nn.behavior import attach_text
from models.nn.vectors import vector_blocks
from models.runtime.device import prepare
from models.runtime.report import Reporter, run_program


def embed(job: EmbedJob, reporter: Reporter) -> dict[str, Any]:
    """Embeds every user who has an event, and returns how many."""
    device = prepare(job.runtime.device, job.runtime.threads)
    clocks = _clocks(job)
    sequences = open_sequences(job.io.sequences)
    checkpoint = load_checkpoint(job.io.checkpoint)
    _check(job, sequences, checkpoint, clocks["event_timestamp"])
    sequences = sequences.with_clock("age" in checkpoint.model.config.fields)
    attach_text(checkpoint.model, sequences)
    checkpoint.model.to(device)
    users = np.flatnonzero(sequences.lengths)
    ids = pa.array(sequences.user_ids(), pa.string()).take(pa.array(users))
    schema, begun, done = embeddings_schema(checkpoint.model.config.dim), time.monotonic(), 0
    with Lake(job.io.out.parent).staging() as folder:
        staged = folder / job.io.out.name
        with pq.ParquetWriter(staged, schema, compression="zstd") as writer:
            now_U = np.full(len(users), int(clocks["event_timestamp"].timestamp()))
            found = vector_blocks(checkpoint.model, sequences, users, now_U=now_U)
            for block, vectors in found:
                part = ids.slice(block.start, block.stop - block.start)
                writer.write_table(_rows(part, vectors, clocks, job.model_version, schema))
                done = block.stop
                reporter.progress(done, len(users))
        publish_file(staged, job.io.out)
    seconds = time.monotonic() - begun
    return {
        "embeddings": str(job.io.out),
        "rows": done,
        "events": len(sequences.item),
        "seconds": round(seconds, 3),
        "events_per_second": round(len(sequences.item) / max(seconds, 1e-9), 1),
    }


def _rows(
    ids: pa.Array, vectors: Tensor, clocks: dict[str, dt.datetime], version: str, schema: pa.Schema
) -> pa.Table:
    dim = vectors.shape[1]
    columns = {
        "user_id": ids,
        **{
            name: pa.repeat(pa.scalar(at, schema.field(name).type), len(ids))
            for name, at in clocks.items()
        },
        "embedding": pa.FixedSizeListArray.from_arrays(vectors.numpy().reshape(-1), dim),
        "model_version": pa.repeat(version, len(ids)),
    }
    return pa.table(columns, schema=schema)


def _clocks(job: EmbedJob) -> dict[str, dt.datetime]:
    clocks = {
        "event_timestamp": _instant("event_timestamp", job.event_timestamp),
        "created": _instant("created", job.created),
    }
    if clocks["created"] < clocks["event_timestamp"]:
        raise FootpathError(
            f"created ({job.created}) is before event_timestamp ({job.event_timestamp}): "
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


def _check(job: EmbedJob, sequences: Sequences, checkpoint: Checkpoint, as_of: dt.datetime) -> None:
    same_vocabulary(sequences, checkpoint.facts.vocabulary_hash, job.io.checkpoint)
    newest = dt.datetime.fromtimestamp(int(sequences.time.max()), dt.UTC)
    if newest >= as_of:
        raise FootpathError(
            f"{job.io.sequences} holds an event of {newest.isoformat()}, which is not before "
            f"event_timestamp {job.event_timestamp}: build the sequences as of that day"
        )


if __name__ == "__main__":
    run_program(EmbedJob, embed)
