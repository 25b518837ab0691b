"""The feature views as plain data, and the ledger of every view that was ever registered.

In come the data set's feature fields and the published embeddings; out goes `views.json`: name ->
exact contents. A view never changes under its name: another list of features, or another model, is
another view. Nothing here knows Feast, so a fresh registry can be filled from the ledger.
"""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from contracts.base.errors import FootpathError
from contracts.config.dataset import Dataset
from contracts.lake.layout import Lake
from contracts.lake.publishing import publish_json
from contracts.lake.reading import read_json, read_schema
from contracts.lake.versions import CONFIG, all_versions, version_named
from features.behavior.meanings import feature_meanings
from features.behavior.tables import BEHAVIOR, FEATURE_TABLES, FeatureTable, feature_tables

EMBEDDINGS = "user_embeddings"

# What of a checkpoint's config makes two models of one name different models.
IDENTITY = ("identity", "train_cutoff", "data_fingerprint", "vocabulary_hash")


@dataclass(frozen=True)
class Column:
    """One feature: its name in the store, its column in the Parquet objects, and its type.

    `kind` is int64, float64, string or float32[N], a vector of N values. `meaning` is a hash of
    what a feature of a table means (features/behavior/meanings.py).
    """

    name: str
    source: str
    kind: str
    description: str = ""
    meaning: str = ""

    @property
    def type(self) -> pa.DataType:
        """Its Arrow type, as it lies in the objects."""
        vector = re.fullmatch(r"float32\[(\d+)\]", self.kind)
        return pa.list_(pa.float32(), int(vector[1])) if vector else pa.type_for_alias(self.kind)


@dataclass(frozen=True)
class View:
    """One feature view: a table of daily objects below the lake, and the features it gives."""

    name: str
    table: str
    columns: tuple[Column, ...]
    tags: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def entity(self) -> str:
        """What its rows are of: `user` or `item`."""
        return FEATURE_TABLES[self.table].entity if self.table in FEATURE_TABLES else "user"

    @property
    def key(self) -> str:
        """The column that names a row's user or item."""
        return f"{self.entity}_id"

    @property
    def description(self) -> str:
        """What a row of it is."""
        if self.table in FEATURE_TABLES:
            return FEATURE_TABLES[self.table].about
        until = self.tags.get("train_cutoff")
        seen = f", which has seen events until {until}" if until else ""
        what = "vector and prediction" if len(self.columns) > 1 else "vector"
        return f"a user's {what} as of the end of a day, by {self.tags['model_version']}{seen}"

    @property
    def contents(self) -> dict[str, str]:
        """What must not change under this name; descriptions may."""
        columns = {c.name: f"{c.kind} from {c.source} {c.meaning}".strip() for c in self.columns}
        return columns | {f"tag {key}": value for key, value in self.tags.items()}


def repository(lake: Lake) -> Path:
    """The folder of a data set's Feast repository and of the ledgers that go with it."""
    return lake.root / "feature_store"


def opened_repository(lake: Lake) -> Path:
    """What `FeatureStore(repo_path=...)` takes here: the repository, or its local copy."""
    return lake.work / "feature_store"


def model_versions(lake: Lake) -> list[str]:
    """The model versions that have a checkpoint and published embeddings, in order."""
    return sorted(
        version.version
        for version in all_versions(lake)
        if version.is_finished(lake)
        and any(lake.table(f"{EMBEDDINGS}/{version.version}").glob("*.parquet"))
    )


def current_views(dataset: Dataset, lake: Lake) -> list[View]:
    """The views to keep up to date: of each table of features, then one per model version."""
    return [
        *table_views(dataset, lake).values(),
        *(embedding_view(lake, version) for version in model_versions(lake)),
    ]


def table_views(dataset: Dataset, lake: Lake) -> dict[str, View]:
    """The present view of each table of features by the alias of its service.

    One of which no day is published yet has none, but for behavior.
    """
    return {
        table.service: table_view(dataset, lake, table)
        for table in feature_tables(dataset)
        if table == BEHAVIOR or lake.days(table.name)
    }


def behavior_view(dataset: Dataset, lake: Lake) -> View:
    """The view of the data set's present list of behavior features."""
    return table_view(dataset, lake, BEHAVIOR)


def table_view(dataset: Dataset, lake: Lake, table: FeatureTable) -> View:
    """The view of a table's present list of features.

    A list that was registered before gets its version back; a new one, or one of which a feature
    means something else, gets the next.
    """
    meanings = feature_meanings(dataset, table)
    columns = {
        f.name: Column(f.name, f.name, f.kind, f.description, meanings[f.name])
        for f in table.fields(dataset)
    }
    unnamed = View("", table.name, tuple(columns.values()))
    family = [view for view in known_views(lake).values() if view.table == table.name]
    for view in family:
        if view.contents == unnamed.contents:  # the registered order stays
            return dataclasses.replace(view, columns=tuple(columns[c.name] for c in view.columns))
    newest = max((int(view.name.rpartition("_v")[2]) for view in family), default=0)
    return dataclasses.replace(unnamed, name=f"{table.name}_v{newest + 1}")


def embedding_view(lake: Lake, version: str) -> View:
    """The view of one model version's embeddings, and of what it predicts; fields bear its name.

    Raises:
      FootpathError: the version has no checkpoint or no embeddings, or its name cannot be a field.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", version):
        raise FootpathError(
            f"model version '{version}' cannot name a feature: "
            "use lower-case letters, digits and underscores"
        )
    config = read_json(version_named(lake, version).folder(lake) / CONFIG)
    objects = sorted(lake.table(f"{EMBEDDINGS}/{version}").glob("*.parquet"))
    if not objects:
        raise FootpathError(
            f"model version '{version}' has no embeddings in {lake.table(EMBEDDINGS) / version}: "
            "materialize user_embeddings for it first"
        )
    schema = read_schema(objects[-1])
    dim = _vector_length(objects[-1], schema)
    columns = [
        Column(
            f"embedding_{version}",
            "embedding",
            f"float32[{dim}]",
            f"the user's vector of {dim} values by model {version}",
        )
    ]
    if "score" in schema.names:
        what = f"what model {version} predicts: a number, or the chance of the second class"
        columns.append(Column(f"score_{version}", "score", "float64", what))
    if "scores" in schema.names:
        kind = f"float32[{schema.field('scores').type.list_size}]"
        what = f"the chance of each class by model {version}"
        columns.append(Column(f"scores_{version}", "scores", kind, what))
    identity = {key: str(config[key]) for key in IDENTITY if key in config}
    if (config.get("task") or {}).get("profile"):
        identity |= {"head": "profile"}
    return View(
        f"user_embeddings_{version}",
        f"{EMBEDDINGS}/{version}",
        tuple(columns),
        {"model_version": version, "dim": str(dim)} | identity,
    )


def known_views(lake: Lake) -> dict[str, View]:
    """Every view that `views.json` holds, by name."""
    path = repository(lake) / "views.json"
    if not path.exists():
        return {}
    return {
        name: View(name, view["table"], tuple(Column(**c) for c in view["columns"]), view["tags"])
        for name, view in read_json(path).items()
    }


def record_views(lake: Lake, views: list[View]) -> dict[str, View]:
    """Adds views to `views.json` and returns all that it holds.

    Raises:
      FootpathError: a view of that name has other contents.
    """
    known = known_views(lake)
    for view in views:
        if view.name in known:
            _refuse_change(known[view.name], view)
    known |= {view.name: view for view in views}
    publish_json(
        lake,
        {name: _as_document(view) for name, view in known.items()},
        repository(lake) / "views.json",
    )
    return known


def _as_document(view: View) -> dict:
    document = dataclasses.asdict(view)
    del document["name"]
    return document


def _refuse_change(before: View, now: View) -> None:
    for key in sorted(before.contents.keys() | now.contents.keys()):
        was, is_now = before.contents.get(key), now.contents.get(key)
        if was != is_now:
            raise FootpathError(
                f"view {now.name} was registered with {key} = {was} and would now have {is_now}: "
                "a view never changes under its name, so train the model as a new version"
            )


def _vector_length(path: Path, schema: pa.Schema) -> int:
    kind = schema.field("embedding").type
    if not pa.types.is_fixed_size_list(kind):
        raise FootpathError(
            f"{path}: column embedding is {kind}, and a list of a fixed number of float32 values "
            "was expected: write it with contracts.lake.schemas.embeddings_schema"
        )
    return kind.list_size
