"""A training set and an online read with `feast` alone: nothing of Footpath is imported.

    python docs/examples/retrieve.py --repo .footpath/lake/shop/feature_store

A lake on S3 also needs `s3fs`, and the usual AWS_* variables.

Bring your own labels as a CSV of user_id, event_timestamp (when the label was known, with its
zone) and any further columns: `--labels labels.csv`. Without it, five users get a made-up label.
"""

import argparse
import os
import sys
import warnings
from typing import Any

import fsspec
import ibis
import pandas as pd
from feast import FeatureService, FeatureStore

warnings.filterwarnings("ignore", category=DeprecationWarning)


def choose_service(store: FeatureStore, name: str | None) -> FeatureService:
    """Returns the named service, or the one that the alias points at today.

    Write the versioned name down beside the model that you train: it never changes.
    """
    aliases = store.get_project(store.project).tags
    name = name or aliases.get("user_representation") or aliases["user_behavior"]
    return store.get_feature_service(name)


def opened_source(store: FeatureStore, service: FeatureService) -> tuple[Any, str]:
    """Returns where the rows of the service's first view lie: file system and glob.

    From S3, Feast's DuckDB store reads through the same file system once it is registered.
    """
    view = store.get_feature_view(service.feature_view_projections[0].name)
    system, pattern = fsspec.core.url_to_fs(view.batch_source.path)
    if "s3" in system.protocol:
        ibis.get_backend().con.register_filesystem(system)
    return system, pattern


def example_labels(system: Any, pattern: str) -> pd.DataFrame:
    """Returns a label for five users, a day after their newest row."""
    with system.open(max(system.glob(pattern))) as newest:
        rows = pd.read_parquet(newest, columns=["user_id", "event_timestamp"]).head(5)
    rows["event_timestamp"] += pd.Timedelta(days=1)
    return rows.assign(label=range(len(rows)))


def training_set(
    store: FeatureStore, service: FeatureService, labels: pd.DataFrame, retrospective: bool
) -> pd.DataFrame:
    """Returns every label with the features as they were known at its time.

    A column of the labels must not be named like a feature, as `purchase_7d` of the shop is.

    `filter_by_created_timestamp` leaves out what was computed or corrected only later. A label
    older than the encoder's training data would see its own future through the embedding, so it is
    dropped unless `retrospective` says that this is wanted.
    """
    features = {f.name for view in service.feature_view_projections for f in view.features}
    if taken := sorted(features & {*labels.columns}):
        sys.exit(f"{', '.join(taken)} of the labels is a feature of {service.name}: rename it")
    cutoff = service.tags.get("train_cutoff")
    if cutoff and not retrospective:
        labels = labels[labels["event_timestamp"] >= pd.Timestamp(cutoff)]
    return store.get_historical_features(
        entity_df=labels, features=service, filter_by_created_timestamp=True
    ).to_df()


def online_read(store: FeatureStore, service: FeatureService, users: list[str]) -> pd.DataFrame:
    """Returns the newest features of some users; a user whom nobody knows gets empty values."""
    return store.get_online_features(
        features=service, entity_rows=[{"user_id": user} for user in users]
    ).to_df()


def main() -> None:
    """Prints one training set and one online read."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repo", required=True, help="the folder of feature_store.yaml")
    parser.add_argument("--service", help="such as user_representation__v1")
    parser.add_argument("--labels", help="CSV of user_id, event_timestamp and labels")
    parser.add_argument("--allow-retrospective", action="store_true")
    arguments = parser.parse_args()

    store = FeatureStore(repo_path=arguments.repo)
    service = choose_service(store, arguments.service)
    source = opened_source(store, service)
    if arguments.labels:
        labels = pd.read_csv(arguments.labels, dtype={"user_id": str})
        labels["event_timestamp"] = pd.to_datetime(labels["event_timestamp"], utc=True)
    else:
        labels = example_labels(*source)
    training = training_set(store, service, labels, arguments.allow_retrospective)
    print(f"Training set of {service.name}: {len(training)} rows\n{training}\n")
    served = online_read(store, service, labels["user_id"].drop_duplicates().tolist())
    print(f"Online read of {service.name}: {len(served)} users\n{served}")


if __name__ == "__main__":
    main()
    # DuckDB 2.0 prints pages about its own leaks when the interpreter ends: leave before that.
    sys.stdout.flush()
    os._exit(0)
