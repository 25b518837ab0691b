"""Every mode of training: prefetched, bf16, averaged weights, early stopping, collapse, resume."""

import itertools
import json
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from contracts.base.errors import FootpathError
from contracts.lake.pointers import file_hashes
from contracts.recipes.recipe import EarlyStopping
from models.checkpoint import STATE, load_checkpoint, read_tensors
from models.data.batching import prefetched
from models.data.sequences import open_sequences
from models.nn.encoders import ENCODERS
from models.probing.early_stopping import ValidationProbe
from models.runtime.report import Reporter
from models.train import build, train
from models.training.ema import Ema
from models.training.trainer import Trainer
from tests.builders.jobs import train_job, training
from tests.builders.sequences import planted_labels

Settings = dict
config = partial(training, batch_size=32)


class Listener(Reporter):
    """Keeps what is said; interrupts training after a step, as Ctrl-C would."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        super().__init__()
        self.interrupt_at = interrupt_at
        self.warnings: list[str] = []
        self.epochs: list[dict] = []

    def progress(self, step: int, steps: int, **figures) -> None:
        del steps, figures
        if step == self.interrupt_at:
            raise KeyboardInterrupt

    def epoch(self, epoch: int, epochs: int, **figures: float) -> None:
        self.epochs.append({"epoch": epoch, "epochs": epochs, **figures})

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def run(settings: Settings, reporter: Reporter | None = None) -> dict:
    return train(train_job(settings), reporter or Listener())


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "model.safetensors")[0]


def same_bits(one: Path, two: Path) -> None:
    for name, weight in weights_of(one).items():
        assert torch.equal(weight, weights_of(two)[name]), name
    curves = [pq.read_table(folder / "curves.parquet") for folder in (one, two)]
    assert curves[0].equals(curves[1])


@pytest.fixture
def validation(planted: Path) -> dict:
    return {"labels": str(planted / "labels.parquet"), "task": "half", "patience": 2}


MODES = {
    "plain": {},
    "without prefetching": {"prefetch": 0},
    "bf16": {"precision": "bf16", "recipe": "ptum_bert4rec"},
    "averaged weights": {"ema": 0.9},
    "a teacher": {"recipe": "byb_bag", "method": {"events": [3, 5]}},
    "items by row": {"recipe": "manymask_bag", "lazy_items": True, "sampled_items": 8},
    "a teacher by row": {
        "recipe": "byb_bag",
        "method": {"events": [3, 5]},
        "lazy_items": True,
        "ema": 0.9,
    },
    "early stopping": {"validation": {}, "lr": 0.05},
    "a bag first": {"recipe": "ptum_bert4rec", "bag_epochs": 2},
    "all of them": {"validation": {}, "ema": 0.8, "precision": "bf16", "recipe": "barlow_gru4rec"},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interrupt_at", [3, 8])  # within an epoch, and after the last of one
def test_an_interrupted_run_resumes_bit_for_bit_in_every_mode(
    mode, interrupt_at, pointer, validation, tmp_path
):
    settings = config(pointer, tmp_path / "whole", checkpoint_seconds=0, **MODES[mode])
    if "validation" in settings:
        settings["validation"] = validation
    run(settings)
    settings |= {"out": str(tmp_path / "resumed")}
    with pytest.raises(KeyboardInterrupt):
        run(settings, Listener(interrupt_at))
    assert (tmp_path / "resumed" / STATE).exists()
    assert not (tmp_path / "resumed" / "config.json").exists()
    run(settings)
    same_bits(tmp_path / "resumed", tmp_path / "whole")


def test_states_take_a_small_share_of_the_time_however_long_one_takes(pointer, tmp_path):
    spent = []

    class Slow(Trainer):
        def _save(self) -> None:
            super()._save()
            time.sleep(0.02)
            spent.append(time.monotonic())

    job = train_job(config(pointer, tmp_path, epochs=50, checkpoint_seconds=0.001))
    sequences = open_sequences(pointer)
    (tmp_path / STATE).parent.mkdir(exist_ok=True)
    Slow(job, sequences, *build(job, sequences)).fit(Listener())
    pauses = np.diff(spent) - 0.02
    assert len(spent) > 1
    assert pauses.min() > 19 * 0.02 * 0.9


def trainer_of(pointer: Path, out: Path, **changes) -> Trainer:
    settings = train_job(config(pointer, out, **changes))
    sequences = open_sequences(pointer)
    return Trainer(settings, sequences, *build(settings, sequences))


def test_a_bag_learns_the_items_and_then_the_encoder_learns(pointer, tmp_path):
    trainer = trainer_of(pointer, tmp_path / "m", recipe="ptum_bert4rec", epochs=4, bag_epochs=2)
    encoder = {n: w.detach().clone() for n, w in trainer.model.encoder.named_parameters()}
    items = trainer.model.behavior.tables["item"].detach().clone()
    trainer.trained.train()
    for _ in range(2 * trainer.per_epoch):
        trainer.step()
    assert not torch.equal(trainer.model.behavior.tables["item"], items)
    for name, weight in trainer.model.encoder.named_parameters():
        assert torch.equal(weight, encoder[name]), name
    trainer.step()
    trainer.step()  # the first step of a warm-up is of size 0
    changed = [n for n, w in trainer.model.encoder.named_parameters() if not w.equal(encoder[n])]
    assert changed


def test_the_bag_is_left_behind(pointer, tmp_path):
    run(config(pointer, tmp_path / "m", recipe="ptum_bert4rec", bag_epochs=2))
    run(config(pointer, tmp_path / "plain", recipe="ptum_bert4rec"))
    assert weights_of(tmp_path / "m").keys() == weights_of(tmp_path / "plain").keys()


@pytest.mark.parametrize("recipe", ["byb_bag", "masked_bert4rec", "next_gru4rec"])
def test_a_bag_cannot_stand_in_where_the_encoder_itself_is_needed(recipe, pointer, tmp_path):
    with pytest.raises(FootpathError, match="leave bag_epochs at 0"):
        run(config(pointer, tmp_path / "m", recipe=recipe, bag_epochs=2))


def test_the_learning_rate_goes_with_the_root_of_the_batch(pointer, tmp_path):
    rates = []
    for n, changes in enumerate([{}, {"lr_users": 8}]):  # of batches of 32
        trainer = trainer_of(pointer, tmp_path / f"{n}", warmup=0.0, lr=0.01, **changes)
        trainer.step()
        rates.append(trainer.optimizer.param_groups[-1]["lr"])
    assert rates == pytest.approx([0.01, 0.02])


def test_prefetching_changes_no_bit(pointer, tmp_path):
    for depth in (0, 1, 5):
        run(config(pointer, tmp_path / f"depth-{depth}", prefetch=depth))
    same_bits(tmp_path / "depth-0", tmp_path / "depth-1")
    same_bits(tmp_path / "depth-0", tmp_path / "depth-5")


def test_an_exception_of_the_maker_comes_out_at_its_step():
    def make(step: int) -> int:
        if step == 4:
            raise FootpathError("sample 4 cannot be made")
        return step

    seen = []
    with (
        pytest.raises(FootpathError, match="sample 4 cannot be made"),
        prefetched(make, 0, 9, depth=3) as samples,
    ):
        seen.extend(samples)  # ends by the exception
    with prefetched(make, 0, 9, depth=3) as samples:
        assert list(itertools.islice(samples, 4)) == [0, 1, 2, 3]
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_leaving_early_ends_the_prefetching_thread_however_full_it_is():
    made = []

    def make(step: int) -> int:
        made.append(step)
        time.sleep(0.001)
        return step

    with prefetched(make, 0, 10**9, depth=2) as samples:
        assert next(samples) == 0
        time.sleep(0.05)
    assert len(made) <= 4  # one taken, two waiting, one in hand
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_bf16_gives_nearly_the_losses_of_fp32_and_weights_in_fp32(encoder, pointer, tmp_path):
    changes = {"recipe": f"ptum_{encoder}", "epochs": 2, "encoder": {"dropout": 0.0}}
    losses = []
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        run(config(pointer, out, precision=precision, **changes))
        losses.append(pq.read_table(out / "curves.parquet")["loss"].to_numpy())
        assert all(w.dtype == torch.float32 for w in weights_of(out).values())
    assert np.isfinite(losses[1]).all()
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.01)


def test_bf16_is_what_the_encoder_multiplies_in(pointer, tmp_path):
    losses = []
    for precision in ("fp32", "bf16"):
        run(config(pointer, tmp_path / precision, precision=precision))
        losses.append(pq.read_table(tmp_path / precision / "curves.parquet")["loss"].to_numpy())
    assert (losses[0] != losses[1]).any()


def test_the_average_is_that_of_the_equation():
    model = nn.Linear(2, 2)
    ema, expected = Ema(model, 0.5), model.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 2))
        ema.follow(model, step)
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(ema.weights["weight"], expected)
    own = model.weight.detach().clone()
    with ema.within(model):
        torch.testing.assert_close(model.weight, expected)
    assert torch.equal(model.weight, own)


def test_the_checkpoint_holds_the_averaged_weights(pointer, tmp_path):
    run(config(pointer, tmp_path / "last"))
    run(config(pointer, tmp_path / "averaged", ema=0.9))
    curves = [pq.read_table(tmp_path / f / "curves.parquet") for f in ("last", "averaged")]
    assert curves[0].equals(curves[1])  # averaging does not disturb training
    name = "behavior.tables.item"
    assert not torch.equal(
        weights_of(tmp_path / "last")[name], weights_of(tmp_path / "averaged")[name]
    )


def test_early_stopping_keeps_the_weights_that_validated_best(pointer, validation, tmp_path):
    settings = config(pointer, tmp_path / "m_v1", epochs=40, lr=0.1, validation=validation)
    listener = Listener()
    result = run(settings, listener)
    losses = [epoch["validation_loss"] for epoch in listener.epochs]
    assert len(losses) < 40
    assert len(losses) == result["best_epoch"] + validation["patience"]
    assert result["validation_loss"] == min(losses) == losses[result["best_epoch"] - 1]
    stopping = EarlyStopping(task="half", patience=2)
    judge = ValidationProbe(stopping, Path(validation["labels"]), open_sequences(pointer))
    assert judge.loss(load_checkpoint(tmp_path / "m_v1").model) == pytest.approx(min(losses))


def test_the_labels_of_test_users_do_not_choose_the_weights(
    pointer, validation, make_labels, tmp_path
):
    run(config(pointer, tmp_path / "one", validation=validation))
    rows = planted_labels(120)
    for row in rows:
        if row["split"] == "test" and row["task"] == "half":
            row |= {"value": 1 - row["value"], "label": ["right", "left"][int(row["value"])]}
    turned = validation | {"labels": str(make_labels(rows))}
    run(config(pointer, tmp_path / "two", validation=turned))
    same_bits(tmp_path / "one", tmp_path / "two")


def test_a_run_goes_on_only_by_the_labels_that_it_began_with(
    pointer, validation, make_labels, tmp_path
):
    rows = planted_labels(120)
    labels, settings = make_labels(rows), config(pointer, tmp_path / "m", checkpoint_seconds=0)
    settings["validation"] = validation | {"labels": str(labels)}
    with pytest.raises(KeyboardInterrupt):
        run(settings, Listener(interrupt_at=8))
    turned = {"value": 1 - rows[0]["value"], "label": ["right", "left"][int(rows[0]["value"])]}
    make_labels([rows[0] | turned, *rows[1:]])
    with pytest.raises(FootpathError, match="belongs to another configuration or other data"):
        run(settings)
    make_labels(rows)
    begun = labels.read_bytes()
    pq.write_table(pq.read_table(labels), labels, compression="zstd", row_group_size=50)
    assert labels.read_bytes() != begun
    finished = run(settings)
    assert run(settings) == finished
    make_labels([rows[0] | turned, *rows[1:]])
    with pytest.raises(
        FootpathError, match=r"model whose labels_fingerprint is .*, and .* is asked"
    ):
        run(settings)


def test_an_unknown_validation_task_is_a_sentence(pointer, validation, tmp_path):
    with pytest.raises(FootpathError, match="task 'none' has no labels"):
        run(config(pointer, tmp_path / "m_v1", validation=validation | {"task": "none"}))


@pytest.fixture
def alike(make_sequences) -> Path:
    """Sixty users with the same events: what separates users is nothing."""
    pointer = make_sequences([12] * 60)
    folder = next(path for path in pointer.parent.iterdir() if path.is_dir())
    for name in ("item", "action", "category", "time"):
        events = np.load(folder / f"{name}.npy")
        np.save(folder / f"{name}.npy", np.tile(events[:12], 60))
    said = json.loads(pointer.read_text()) | {"files": file_hashes(folder)}
    pointer.write_text(json.dumps(said))
    return pointer


def test_a_planted_collapse_is_seen_and_can_stop_training(alike, tmp_path):
    changes = {"recipe": "next_gru4rec", "encoder": {"dropout": 0.0}, "epochs": 2}
    changes["fields"] = ("item",)  # in all else users differ
    listener = Listener()
    run(config(alike, tmp_path / "warned", **changes), listener)
    assert len(listener.warnings) == 2
    assert "user vectors have collapsed (spread" in listener.warnings[0]
    with pytest.raises(FootpathError, match=r"epoch 1: .*effective rank .* is below"):
        run(config(alike, tmp_path / "stopped", collapse="stop", **changes))
    silent = Listener()
    run(config(alike, tmp_path / "silent", collapse="off", **changes), silent)
    assert silent.warnings == []


def test_healthy_vectors_are_not_called_collapsed(pointer, tmp_path):
    listener = Listener()
    run(config(pointer, tmp_path / "m_v1", collapse="stop"), listener)
    assert listener.warnings == []
    assert [epoch["epoch"] for epoch in listener.epochs] == [1, 2, 3, 4]
    assert all(epoch["effective_rank"] > 2 for epoch in listener.epochs)


@pytest.mark.long
def test_compiling_changes_neither_names_nor_losses_beyond_rounding(pointer, tmp_path):
    for encoder, dropout in (("rotary", 0.0), ("rotary", 0.5)):
        losses = []
        for name, is_compiled in ((f"plain-{dropout}", False), (f"compiled-{dropout}", True)):
            options = {"encoder": {"dropout": dropout}, "recipe": f"barlow_{encoder}"}
            run(config(pointer, tmp_path / name, compile=is_compiled, **options))
            losses.append(pq.read_table(tmp_path / name / "curves.parquet")["loss"].to_numpy())
        assert np.isfinite(losses[1]).all()
        if not dropout:  # the compiler draws other numbers
            np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
        names = [set(weights_of(tmp_path / f"{n}-{dropout}")) for n in ("plain", "compiled")]
        assert names[0] == names[1]
