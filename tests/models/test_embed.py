import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from contracts.base.errors import FootpathError
from contracts.lake.schemas import embeddings_schema
from contracts.recipes.jobs import EmbedJob
from models.checkpoint import load_checkpoint
from models.data.packed import pack
from models.data.sequences import open_sequences
from models.embed import embed
from models.nn.vectors import user_vectors
from models.runtime.report import Reporter
from models.train import train
from tests.models.builders import embed_job, train_job

AS_OF, CREATED = "2026-02-01T00:00:00+00:00", "2026-02-01T01:00:00+00:00"


@pytest.fixture
def trained(make_sequences, tmp_path):
    """Sequences, one user without events among them, and a checkpoint of them."""
    pointer = make_sequences([3, 0, 45, 7])
    out = tmp_path / "models" / "none_bert4rec_v1"
    settings = {"sequences": str(pointer), "out": str(out)}
    settings |= {"recipe": "none_bert4rec", "dim": 16, "max_length": 20}
    train(train_job(settings), Reporter())
    return pointer, out


def settings_of(trained: tuple[Path, Path], **changes) -> EmbedJob:
    pointer, checkpoint = trained
    out = checkpoint.parent.parent / "user_embeddings" / checkpoint.name / "2026-01-31.parquet"
    settings = {
        "sequences": str(pointer),
        "checkpoint": str(checkpoint),
        "out": str(out),
        "event_timestamp": AS_OF,
        "created": CREATED,
        "model_version": checkpoint.name,
    }
    return embed_job(settings | changes)


def test_every_user_with_an_event_gets_one_row_of_the_contract(trained):
    job = settings_of(trained)
    assert embed(job, Reporter())["rows"] == 3
    table = pq.read_table(job.io.out)
    assert table.schema.equals(embeddings_schema(16))
    assert table["user_id"].to_pylist() == ["user-0000", "user-0002", "user-0003"]
    assert set(table["event_timestamp"].to_pylist()) == {dt.datetime.fromisoformat(AS_OF)}
    assert set(table["created"].to_pylist()) == {dt.datetime.fromisoformat(CREATED)}
    vectors = np.array(table["embedding"].to_pylist())
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors, axis=0)) == 3
    visible = [path for path in job.io.out.parent.rglob("*") if path.is_file()]
    assert visible == [job.io.out]


def test_a_user_vector_is_the_average_of_chunks_weighted_by_length(trained):
    pointer, folder = trained
    sequences, model = open_sequences(pointer), load_checkpoint(folder).model.eval()
    starts, lengths = np.array([0, 15, 30]), np.array([15, 15, 15])
    chunks = sequences.windows(np.array([2, 2, 2]), starts, lengths)
    with torch.no_grad():
        expected = model(pack(chunks)).mean(0)
    vectors = user_vectors(model, sequences, np.array([0, 2]))
    torch.testing.assert_close(vectors[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"event_timestamp": "2026-01-01T01:00:00+00:00"}, "which is not before event_timestamp"),
        ({"created": "2026-01-31T00:00:00+00:00"}, "a vector cannot be known before its input"),
        ({"created": "yesterday"}, "'yesterday' is not an ISO 8601 instant"),
        ({"event_timestamp": "2026-02-01T00:00:00"}, "has no time zone"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
    ],
)
def test_wrong_clocks_and_devices_are_sentences(trained, change, sentence):
    job = settings_of(trained, **change)
    with pytest.raises(FootpathError, match=sentence):
        embed(job, Reporter())
    assert not job.io.out.exists()
