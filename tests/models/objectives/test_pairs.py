"""Every objective with every encoder: two steps, or one sentence why not."""

import numpy as np
import pytest
import torch

from contracts.recipes.methods import METHODS
from models.data.rng import Draw
from models.data.sequences import open_sequences
from models.nn.encoders import ENCODERS
from models.objectives import OBJECTIVES
from models.training.optim import guarded_step, make_optimizer
from tests.builders.models import build_objective, small_model
from tests.builders.sequences import write_sequences

FIELDS = ("item", "action", "category", "gap", "age", "value", "position")
LENGTHS = [12, 3, 7, 9]
OPTIONS = {"ubm": {"first_share": 0}}  # its other stage needs text
ANY_ENCODER = [m for m in OBJECTIVES if METHODS[m].trains and not METHODS[m].reads_forwards]
READS_FORWARDS = {
    "gru4rec": {},
    "hstu": {},
    "bert4rec": {"causal": True},
    "rotary": {"causal": True},
}


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    pointer = write_sequences(tmp_path_factory.mktemp("pairs"), LENGTHS)
    return open_sequences(pointer).with_clock()


def steps(sequences, method, encoder, options, fields=None):
    if fields is None:
        reads_on = METHODS[method].reads_forwards or (
            method == "ubm" and encoder in ("gru4rec", "hstu")
        )
        fields = tuple(f for f in FIELDS if not (reads_on and f == "age"))
    model = small_model(sequences.sizes, encoder, fields, 8, **options)
    objective = build_objective(method, model.config, OPTIONS.get(method, {}))
    trained = torch.nn.ModuleDict({"model": model, "objective": objective}).train()
    optimizer, before = (
        make_optimizer(trained, 1e-2, 0.01),
        model.behavior.items().detach().clone(),
    )
    for epoch in range(2):
        draw = Draw(0, epoch, np.arange(len(LENGTHS)))
        outcome = objective(model, objective.read(sequences, draw))
        assert outcome.users_BD.shape[1] == 16
        guarded_step(optimizer, trained.parameters(), outcome.loss, clip=1.0)
        objective.after_step(model, epoch / 2)
    assert not torch.equal(before, model.behavior.items())
    assert all(torch.isfinite(p).all() for p in trained.parameters())


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    "method", [m for m in OBJECTIVES if METHODS[m].trains and not METHODS[m].reads_forwards]
)
def test_an_objective_trains_an_encoder(sequences, method, encoder):
    steps(sequences, method, encoder, {})


@pytest.mark.parametrize("encoder", ENCODERS)
def test_next_item_trains_what_reads_forwards_and_refuses_the_rest(sequences, encoder):
    if encoder in READS_FORWARDS:
        steps(sequences, "next", encoder, READS_FORWARDS[encoder])
    else:
        with pytest.raises(ValueError, match=f"reads forwards, and {encoder} sees the next"):
            steps(sequences, "next", encoder, {})


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_future_is_for_what_reads_forwards_and_for_a_bag(sequences, encoder):
    if encoder in READS_FORWARDS or encoder == "bag":
        steps(sequences, "future", encoder, READS_FORWARDS.get(encoder, {}))
    else:
        with pytest.raises(ValueError, match=f"reads forwards, and {encoder} sees later events"):
            steps(sequences, "future", encoder, {})


@pytest.mark.parametrize("method", ["future", "ubm"])
def test_what_asks_what_comes_in_a_time_refuses_to_be_told_when(sequences, method):
    with pytest.raises(ValueError, match="leave it at false"):
        steps(sequences, method, "hstu", {"query_time": True}, FIELDS[:3])
    steps(sequences, "next", "hstu", {"query_time": True})


@pytest.mark.parametrize("method", ["next", "future", "ubm"])
def test_what_predicts_after_every_event_refuses_ages(sequences, method):
    with pytest.raises(ValueError, match="leave 'age' out of fields"):
        steps(sequences, method, "gru4rec", {}, FIELDS)
