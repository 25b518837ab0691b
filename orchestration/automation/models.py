"""What is due of models: training, embeddings, and the store that serves them.

Training goes by its own calendar: inputs as of a day are built once, and stay what they were while
encoders, task models and the leaderboard are made of them. Events that change later count in the
next training. Embeddings follow events: a day whose events have changed since is embedded again.
"""

import datetime as dt

from contracts.base.errors import FootpathError
from contracts.base.hashing import hash_json
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.versions import all_versions
from features.store.freshness import store_behind
from models.experiments.cells import read_measured
from orchestration.assets.learning_inputs import newest_as_of
from orchestration.automation.request import Request
from orchestration.due_cells import NEW, due_cells
from orchestration.experiments.store import board_inputs, facts_of, read_board_inputs
from orchestration.promotion.decision import aliases, decide, unmeasured_incumbent


def due_training(dataset: Dataset, lake: Lake) -> Request | None:
    """The next step of the training that is due, if one is."""
    training = dataset.automation.training
    if training is None:
        return None
    begun, next_one = _begun(lake), _next_as_of(dataset, lake)
    if next_one and (not begun or (next_one - begun).days >= training.every_days):
        since = f"{(next_one - begun).days} days after {begun}" if begun else "for the first time"
        return _inputs(dataset, next_one, f"training as of {next_one}, {since}")
    if begun is None or (dataset.learning.as_of and begun != dataset.learning.as_of):
        return None
    if dataset.daily_tasks and not lake.day("labels", begun).exists():
        return _inputs(dataset, begun, f"labels of {begun} are not built")
    return _models(dataset, lake, str(begun)) or _evaluation(dataset, lake, str(begun))


def _begun(lake: Lake) -> dt.date | None:
    """The day as of which inputs were last built."""
    try:
        return dt.date.fromisoformat(newest_as_of(lake))
    except FootpathError:
        return None


def _next_as_of(dataset: Dataset, lake: Lake) -> dt.date | None:
    """The day as of which a training could begin; none where there are too few."""
    from features.learning.labels import default_as_of

    training, days = dataset.automation.training, lake.days("user_behavior_features")
    if training is None or len(days) < training.from_days:
        return None
    try:
        as_of = default_as_of(dataset, lake)
    except FootpathError:
        return None
    return as_of if as_of in set(days) else None


def _inputs(dataset: Dataset, as_of: dt.date, reason: str) -> Request:
    key = hash_json(["inputs", dataset.name, str(as_of)])
    return Request("inputs", reason, key, str(as_of), str(as_of))


def _models(dataset: Dataset, lake: Lake, as_of: str) -> Request | None:
    """Recipes without a version, or task models, of that day."""
    missing, changed = [], []
    versions = [v for v in all_versions(lake) if v.as_of == as_of and not v.task]
    for name, recipe in dataset.recipes.items():
        finished = [v for v in versions if v.recipe == name and v.is_finished(lake)]
        if not any(facts_of(lake, v).recipe.identity() == recipe.identity() for v in finished):
            (changed if finished else missing).append(name)
        elif dataset.daily_tasks and not read_measured(lake, finished[-1].version):
            missing.append(name)
    due = [name for name in dataset.learning.recipes if name in {*missing, *changed}]
    if not due:
        return None
    reason = f"models as of {as_of} are not made: {', '.join(due)}"
    reason = f"recipes were changed: {', '.join(due)}" if not missing else reason
    identities = [[name, dataset.recipes[name].identity()] for name in due]
    key = hash_json(["models", dataset.name, as_of, identities])
    return Request(
        "pretraining", reason, key, due[0], due[-1], {"pretrained_encoder": {"as_of": as_of}}
    )


def _evaluation(dataset: Dataset, lake: Lake, as_of: str) -> Request | None:
    """The leaderboard, where it is not of the newest models and their baselines."""
    if not dataset.daily_tasks:
        return None
    baselines = {each.sequences.split("/")[-1] for each in read_measured(lake, "baselines")}
    wanted = board_inputs(dataset, lake)
    unmeasured = unmeasured_incumbent(dataset, lake, as_of)
    if baselines == {f"{as_of}.json"} and wanted == read_board_inputs(lake) and not unmeasured:
        return None
    key = hash_json(["evaluation", dataset.name, as_of, wanted, unmeasured])
    reason = f"the leaderboard is not of the models as of {as_of}"
    return Request("evaluation", reason, key, config={"task_baselines": {"as_of": as_of}})


def due_embeddings(dataset: Dataset, lake: Lake) -> Request | None:
    """Days that live model versions have not embedded, or from other events than there are now."""
    cells = due_cells(dataset, lake)
    if not cells:
        return None
    days = sorted({day for day, _ in cells})[: dataset.automation.max_days]
    cells = {(day, version): why for (day, version), why in cells.items() if day in days}
    versions = [v.version for v in all_versions(lake) if v.version in {v for _, v in cells}]
    new = sum(why == NEW for why, _ in cells.values())
    parts = [f"{new} are not there" if new else "", f"{len(cells) - new} are of other events"]
    told = " and ".join(part for part in parts if part and not part.startswith("0 "))
    reason = f"of {len(days)} days by {', '.join(versions)} {told}"
    key = hash_json(["embedding", sorted([str(d), v, *w] for (d, v), w in cells.items())])
    first, last = f"{days[0]}|{versions[0]}", f"{days[-1]}|{versions[-1]}"
    return Request("embedding", reason, key, first, last)


def due_serving(dataset: Dataset, lake: Lake) -> Request | None:
    """What the feature store lacks, or a promotion, or a decision that nobody was shown."""
    from features.store.promotions import read_promotions

    behind, told = store_behind(dataset, lake), read_promotions(lake)
    for alias in aliases(dataset):
        decision = decide(dataset, lake, alias)
        if decision.version:
            behind.insert(0, f"{decision.version} is to be promoted: it {decision.reason}")
        elif decision.verdicts and decision.key != told.of(alias).decision:
            behind.append(f"{decision.incumbent or alias} {decision.reason}")
    if not behind:
        return None
    return Request("serving", "; ".join(behind), hash_json(["serving", dataset.name, *behind]))
