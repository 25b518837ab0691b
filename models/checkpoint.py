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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_file, hash_files
from contracts.base.locks import locked
from contracts.lake.publishing import publish_file
from contracts.lake.reading import read_json
from models.nn.user_model import ModelConfig, UserModel, build_model
from models.runtime.config import parse

CONFIG, WEIGHTS, STATE = "config.json", "model.safetensors", "state.safetensors"
_MODEL_FIELDS = ("encoder", "dim", "max_length", "fields", "encoder_options", "sizes", "text")


@dataclass(frozen=True)
class Checkpoint:
    """A finished model and everything that is known of it."""

    folder: Path
    model: UserModel
    config: dict[str, Any]


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
    """Tells whether a folder holds a whole checkpoint."""
    return (folder / CONFIG).exists()


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    config: dict[str, Any],
    metrics: dict[str, Any],
    vocabulary: str | None = None,
    curves: pa.Table | None = None,
) -> None:
    """Writes a finished checkpoint; it becomes visible with its last file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, model.state_dict())
    stamp = {
        "format": 1,
        "code_version": code_version(),
        "created": dt.datetime.now(dt.UTC).isoformat(),
        "weights_hash": hash_file(folder / WEIGHTS),
    }
    if vocabulary is not None:
        _write_text(folder / "vocabulary.json", vocabulary)
    if curves is not None:
        with _staged(folder / "curves.parquet") as path:
            pq.write_table(curves, path, compression="zstd")
    _write_text(folder / "metrics.json", _json(metrics))
    _write_text(folder / CONFIG, _json(config | stamp))
    (folder / STATE).unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Loads a finished model onto the CPU.

    Raises:
      FootpathError: the folder holds no whole checkpoint, or one that is damaged.
    """
    config = load_config_of(folder)
    shape = {name: config[name] for name in _MODEL_FIELDS if name in config}
    model = build_model(parse(ModelConfig, shape, str(folder / CONFIG)))
    load_weights(folder, config, model)
    return Checkpoint(folder, model, config)


def load_config_of(folder: Path) -> dict[str, Any]:
    """Reads what a checkpoint says of itself.

    Raises:
      FootpathError: there is no config.json, or it is damaged.
    """
    if not is_finished(folder):
        raise FootpathError(f"{folder} holds no finished checkpoint: train the model first")
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("format") != 1:
        raise FootpathError(f"{folder / CONFIG} is not a checkpoint's config of format 1")
    return config


def load_weights(folder: Path, config: dict[str, Any], model: nn.Module) -> None:
    """Fills a model with a checkpoint's weights.

    Raises:
      FootpathError: the file is damaged or belongs to another model.
    """
    path = folder / WEIGHTS
    if not path.exists():
        raise FootpathError(f"{path} is missing: train the model again")
    if hash_file(path) != config.get("weights_hash"):
        raise FootpathError(
            f"{path} is damaged (its hash is not the one in {CONFIG}): train the model again"
        )
    tensors, _ = read_tensors(path)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        fault = str(error).splitlines()[-1].strip()
        raise FootpathError(f"{path} does not fit its {CONFIG}: {fault}") from None


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
    """Returns an optimizer's state as named tensors."""
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


def code_version() -> str:
    """Returns a hash of this room's source: what a checkpoint was made by."""
    root = Path(__file__).parent
    return hash_files(root, root.rglob("*.py"))


@contextlib.contextmanager
def _staged(path: Path) -> Iterator[Path]:
    staged = path.with_name(f"_staging-{path.name}")
    yield staged
    publish_file(staged, path)


def _write_text(path: Path, text: str) -> None:
    with _staged(path) as staged:
        staged.write_text(text, encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"
