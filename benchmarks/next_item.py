"""Next item on MovieLens 1M: the last rating of every user, ranked among all films.

    python -m benchmarks.next_item                                     # hstu, board A, 100 passes
    python -m benchmarks.next_item --models hstu_large --board B --seeds 0 1 2
    python -m benchmarks.next_item --models hstu rectools_hstu --passes 20 --peer-env ~/rectools
    python -m benchmarks.next_item --models hstu rectools_hstu --throughput --peer-env ~/rectools

Protocol: all 6,040 users and 3,706 films; within a user by time, ratings of one second in the order
of the file. The last rating of each user is the test's target, the one before it the validation's;
neither is ever trained on. Every few passes the validation targets are ranked, and the weights with
the best HR@10 are kept for the one ranking of the test targets. All films compete but those that
the user has rated; ties count as chance. Board A: nobody knows when the target is rated. Board B:
it is known (HSTU's and FuXi's published figures are of such), in training as well.

RecTools (0.19.0) is the peer, in an environment of its own, which the first run makes in
--peer-env: same users, order, targets, ranking and choice of the pass. Settings of both are the
published ones where there are any.

What is finished lies in --out, one Parquet file a model, board and seed (the place of the target of
each user): asked for again, it is read. What was killed goes on from its last state.
"""

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.stats import binomtest
from torch import Tensor

from benchmarks.movielens import Log, read_movielens
from benchmarks.train_throughput import measure, medians, rates, say
from contracts.recipes.jobs import TrainJob
from contracts.recipes.recipe import Recipe
from models.data.examples import Labeled, last_windows
from models.data.sequences import Sequences
from models.leaderboard.bootstrap import Bootstrap
from models.leaderboard.significance import paired_bootstrap
from models.metrics.formulas import FORMULAS
from models.metrics.predictions import Predicted
from models.nn.user_model import UserModel
from models.ranking.ranks import Scores, rank_examples
from models.ranking.zero_shot import native
from models.runtime.report import Reporter
from models.train import build
from models.training.trainer import Trainer

HERE = Path(__file__).parent
DATA = HERE.parent.parent / "shared" / "data" / "ml-1m"
METRICS = ("recall@10", "ndcg@10")
COMMON = {
    "dim": 50,
    "max_length": 200,
    "fields": ["item"],
    "batch_size": 32,
    "lr": 0.002,
    "method": {"temperature": 0.05},
    "encoder": {"name": "hstu", "layers": 2, "heads": 1, "dropout": 0.2},
    "validation": None,
    "collapse": "off",
}
OURS = {
    "hstu": {},
    "hstu_large": {"encoder": {"layers": 8, "heads": 2}},
    "rotary": {"dim": 48, "encoder": {"name": "rotary"}},
    "gru4rec": {"encoder": {"name": "gru4rec"}},
}
PEERS = ("rectools_sasrec", "rectools_hstu", "rectools_hstu_large")


def main() -> None:
    """Prints one JSON object a run, then one a pair of models."""
    options = arguments()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    log = read_movielens(options.data)
    if options.throughput:
        throughput(log, options)
        return
    found = {
        model: [ranked(model, seed, log, options) for seed in options.seeds]
        for model in options.models
    }
    first, *others = options.models
    for other in others:
        compare(first, found[first], other, found[other])


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Next item on MovieLens 1M.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with ratings.dat")
    parser.add_argument("--out", type=Path, default=Path(".footpath/next_item"))
    parser.add_argument("--models", nargs="+", choices=(*OURS, *PEERS), default=["hstu"])
    parser.add_argument("--board", choices=("A", "B"), default="A")
    parser.add_argument("--passes", type=int, default=100)
    parser.add_argument("--every", type=int, default=2, help="passes between two validations")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--settings", type=json.loads, default={}, help="of our recipes, as JSON")
    parser.add_argument("--label", default="", help="of runs with settings")
    parser.add_argument(
        "--peer-settings", type=json.loads, default={}, help="as JSON: lr, batch_size"
    )
    parser.add_argument("--peer-env", type=Path, default=Path(".footpath/rectools"))
    parser.add_argument("--throughput", action="store_true", help="events a second, in turns")
    parser.add_argument("--steps", type=int, default=8, help="timed, with --throughput")
    parser.add_argument("--repeats", type=int, default=3, help="turns, with --throughput")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of our models")
    options = parser.parse_args()
    if bool(options.settings or options.peer_settings) != bool(options.label):
        parser.error("settings and --label go together: files are named by the label")
    return options


def settings_of(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Settings of one of our recipes, the later part overriding the earlier."""
    found: dict[str, Any] = dict(COMMON)
    for part in (OURS[model], options.settings):
        for name, value in part.items():
            is_section = isinstance(value, dict)
            found[name] = found.get(name, {}) | value if is_section else value
    encoder = found["encoder"]
    if encoder["name"] == "gru4rec":
        encoder = {"name": "gru4rec", "dropout": encoder["dropout"]}
    if encoder["name"] == "hstu":
        encoder = encoder | {"query_time": options.board == "B"}
    elif options.board == "B":
        raise SystemExit(f"{model} cannot read when the target comes: board B is for hstu")
    return found | {"encoder": encoder, "epochs": options.passes}


def ranked(model: str, seed: int, log: Log, options: argparse.Namespace) -> Predicted:
    """The place of each user's test target, read from the file of the run or found out."""
    name = "-".join(filter(None, (model, options.label, options.board, f"{options.passes}p{seed}")))
    path = options.out / f"{name}.parquet"
    if not path.exists():
        run = ours if model in OURS else peers
        (options.out / name).mkdir(parents=True, exist_ok=True)
        columns, facts = run(model, seed, log, options, options.out / name)
        columns = {"user_id": log.user_id_U} | columns
        table = pa.table(columns).replace_schema_metadata({"facts": json.dumps(facts)})
        pq.write_table(table, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    table = pq.read_table(path)
    found = {split: _predicted(table, split, log) for split in ("valid", "test")}
    figures = {
        f"{split}_{metric}": round(FORMULAS[metric].value(each), 4)
        for split, each in found.items()
        for metric in METRICS
    }
    say(run=name, **figures, **json.loads(table.schema.metadata[b"facts"]))
    return found["test"]


def _predicted(table: pa.Table, split: str, log: Log) -> Predicted:
    places = np.stack([table[f"{split}_{what}"].to_numpy() for what in ("first", "tied")], axis=1)
    from_last = {"test": 1, "valid": 2}[split]
    return Predicted(
        "ranking", np.arange(len(places)), log.item_N[log.offsets[1:] - from_last], places
    )


def ours(
    model: str, seed: int, log: Log, options: argparse.Namespace, folder: Path
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Trains one of our recipes, and ranks validation and test targets."""
    settings = settings_of(model, options)
    recipe = Recipe.named(f"next_{settings['encoder']['name']}", settings)
    io = {"sequences": options.data, "out": folder}
    job = TrainJob.model_validate({"recipe": recipe, "seed": seed, "io": io})
    train, whole, is_b = log.sequences(held_out=2), log.sequences(), options.board == "B"
    user_model, objective = build(job, train)
    user_model.to(options.device)
    examples = {"valid": log.examples(2, is_b), "test": log.examples(1, is_b)}
    judge = Validation(recipe, whole, examples["valid"], options.every)
    trainer = Trainer(job, train, user_model, objective, judge)
    history = trainer.fit(Progress())
    columns = {}
    for split, some in examples.items():
        places = places_of(recipe, user_model, whole, some)
        columns |= {f"{split}_first": places[:, 0], f"{split}_tied": places[:, 1]}
    facts = {"best_pass": (history.best_epoch() or 0) + 1, "seconds": round(history.seconds)}
    return columns, facts | {"events": history.events}


def places_of(
    recipe: Recipe, model: UserModel, sequences: Sequences, examples: Labeled
) -> np.ndarray:
    """The first place of each right item, from 1, and with how many others it is tied [n, 2]."""
    reading = model.config.reading(sequences)
    scorer = native(recipe.method, model, reading)
    assert scorer is not None

    def score(some: Labeled, block: slice) -> Scores:  # noqa: ARG001
        query_nD = scorer.queries(last_windows(reading, some, recipe.max_length))
        return lambda rows: scorer.scores(query_nD[rows])

    return rank_examples(score, reading, examples, exclude=True).scores_n2


class Validation:
    """The `Judge` of a trainer: ranks the validation targets; the loss is minus their HR@10."""

    fingerprint = "recall@10 of each user's last rating but one"

    def __init__(self, recipe: Recipe, whole: Sequences, examples: Labeled, every: int) -> None:
        self.recipe, self.whole, self.examples, self.every = recipe, whole, examples, every

    def is_due(self, epochs: int, planned: int) -> bool:
        """Every few passes, and after the last."""
        return epochs % self.every == 0 or epochs == planned

    def loss(self, model: UserModel) -> float:
        """Ranks the targets."""
        places = places_of(self.recipe, model, self.whole, self.examples)
        found = Predicted("ranking", self.examples.users_n, self.examples.y_n, places)
        return -FORMULAS["recall@10"].value(found)

    def is_over(self, losses_E: Tensor) -> bool:  # noqa: ARG002
        """The schedule is made for all passes."""
        return False


class Progress(Reporter):
    """A line a pass, on standard error: standard output holds results."""

    def _send(self, message: dict[str, Any]) -> None:
        if message.get("event") != "progress":
            print(json.dumps(message), file=sys.stderr, flush=True)


def peers(
    model: str, seed: int, log: Log, options: argparse.Namespace, folder: Path
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Lets the peer train and rank, in a process of its own."""
    asked = {"passes": options.passes, "every": options.every}
    ask_peer(model, seed, log, options, folder, asked)
    found = np.load(folder / "places.npz")
    facts = json.loads((folder / "facts.json").read_text())
    return {name: found[name] for name in found.files}, facts


def ask_peer(
    model: str,
    seed: int,
    log: Log,
    options: argparse.Namespace,
    folder: Path,
    asked: dict[str, Any],
) -> None:
    """Runs the peer on a request, after making its environment where there is none."""
    python = options.peer_env / "bin" / "python"
    if not python.exists():
        print(f"installing the peer into {options.peer_env}", file=sys.stderr, flush=True)
        venv.create(options.peer_env, with_pip=True)
        wanted = ["-r", str(HERE / "requirements-rectools.txt")]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    np.savez(folder / "log.npz", offsets=log.offsets, item=log.item_N, time=log.time_N)
    request = {"model": model.removeprefix("rectools_"), "board": options.board, "seed": seed}
    request |= {"threads": options.threads, "settings": options.peer_settings} | asked
    (folder / "request.json").write_text(json.dumps(request))
    subprocess.run([python, str(HERE / "rectools_next_item.py"), str(folder)], check=True)


def compare(first: str, ours: list[Predicted], other: str, theirs: list[Predicted]) -> None:
    """Prints differences of two models on the same users: by bootstrap and, of hits, McNemar's."""
    pairs, bootstrap = list(zip(ours, theirs, strict=True)), Bootstrap()
    for metric in METRICS:
        found = paired_bootstrap(metric, pairs, bootstrap)
        assert found is not None
        interval = [round(found.low, 4), round(found.high, 4)]
        say(model=first, against=other, metric=metric, by=round(found.mean, 4), interval=interval)
    for n, pair in enumerate(pairs):
        is_hit = [each.scores_nC[:, 0] <= 10 for each in pair]
        only_ours, only_theirs = (int((a & ~b).sum()) for a, b in (is_hit, is_hit[::-1]))
        p = binomtest(only_ours, max(1, only_ours + only_theirs)).pvalue
        say(seed=n, hits_of_one_alone=[only_ours, only_theirs], mcnemar_p=float(f"{p:.2g}"))


def throughput(log: Log, options: argparse.Namespace) -> None:
    """Lets models take turns in making some steps, and prints medians."""
    train, options.batch_size = log.sequences(held_out=2), COMMON["batch_size"]
    folder = options.out / "throughput"
    folder.mkdir(exist_ok=True)
    found: dict[str, list[dict[str, float]]] = {model: [] for model in options.models}
    for seed in range(options.repeats):
        for model in options.models:
            if model in OURS:
                settings = settings_of(model, options)
                recipe = f"next_{settings['encoder']['name']}"
                timed = settings | {"recipe": recipe, "seed": seed}
                found[model].append(measure(train, timed, options.threads, options))
            else:
                ask_peer(model, seed, log, options, folder, {"steps": options.steps})
                found[model].append(rates(json.loads((folder / "facts.json").read_text())))
    for model, runs in found.items():
        say(model=model, board=options.board, **medians(runs))


if __name__ == "__main__":
    main()
