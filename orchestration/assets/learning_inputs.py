"""What the assets of learning and evaluation share: the run's choices, inputs, figures."""

import base64
import datetime as dt
from typing import Any

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_rows
from contracts.config.dataset import Dataset
from contracts.config.learning import Validation
from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from orchestration.programs import in_lake

GROUP = "learning"
OWNERS = ["team:data-science"]


class LearningRun(dg.Config):
    """What a run may choose; the data set's YAML says the rest."""

    as_of: str = ""  # a day; by default the newest for which training sequences were built
    seed: int = 0
    epochs: int = 0  # 0: as the YAML says
    validation: str = (
        ""  # a task that stops pre-training early, or none; by default as the YAML says
    )


def newest_as_of(lake: Lake) -> str:
    """Returns the newest day for which training sequences were built.

    Raises:
      FootpathError: there are none.
    """
    stems = [path.stem for path in (lake.root / "sequences").glob("*.json")]
    found = sorted(stem for stem in stems if _is_day(stem))
    if not found:
        raise FootpathError(
            f"{lake.root / 'sequences'} has no training sequences: "
            f"materialize training_sequences for a day first"
        )
    return found[-1]


def validation_of(
    dataset: Dataset, lake: Lake, as_of: str, config: LearningRun
) -> dict[str, Any] | None:
    """Returns the field `validation` of a pre-training; None where it runs all its epochs.

    Raises:
      FootpathError: there is no such task, or its labels are not built.
    """
    asked = dataset.learning.validation
    if config.validation:
        known = {task.name for task in dataset.daily_tasks}
        if config.validation not in {"none", *known}:
            raise FootpathError(
                f"validation: data set '{dataset.name}' has no task '{config.validation}' whose "
                f"examples end with the as-of day: take {', '.join(sorted(known))}, or none"
            )
        chosen = asked or Validation(task=config.validation)
        asked = chosen.model_copy(update={"task": config.validation})
        asked = None if config.validation == "none" else asked
    if asked is None:
        return None
    labels = lake.day("labels", dt.date.fromisoformat(as_of))
    if not labels.exists():
        raise FootpathError(
            f"validation by task '{asked.task}' needs {labels}: materialize labels of {as_of} first"
        )
    kind = next(task.kind for task in dataset.daily_tasks if task.name == asked.task)
    return {"labels": str(labels), "kind": kind} | asked.model_dump()


def identity_of(lake: Lake, settings: dict[str, Any], data: str) -> dict[str, Any]:
    """Returns what the version of a pre-training follows from.

    Args:
      lake: of the data set.
      settings: of the pre-training. Labels can be built again for the same day, so their rows stand
        in the place of their path.
      data: the fingerprint of the sequences.

    Raises:
      FootpathError: the labels of the field `validation` cannot be read.
    """
    found = settings | {"fingerprint": data}
    if judge := settings.get("validation"):
        labels = local_copy(lake, in_lake(lake, judge["labels"]))
        found["validation"] = judge | {"labels": hash_rows(labels, judge["task"])}
    return found


def shown_picture(name: str, png: bytes) -> str:
    """Returns a PNG as Markdown that holds it, as the UI shows it."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"


def all_days(dataset: Dataset, name: str) -> dg.AssetDep:
    """Depends on every day there is: what is read ends with the as-of."""
    return dg.AssetDep(
        dg.AssetKey([dataset.slug, name]), partition_mapping=dg.AllPartitionMapping()
    )


def plottable(result: dict) -> dict:
    """Returns the numbers and short texts of a program's result, as Dagster plots them.

    Of numbers that are not whole, the digits that somebody would read: 0.9589, not sixteen of them.
    """
    return {
        key: float(f"{value:.4g}") if isinstance(value, float) and abs(value) < 1e4 else value
        for key, value in result.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool) and key != "kind"
    }


def _is_day(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True
