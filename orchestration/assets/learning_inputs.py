"""What the assets of learning and evaluation share: the run's choices, and how figures show."""

import base64
import datetime as dt

import dagster as dg

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.config.learning import Validation
from contracts.lake.layout import Lake
from contracts.recipes.recipe import EarlyStopping, Recipe
from orchestration.partitions import no_days

GROUP = "learning"
OWNERS = ["team:data-science"]
# One training at a time on the GPU, or on all cores; the embeddings of a day do not wait for it.
TRAINING_POOL = "training"


class LearningRun(dg.Config):
    """What a run may choose; the data set's YAML says the rest."""

    as_of: str = ""  # a day; by default the newest for which training sequences were built
    seed: int = 0
    epochs: int = 0  # 0: as the YAML says
    validation: str = (
        ""  # a task that stops pre-training early, or none; by default as the YAML says
    )


def newest_as_of(lake: Lake) -> str:
    """The newest day for which training sequences were built.

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


def recipes_of_run(dataset: Dataset, names: list[str], run: LearningRun) -> dict[str, Recipe]:
    """Recipes of the data set's YAML, with what a run chooses.

    Raises:
      FootpathError: the run names a task that there is not.
    """
    changes: dict = {"epochs": run.epochs} if run.epochs else {}
    if run.validation:
        changes["validation"] = _validation(dataset, run.validation)
    known = dataset.recipes
    return {name: Recipe.model_validate(known[name].model_dump() | changes) for name in names}


def _validation(dataset: Dataset, task: str) -> EarlyStopping | None:
    if task == "none":
        return None
    chosen = dataset.learning.validation or Validation(task=task)
    try:
        return dataset.early_stopping(chosen.model_copy(update={"task": task}))
    except ValueError as error:
        raise FootpathError(f"{error}; or say none") from None


def shown_picture(name: str, png: bytes) -> str:
    """A PNG as Markdown that holds it, as the UI shows it."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"


def all_days(dataset: Dataset, name: str) -> dg.AssetDep:
    """Depends on every day there is: what is read ends with the as-of."""
    return dg.AssetDep(
        dg.AssetKey([dataset.slug, name]), partition_mapping=dg.AllPartitionMapping()
    )


def before(dataset: Dataset, table: str) -> dg.AssetDep:
    """Depends on a daily table up to an as-of day, in a way that widens no backfill of it."""
    return dg.AssetDep(dg.AssetKey([dataset.slug, table]), partition_mapping=no_days())


def plottable(result: dict) -> dict:
    """The numbers and short texts of a program's result, as Dagster plots them.

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
