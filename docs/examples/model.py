r"""A scikit-learn model on features and embedding: trained, saved with its service, and served.

    python docs/examples/model.py train --repo .footpath/lake/shop/feature_store/stock \
        --labels labels.csv --label bought --out model.joblib
    python docs/examples/model.py serve --repo .footpath/lake/shop/feature_store/stock \
        --model model.joblib u00000000 u00000003

Needs `feast[duckdb]` and `scikit-learn`; nothing of Footpath is imported. The labels are a CSV of
user_id, event_timestamp (when you would have had to predict, with its zone), and a column of 0
and 1.
A file of joblib runs code when it is loaded: load only your own.
"""

import argparse
import os
import sys
import warnings

import joblib
import numpy as np
import pandas as pd
from feast import FeatureService, FeatureStore
from feast.types import Array, String
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.filterwarnings("ignore", category=DeprecationWarning)

ALIAS = "user_representation"


def widths(store: FeatureStore, service: FeatureService) -> dict[str, int]:
    """Columns of the model's input by feature, in the service's order; texts are left out."""
    found = {}
    for projection in service.feature_view_projections:
        dim = int(store.get_feature_view(projection.name).tags.get("dim", 1))
        for feature in projection.features:
            if feature.dtype != String:
                found[feature.name] = dim if isinstance(feature.dtype, Array) else 1
    return found


def matrix(rows: pd.DataFrame, columns: dict[str, int]) -> np.ndarray:
    """Rows x columns, by name: whoever takes columns by place has another order one day.

    What is not known is NaN: a null is no zero.
    """
    parts = []
    for name, width in columns.items():
        if width == 1:
            parts.append(pd.to_numeric(rows[name]).to_numpy(float)[:, None])
        else:
            unknown = np.full(width, np.nan)
            vectors = [unknown if vector is None else vector for vector in rows[name]]
            parts.append(np.array(vectors, float).reshape(len(rows), width))
    return np.hstack(parts)


def train(store: FeatureStore, labels: pd.DataFrame, label: str) -> dict:
    """Trains on what was known when each label was due, by the service that the alias names now."""
    service = store.get_feature_service(store.get_project(store.project).tags[ALIAS])
    features = {f.name for view in service.feature_view_projections for f in view.features}
    if taken := sorted(features & {*labels.columns}):
        sys.exit(f"{', '.join(taken)} of the labels is a feature of {service.name}: rename it")
    # The encoder has seen all events up to then: older labels would look into their own future.
    labels = labels[labels["event_timestamp"] >= pd.Timestamp(service.tags["train_cutoff"])]
    rows = store.get_historical_features(labels, service, filter_by_created_timestamp=True).to_df()
    columns = widths(store, service)
    imputer = SimpleImputer(
        strategy="constant", fill_value=0, add_indicator=True, keep_empty_features=True
    )
    model = make_pipeline(imputer, StandardScaler(), LogisticRegression(max_iter=1_000))
    model.fit(matrix(rows, columns), rows[label])
    return {"service": service.name, "columns": columns, "model": model, "rows": len(rows)}


def serve(store: FeatureStore, saved: dict, users: list[str]) -> pd.Series:
    """The chance of a 1, by the very service that the model was trained on."""
    service = store.get_feature_service(saved["service"])
    rows = store.get_online_features(service, [{"user_id": user} for user in users]).to_df()
    chances = saved["model"].predict_proba(matrix(rows, saved["columns"]))[:, 1]
    return pd.Series(chances, rows["user_id"]).reindex(users)


def moved(store: FeatureStore, saved: dict) -> str:
    """What the alias says to whoever serves an older service; empty where it is the same."""
    now = store.get_project(store.project).tags[ALIAS]
    if now == saved["service"]:
        return ""
    last = store.get_feature_service(saved["service"]).tags.get("last_day", "further notice")
    return f"{ALIAS} is {now} now: train again; {saved['service']} is served until {last}"


def main() -> None:
    """Trains, or serves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "serve"):
        command = commands.add_parser(name)
        command.add_argument("--repo", required=True, help="the folder of feature_store.yaml")
        if name == "train":
            command.add_argument("--labels", required=True)
            command.add_argument("--label", required=True, help="its column of 0 and 1")
            command.add_argument("--out", required=True)
        else:
            command.add_argument("--model", required=True)
            command.add_argument("users", nargs="+")
    asked = parser.parse_args()
    store = FeatureStore(repo_path=asked.repo)
    if asked.command == "train":
        labels = pd.read_csv(asked.labels, dtype={"user_id": str})
        labels["event_timestamp"] = pd.to_datetime(labels["event_timestamp"], utc=True)
        saved = train(store, labels, asked.label)
        joblib.dump(saved, asked.out)
        print(f"{asked.out}: {saved['rows']} labels, of {saved['service']}")
    else:
        saved = joblib.load(asked.model)
        print(serve(store, saved, asked.users).to_string())
        if told := moved(store, saved):
            print(told)


if __name__ == "__main__":
    main()
    # DuckDB 2.0 prints pages about its own leaks when the interpreter ends: leave before that.
    sys.stdout.flush()
    os._exit(0)
