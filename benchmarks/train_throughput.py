"""How many events a second we pre-train on: against pytorch-lifestream, or method against method.

    python -m benchmarks.train_throughput --peer-env ~/lifestream     # against pytorch-lifestream
    python -m benchmarks.train_throughput --methods byb,byb-,msdp,ptum  # source users a second
    python -m benchmarks.train_throughput --recipes ptum_bert4rec barlow_bag
    python -m benchmarks.train_throughput --recipes ptum_bert4rec next_gru4rec \
        --items 5000 100000 1000000 --against ~/footpath-before       # two versions of the code

One counted event is one real position that goes through the encoder once: padding and CLS slots
never count, each view does. Users have a mean of about 100 events with a long tail. Rates are per
second of process CPU time, which a loaded machine distorts least, and per wall second; each is the
median over repeats, which take turns: one of ours, one of the peer's.

The peer lives in an environment of its own, which the first run makes in --peer-env (a temporary
folder without it): a venv with benchmarks/requirements-lifestream.txt.

Same work: users, batches of 128, views (two random slices of 15 to 200 events; for masked events
a window of 200 at most), fields (item, action, category), 64 dimensions, 2 layers, 4 heads,
feed-forward 256 with ReLU, projector 3 x 256, share of hidden events and 5 negatives. Dropout lies
where each has it: the peer's torch layer also drops attention weights and the inside of the
feed-forward. That costs it much, so `--dropout 0` gives the ratio of bare arithmetic. The peer's
fields lie side by side (48 + 8 + 8), ours are summed, 64 each.

With --against, the same recipes in another checkout take turns with this one, each turn in a
process of its own that may hold --memory-gb; one that needs more fails, and has no rate.

On a GPU (--device cuda) it also says which share of the card's peak (--peak-tflops) the products
reach, and which share of the time the card idles.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.random_log import write_log
from contracts.recipes.jobs import TrainJob
from contracts.recipes.recipe import Recipe
from models.data.sequences import Sequences, open_sequences
from models.train import build
from models.training.trainer import Trainer

HERE = Path(__file__).parent
WARM_UP = 2  # steps that are not timed
WORKS = ("barlow_bert4rec", "masked_bert4rec", "barlow_gru4rec")
HIDE_SHARE, NEGATIVES = 0.15, 5
OPTIONS = {
    "barlow": {"shortest": 15, "hide_share": 0.0, "reorder_share": 0.0},
    "masked": {"hide_share": HIDE_SHARE, "negatives": NEGATIVES},
}
TRANSFORMER = {"layers": 2, "heads": 4, "feedforward": 4, "activation": "relu"}


def main() -> None:
    """Prints one JSON object a measurement, then one a comparison."""
    options = arguments()
    if options.against:
        against_checkout(options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sequences = open_sequences(write_log(folder, options.users, options.items[0]))
        if options.recipes:
            compare(sequences, [{"recipe": recipe} for recipe in options.recipes], options)
        elif options.methods:
            compare(sequences, [transformer_of(m, 100) for m in options.methods], options)
        else:
            with peer(options.peer_env or folder / "peer", folder / "log") as ask:
                against_peer(sequences, ask, options)


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Events a second of pre-training.")
    parser.add_argument("--peer-env", type=Path, help="folder of the peer's environment")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--methods", type=lambda text: text.split(","), help="on the Transformer")
    parser.add_argument("--recipes", nargs="+", help="ours as they come, without the peer")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--items", type=int, nargs="+", default=[5000], help="in the vocabulary")
    parser.add_argument("--against", type=Path, help="another checkout, for --recipes")
    parser.add_argument("--memory-gb", type=float, default=8.0, help="of a turn, with --against")
    parser.add_argument("--steps", type=int, default=8, help="timed, of ours")
    parser.add_argument("--peer-steps", type=int, default=3, help="timed, of the peer's")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.1])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak-tflops", type=float, help="of the card, in the precision used")
    return parser.parse_args()


def against_checkout(options: argparse.Namespace) -> None:
    """Lets another checkout take turns with this one on each recipe and size of catalog."""
    folders = {"ours": HERE.parent, "against": options.against.resolve()}
    for items in options.items:
        for recipe in options.recipes:
            found: dict[str, list[float]] = {who: [] for who in folders}
            for _ in range(options.repeats):
                for who, folder in folders.items():
                    found[who].append(turn(folder, recipe, items, options))
            rate = {who: median(rates) for who, rates in found.items()}
            factor = round(rate["ours"] / rate["against"], 2) if rate["against"] else None
            say(recipe=recipe, items=items, **{w: round(r) for w, r in rate.items()}, ratio=factor)


def turn(folder: Path, recipe: str, items: int, options: argparse.Namespace) -> float:
    """Events a CPU-second of a checkout, measured in a process of its own; 0 where it fails."""
    asked = {"recipes": recipe, "items": items, "repeats": 1, "threads": options.threads[0]}
    asked |= {"users": options.users, "steps": options.steps, "batch-size": options.batch_size}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.train_throughput"]
    command += [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    most = int(options.memory_gb * (1 << 30))
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most)),
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        print(f"{folder}: {said[-1] if said else done.returncode}", file=sys.stderr, flush=True)
        return 0.0
    return json.loads(done.stdout.splitlines()[-1])["events_per_cpu_second"]


def against_peer(sequences: Sequences, ask: Any, options: argparse.Namespace) -> None:
    """Takes turns with the peer on each work, and prints medians and their ratio."""
    for work in options.works:
        for threads in options.threads:
            for dropout in options.dropout if "bert4rec" in work else options.dropout[:1]:
                request = {
                    "work": work,
                    "threads": threads,
                    "dropout": dropout,
                    "batch_size": options.batch_size,
                    "hide_share": HIDE_SHARE,
                    "negatives": NEGATIVES,
                    "device": options.device,
                    "steps": options.peer_steps,
                }
                ours, theirs = [], []
                for seed in range(options.repeats):
                    settings = same_work(work, dropout) | {"seed": seed}
                    ours.append(measure(sequences, settings, threads, options))
                    theirs.append(rates(ask(request | {"seed": seed})))
                    say(work=work, ours=ours[-1], peer=theirs[-1])
                say(
                    work=work,
                    threads=threads,
                    dropout=dropout,
                    ours=medians(ours),
                    peer=medians(theirs),
                    ratio_cpu=ratio(ours, theirs, "events_per_cpu_second"),
                    ratio_wall=ratio(ours, theirs, "events_per_second"),
                )


def compare(sequences: Sequences, each: list[dict], options: argparse.Namespace) -> None:
    """Lets some of our recipes take turns; the last one is what the others are compared with."""
    for threads in options.threads:
        found: list[list[dict]] = [[] for _ in each]
        for seed in range(options.repeats):
            for n, settings in enumerate(each):
                found[n].append(measure(sequences, settings | {"seed": seed}, threads, options))
        for settings, runs in zip(each, found, strict=True):
            say(
                recipe=settings["recipe"],
                method=settings.get("method", {}),
                threads=threads,
                **medians(runs),
                users_against_last=ratio(runs, found[-1], "users_per_cpu_second"),
            )


def same_work(work: str, dropout: float) -> dict[str, Any]:
    """Returns our settings for what the peer does under the same name."""
    method, encoder = work.split("_")
    fields = ["item", "action", "category"]
    if encoder == "gru4rec":  # the peer's recurrent encoder drops nothing and ends in a state
        shape = {"dropout": 0.0, "pooling": "last"}
    else:
        shape, fields = TRANSFORMER | {"dropout": dropout}, [*fields, "position"]
    return {
        "recipe": work,
        "max_length": 200,
        "fields": fields,
        "encoder": shape,
        "method": OPTIONS[method],
    }


def transformer_of(method: str, max_length: int) -> dict[str, Any]:
    """Returns a method as it comes on the Transformer; 'byb-' leaves out BYB's helper loss."""
    bare = method.endswith("-")
    return {
        "recipe": f"{method.removesuffix('-')}_bert4rec",
        "max_length": max_length,
        "encoder": TRANSFORMER,
        "method": {"hidden_weight": 0.0} if bare else {},
    }


def measure(
    sequences: Sequences, settings: dict, threads: int, options: argparse.Namespace
) -> dict[str, float]:
    """Times some steps of the real trainer, sampling and optimizer included."""
    torch.set_num_threads(threads)
    told = {"batch_size": options.batch_size} | settings
    name, seed = told.pop("recipe"), told.pop("seed")
    io = {"sequences": sequences.path, "out": "unused"}
    job = TrainJob.model_validate({"recipe": Recipe.named(name, told), "seed": seed, "io": io})
    model, objective = build(job, sequences)
    trainer = Trainer(job, sequences, model.to(options.device), objective.to(options.device))
    trainer.trained.train()
    for _ in range(WARM_UP):
        trainer.step()
    events, begun = trainer.history.events, clocks(options.device)
    for _ in range(options.steps):
        trainer.step()
    wall, cpu = (now - then for now, then in zip(clocks(options.device), begun, strict=True))
    found = rates({"events": trainer.history.events - events, "wall": wall, "cpu": cpu})
    users = options.steps * options.batch_size
    found |= {"users_per_cpu_second": users / cpu, "events_a_user": found["events"] / users}
    if options.device != "cpu":
        found |= card_shares(trainer, options)
    return found


def rates(seen: dict[str, float]) -> dict[str, float]:
    """Adds events a second to events and seconds."""
    more = {"events_per_cpu_second": seen["events"] / seen["cpu"]}
    if "slots" in seen:
        more["padding_share"] = 1 - seen["events"] / seen["slots"]
    return seen | more | {"events_per_second": seen["events"] / seen["wall"]}


def card_shares(trainer: Trainer, options: argparse.Namespace) -> dict[str, float]:
    """Returns which share of the card's peak the products reach, and which share it idles."""
    with FlopCounterMode(display=False) as counter:
        trainer.step()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    begun = clocks(options.device)
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(options.steps):
            trainer.step()
        wall = clocks(options.device)[0] - begun[0]
    busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
    shares = {"idle_share": max(0.0, 1 - busy / wall)}
    if options.peak_tflops:
        done = counter.get_total_flops() * options.steps / wall
        shares["share_of_peak"] = done / (options.peak_tflops * 1e12)
    return shares


def clocks(device: str) -> tuple[float, float]:
    """Returns wall and CPU seconds, once the device is done."""
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Returns the median of each figure."""
    return {name: round(median(run[name] for run in runs), 3) for name in runs[0]}


def ratio(ours: list[dict], theirs: list[dict], figure: str) -> float:
    """Returns the median over the turns of ours to theirs."""
    pairs = zip(ours, theirs, strict=True)
    return round(median(mine[figure] / its[figure] for mine, its in pairs), 2)


def say(**facts: Any) -> None:
    """Prints a line of JSON."""
    print(json.dumps(facts), flush=True)


@contextmanager
def peer(environment: Path, log: Path) -> Iterator[Any]:
    """Starts the peer, after making its environment where there is none, and gives what asks it."""
    python = environment / "bin" / "python"
    if not python.exists():
        print(f"installing the peer into {environment}", file=sys.stderr, flush=True)
        venv.create(environment, with_pip=True)
        wanted = ["-r", str(HERE / "requirements-lifestream.txt")]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    command = [str(python), str(HERE / "lifestream.py"), str(log)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:

        def ask(request: dict) -> dict:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request) + "\n")
            answer = process.stdout.readline()
            if not answer:
                raise SystemExit("the peer ended without an answer: its own words are above")
            return json.loads(answer)

        try:
            yield ask
        finally:
            assert process.stdin is not None
            process.stdin.close()


if __name__ == "__main__":
    main()
