"""What fine-tuning keeps."""

import pytest
import torch
from torch import nn

from models.training.fit import TuneSettings, tune


class Number(nn.Module):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


@pytest.mark.parametrize(
    ("wanted", "kept"), [(-1.0, 0.0), (0.5, 0.5), (1.0, 1.0), (1.5, 1.5), (2.0, 2.0)]
)
def test_the_weights_that_validate_best_are_kept(wanted, kept):
    """Training draws the weight from 0 to 2, validation asks for another place."""
    model = Number()
    settings = TuneSettings(lr=0.2, epochs=40, patience=40, batch_size=4, weight_decay=0.0, seed=0)
    losses = []

    def valid_loss() -> float:
        losses.append(float((model.weight.detach() - wanted) ** 2))
        return losses[-1]

    best = tune(model, 8, lambda *_: (model.weight - 2) ** 2, valid_loss, settings)
    assert float(model.weight.detach()) == pytest.approx(kept, abs=0.1)
    assert float((model.weight.detach() - wanted) ** 2) == pytest.approx(min(losses))
    assert (best == 0) == (kept == 0.0)


def test_weights_on_the_way_are_tried_and_not_only_those_of_an_epoch():
    """One epoch of one large step: only a part of the way is right."""
    model = Number()
    settings = TuneSettings(lr=2.0, epochs=1, patience=1, batch_size=8, weight_decay=0.0, seed=0)
    seen = []

    def valid_loss() -> float:
        seen.append(float(model.weight.detach()))
        return abs(seen[-1] - seen[1] / 4) if len(seen) > 1 else 10.0

    tune(model, 80, lambda *_: -model.weight, valid_loss, settings)
    given, last = seen[:2]
    assert seen[2:] == pytest.approx(
        [given + share * (last - given) for share in (0.25, 0.5, 0.75)]
    )
    assert float(model.weight.detach()) == pytest.approx(last / 4)
