"""What a model leaves on disk: safetensors and JSON. Loading a checkpoint executes nothing.

A finished folder holds model.safetensors, vocabulary.json, metrics.json, curves.parquet and,
written last, config.json: who sees config.json sees a whole checkpoint. Until then the folder holds
state.safetensors: weights, optimizer and curves as of one step, replaced as one file.
"""

import contextlib
import datetime as dt
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from contracts.base.disks import writing
from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_file
from contracts.base.locks import locked
from contracts.lake.publishing import publish_file
from contracts.lake.versions import CONFIG, WEIGHTS
from contracts.recipes.checkpoint import CheckpointFacts, load_facts
from contracts.recipes.recipe import Recipe
from models.nn.user_model import ModelConfig, UserModel, build_model
from models.runtime.code import code_version

STATE, VOCABULARY = "state.safetensors", "vocabulary.json"
BODY = "user_model."  # names of the user model's weights in a task model begin so


@dataclass(frozen=True)
class Checkpoint:
    """A finished model and everything that is known of it."""

    folder: Path
    model: UserModel
    facts: CheckpointFacts
    head: dict[str, Tensor] = field(default_factory=dict)  # further weights of a task model

    @property
    def recipe(self) -> Recipe:
        """How it was pre-trained."""
        return self.facts.recipe

    @property
    def version(self) -> str:
        """Name of its folder."""
        return self.folder.name


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Makes this process the folder's one writer, until it leaves or dies.

    Raises:
      FootpathError: another living process owns the folder.
    """
    path = folder / "owner.lock"
    owner = path.read_text().strip() if path.exists() else ""
    busy = (
        f"{folder} is being written by process {owner or 'unknown'}: "
        f"wait until it ends, or stop it, and run again"
    )
    with locked(path, busy):
        path.write_text(str(os.getpid()))
        yield


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a whole checkpoint."""
    return (folder / CONFIG).exists()


def save_checkpoint(
    folder: Path,
    weights: dict[str, Tensor],
    facts: dict[str, Any],
    metrics: dict[str, Any],
    vocabulary: str,
    curves: pa.Table | None = None,
) -> None:
    """Writes a finished checkpoint; it becomes visible with its last file.

    Args:
      folder: is made.
      weights: of the model, and of a task's head.
      facts: fields of CheckpointFacts, but those that are known here alone.
      metrics: figures of the training.
      vocabulary: JSON text.
      curves: losses and health of each step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS, weights)
    described = CheckpointFacts(
        **facts,
        code_version=code_version(),
        created=dt.datetime.now(dt.UTC).isoformat(),
        weights_hash=hash_file(folder / WEIGHTS),
    )
    _write_text(folder / VOCABULARY, vocabulary)
    if curves is not None:
        with _staged(folder / "curves.parquet") as path:
            pq.write_table(curves, path, compression="zstd")
    _write_text(folder / "metrics.json", _json(metrics))
    _write_text(folder / CONFIG, _json(described.model_dump(mode="json")))
    (folder / STATE).unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Loads a finished model onto the CPU.

    Raises:
      FootpathError: the folder holds no whole checkpoint, or one that is damaged.
    """
    facts = load_facts(folder)
    path = folder / VOCABULARY
    if not path.exists() or hash_file(path) != facts.vocabulary_hash:
        raise FootpathError(
            f"{path} is missing or damaged (its hash is not the one in {CONFIG}): "
            f"train the model again"
        )
    path = folder / WEIGHTS
    if not path.exists():
        raise FootpathError(f"{path} is missing: train the model again")
    if hash_file(path) != facts.weights_hash:
        raise FootpathError(
            f"{path} is damaged (its hash is not the one in {CONFIG}): train the model again"
        )
    weights, head = read_tensors(path)[0], {}
    if facts.task:
        head = {name: x for name, x in weights.items() if not name.startswith(BODY)}
        weights = {name.removeprefix(BODY): x for name, x in weights.items() if name not in head}
    config = ModelConfig.of(facts.recipe, facts.sizes)
    if fault := _misfit(config, weights):
        raise FootpathError(f"{path} does not fit its {CONFIG}: {fault}: train the model again")
    model = build_model(config)
    model.load_state_dict(weights)
    return Checkpoint(folder, model, facts, head)


def _misfit(config: ModelConfig, weights: dict[str, Tensor]) -> str:
    """Where weights are not those of a shape, found without memory for a model of that shape."""
    layers = max(getattr(part, "layers", 1) for part in (config.encoder, config.text))
    if layers > len(weights):
        return f"it has {len(weights)} tensors, which are no {layers:,} layers"
    try:
        with torch.device("meta"):
            wanted = {n: tuple(x.shape) for n, x in build_model(config).state_dict().items()}
    except (RuntimeError, OverflowError, TypeError) as error:
        return str(error).splitlines()[0]
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            return f"{name} is of shape {found.get(name)}, not {wanted.get(name)}"
    return ""


def write_tensors(
    path: Path, tensors: dict[str, Tensor], facts: dict[str, str] | None = None
) -> None:
    """Writes tensors, and texts that belong to them, as one file in one step."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with _staged(path) as staged:
        save_file(plain, staged, metadata=facts)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads a file of tensors and the texts beside them.

    Raises:
      FootpathError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FootpathError(f"{path} is damaged ({error}): remove it and train again") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as named tensors."""
    return {
        f"optimizer.{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Undoes `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


@contextlib.contextmanager
def _staged(path: Path) -> Iterator[Path]:
    staged = path.with_name(f"_staging-{path.name}")
    with writing(staged):
        yield staged
        publish_file(staged, path)


def _write_text(path: Path, text: str) -> None:
    with _staged(path) as staged:
        staged.write_text(text, encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"
