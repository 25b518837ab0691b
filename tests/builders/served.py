"""A lake of the shop with features, vectors by a real model, and a task model, ready to serve."""

import datetime as dt
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from contracts.lake.copies import local_copy
from contracts.lake.layout import Lake
from contracts.lake.pointers import pointed_folder
from contracts.lake.publishing import publish_folder, publish_table
from contracts.lake.schemas import USERS as USERS_SCHEMA
from contracts.lake.versions import all_versions, allocate, allocate_for_task, trial_folder
from contracts.recipes.checkpoint import TaskFacts, Validated
from contracts.recipes.jobs import TaskSpec
from features.behavior.tables import ITEMS as ITEM_FEATURES
from features.learning.sequences import build_sequences
from features.store import apply_registry, materialize, promote, publish_embeddings
from features.store.view_specs import behavior_view
from models.checkpoint import BODY, VOCABULARY, load_checkpoint, save_checkpoint
from models.embed import embed
from models.probing.fitted import LinearModel
from models.probing.heads import FeatureScaler
from models.probing.probe import Linear, Standardizer
from models.probing.profile_head import Preparation, ProfileHead
from models.probing.task_model import TaskModel
from models.runtime.report import Reporter
from models.train import train
from orchestration.embedding.days import job_of, plan_days, publish_day
from tests.builders.datasets import shop
from tests.builders.events import AS_OF, BERLIN, CUTOFF, Event, publish_events, publish_items
from tests.builders.jobs import embed_job, train_job
from tests.builders.store import behavior_rows, publish_behavior

SHOP = shop()
MODEL, TASK_MODEL = "none_bag_v1", "none_bag_v1_age"
PROFILE = "none_bag_v1_gender_profile"
DELAY = dt.timedelta(minutes=SHOP.features.delay_minutes)
PEOPLE = [f"u{n}" for n in range(12)]
BANDS = ("under 25", "25-34", "35-49")
ITEMS = [
    ("shoe", "Red running shoe", "shoes", [("brand", "acme")]),
    ("book", "A book of birds", "books", None),
    ("lamp", None, "decor", [("brand", "lumen")]),
]
FIELDS = ["item", "action", "category", "gap", "age", "value", "position", "text"]


def events_of_people() -> list[Event]:
    """What everybody did: ties, searches, unknown items, days apart, nothing of one user."""
    random, found = np.random.default_rng(0), []
    for number, user in enumerate(PEOPLE[:-1]):
        instant = CUTOFF - dt.timedelta(days=2 + number % 3, seconds=7)
        for n in range(3 + number % 5):
            instant += dt.timedelta(minutes=int(random.choice([0, 1, 29, 45, 300])))
            action = str(random.choice(["search", "view", "purchase"]))
            is_search = action == "search"
            item = None if is_search else str(random.choice(["shoe", "book", "lamp", "rare"]))
            words = str(random.choice(["red shoe", "birds", "unheard of"]))
            value = 9.5 if action == "purchase" else None
            name = f"{user}-{n:03}"
            said = {"query": words} if is_search else {}
            found.append(Event(user, instant, name, action, item, value, said))
    return found


def histories() -> dict[str, list[dict]]:
    """User -> their events, as a request brings them."""
    found = defaultdict(list)
    for event in sorted(events_of_people(), key=lambda e: (e.user_id, e.timestamp, e.event_id)):
        row = {"timestamp": event.timestamp.isoformat(), "action": event.action}
        row |= {"item_id": event.item_id, "value": event.value, "properties": event.properties}
        found[event.user_id].append(row)
    return found


def serve_shop(lake: Lake) -> None:
    """Publishes everything, promotes both models, and writes the online store."""
    publish_events(lake, events_of_people(), BERLIN)
    publish_items(lake, ITEMS)
    rows = [
        {"user_id": u, "attributes": [("gender", "fm"[n % 2]), ("age_band", BANDS[n % 3])]}
        for n, u in enumerate(PEOPLE[:-2])
    ]
    publish_table(lake, pa.Table.from_pylist(rows, USERS_SCHEMA), lake.single("users"))
    publish_behavior(lake, AS_OF, behavior_rows(SHOP, AS_OF, PEOPLE[:-1], 10))
    items = behavior_rows(SHOP, AS_OF, [item for item, *_ in ITEMS], 20, table=ITEM_FEATURES)
    publish_behavior(lake, AS_OF, items, name=ITEM_FEATURES.name)
    base = allocate(lake, "none_bag", "base", str(AS_OF))
    tuned = allocate_for_task(lake, base, "age", "tuned")
    assert (base.version, tuned.version) == (MODEL, TASK_MODEL)
    settings = {"sequences": str(_local(lake, build_sequences(SHOP, lake, AS_OF).pointer))}
    settings |= {"recipe": "none_bag", "dim": 8, "max_length": 4, "fields": FIELDS}
    settings |= {"text": {"width": 4}, "summary": True}  # of all events, more than the encoder sees
    with lake.staging() as folder:
        train(train_job(settings | {"out": str(folder / "base")}), Reporter())
        _finetune(folder / "base", folder / "tuned")
        for version in (base, tuned):
            publish_folder(folder / version.trial, version.folder(lake))
    apply_registry(SHOP, lake)
    for version in (MODEL, TASK_MODEL):
        embed_day(lake, version)
        promote(SHOP, lake, version)
    materialize(SHOP, lake)


def embed_day(lake: Lake, version: str) -> None:
    """Embeds AS_OF with a version, as the asset does."""
    checkpoint = local_copy(lake, trial_folder(lake, {MODEL: "base", TASK_MODEL: "tuned"}[version]))
    pointer = _local(lake, build_sequences(SHOP, lake, AS_OF, checkpoint / VOCABULARY).pointer)
    with lake.staging() as folder:
        out = folder / f"{version}.parquet"
        job = {"sequences": pointer, "checkpoint": checkpoint, "out": out, "model_version": version}
        clocks = {"event_timestamp": CUTOFF.isoformat(), "created": (CUTOFF + DELAY).isoformat()}
        embed(embed_job(job | clocks), Reporter())
        publish_embeddings(lake, version, AS_OF, out)


def _local(lake: Lake, pointer: Path) -> Path:
    """Sequences where a program finds them, as the asset fetches them."""
    local_copy(lake, pointed_folder(pointer))
    return local_copy(lake, pointer)


def serve_profile(lake: Lake) -> None:
    """Adds a profile of the task `gender`, on features, vectors and items, to what is served."""
    base = next(v for v in all_versions(lake) if v.version == MODEL)
    found = allocate_for_task(lake, base, "gender", "profile", is_profile=True)
    assert found.version == PROFILE
    checkpoint, random = load_checkpoint(base.folder(lake)), np.random.default_rng(1)
    view = behavior_view(SHOP, lake)
    names = tuple(c.name for c in view.columns if c.kind in ("int64", "float64"))
    columns = len(names)
    scaler = FeatureScaler(
        np.arange(columns) % 2 == 0, np.ones(columns), np.full(columns, 3.0), np.array([0, 2])
    )
    dim, items = checkpoint.model.config.dim, checkpoint.facts.sizes["item"]
    standardizer = Standardizer(torch.zeros(dim), torch.ones(dim))
    width = {"joint_lr": dim + scaler.width, "items_lr": items}
    members = {
        name: (0.5, LinearModel(random.normal(size=(2, size)) / 5, np.zeros(2)))
        for name, size in width.items()
    }
    head = ProfileHead(Preparation(standardizer, scaler), np.ones(items), members, np.zeros(2))
    body = {f"{BODY}{name}": x for name, x in checkpoint.model.state_dict().items()}
    task = TaskFacts(
        spec=TaskSpec(name="gender"),
        classes=("f", "m"),
        target_center=0.0,
        target_spread=1.0,
        protocol="frozen",
        profile=head.facts(view.name, names, 10),
        validation=Validated(metric="auc", value=0.5),
    )
    facts = checkpoint.facts.pretraining | {"task": task, "identity": "profile"}
    words = (base.folder(lake) / VOCABULARY).read_text()
    save_checkpoint(found.folder(lake), body | head.tensors(), facts, {}, words)
    with lake.staging() as folder:
        (planned,) = plan_days(SHOP, lake, [(AS_OF, PROFILE)], folder, print)
        job = job_of([planned])
        assert job
        embed(job, Reporter())
        publish_day(lake, planned)
    promote(SHOP, lake, PROFILE)
    materialize(SHOP, lake)


def _finetune(base: Path, out: Path) -> None:
    """Saves a task model of three classes with a head of random weights."""
    checkpoint, random = load_checkpoint(base), torch.Generator().manual_seed(0)
    dim = checkpoint.model.config.dim
    head = Linear(torch.randn(3, dim, generator=random), torch.zeros(3))
    model = TaskModel(checkpoint.model, Standardizer(torch.zeros(dim), torch.ones(dim)), head)
    task = TaskFacts.model_validate(
        {
            "spec": {"name": "age", "metric": "accuracy"},
            "classes": BANDS,
            "target_center": 0.0,
            "target_spread": 1.0,
            "protocol": "finetuned",
            "finetuning": {},
            "validation": {"metric": "accuracy", "value": 0.5},
        }
    )
    facts = checkpoint.facts.pretraining | {"task": task}
    save_checkpoint(out, model.state_dict(), facts, {}, (base / VOCABULARY).read_text())
