"""Several ranks train as one process would: what passes between them.

Each rank encodes its part of the users of a batch. The loss of the batch is the mean over ranks of
what each returns, so gradients are averaged. Two things make this the loss of one process:
`gather` brings vectors together where users are compared with each other (the loss is then the same
on every rank), and `share` weighs a mean over a rank's own rows by how many of all rows they are.

Outside `torchrun` there is one rank, and everything here leaves values as they are, bit for bit.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from contracts.base.errors import FootpathError

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)
PATIENCE = timedelta(hours=2)  # of ranks that wait, such as while the first one validates


class RankLostError(FootpathError):
    """Another rank has stopped, and has said why."""


def rank() -> int:
    """Which rank this process is, from 0."""
    return dist.get_rank() if _is_joined() else 0


def size() -> int:
    """How many ranks train together."""
    return dist.get_world_size() if _is_joined() else 1


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Joins the ranks that `torchrun` started, if it did: gloo on CPUs, nccl between GPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if _is_lost(error):
            raise RankLostError(f"rank {rank()} stops, for another rank did") from None
        raise
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within it this thread is the one rank there is: what it computes waits for no other."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def part(users_B: np.ndarray) -> np.ndarray:
    """Returns this rank's users of a batch; the ranks' parts in order are the batch."""
    return np.array_split(users_B, size())[rank()]


def gather(x_BD: Tensor) -> Tensor:
    """The rows of all ranks in order, with gradient to every rank's own rows."""
    if size() == 1:
        return x_BD
    return _Gather.apply(x_BD)  # type: ignore[return-value]


def share(count: int) -> float:
    """What a mean over `count` rows of this rank is to be multiplied by.

    The mean over ranks of those products is the mean over the rows of all ranks.
    """
    if size() == 1:
        return 1.0
    everyone = total([count])[0]
    return size() * count / everyone if everyone else 0.0


def total(values: Sequence[float]) -> list[float]:
    """Each number summed over ranks, in double precision."""
    if size() == 1:
        return list(values)
    summed = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(summed)
    return summed.tolist()


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Gives every rank the mean gradient; a weight that no rank used keeps none.

    One flat sum after the backward pass, in the place of DistributedDataParallel: that one lays
    its buckets out anew after the first step, so a run that resumes would add in another order,
    and it does not know of the collectives inside the loss.
    """
    if size() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    tables, trained = _by_row(trained)
    for table in tables:
        table.grad = _mean_of_rows(table)
    is_used = torch.tensor([float(p.grad is not None) for p in trained]).to(trained[0])
    flat = torch.cat([*(_gradient(p).reshape(-1) for p in trained), is_used])
    dist.all_reduce(flat)
    *means, is_used = (flat / size()).split([*(p.numel() for p in trained), len(trained)])
    for parameter, mean, used in zip(trained, means, is_used.tolist(), strict=True):
        parameter.grad = mean.view_as(parameter) if used else None


def _by_row(trained: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The weights of which some rank has a gradient of some rows alone, and the others."""
    ranks = total([float(p.grad is not None and p.grad.is_sparse) for p in trained])
    pairs = list(zip(trained, ranks, strict=True))
    return [p for p, count in pairs if count], [p for p, count in pairs if not count]


def _mean_of_rows(table: Tensor) -> Tensor:
    """The mean gradient of a table, sparse; a rank that has a dense one gives all rows of it."""
    rows = _gradient(table)
    rows = (rows if rows.is_sparse else rows.to_sparse(1)).coalesce()
    indices, values = torch.cat(_parts(rows.indices()[0])), torch.cat(_parts(rows.values()))
    return torch.sparse_coo_tensor(indices[None], values / size(), table.shape).coalesce()


def _parts(x: Tensor) -> list[Tensor]:
    """The rows of each rank, of which they may hold different numbers; they travel padded."""
    counts = [0] * size()
    counts[rank()] = len(x)
    counts = [int(count) for count in total(counts)]
    padded = x.new_zeros(max(counts), *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return [part[:count] for part, count in zip(parts, counts, strict=True)]


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _is_joined() -> bool:
    return not _ALONE.get() and dist.is_available() and dist.is_initialized()


class _Gather(torch.autograd.Function):
    """Its gradient sums what all ranks' losses ask of a row: the rule of total derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = _parts(x)
        ctx.first, ctx.count = sum(len(part) for part in parts[: rank()]), len(x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        summed = grads[0].contiguous().clone()
        dist.all_reduce(summed)
        return summed[ctx.first : ctx.first + ctx.count]


def _is_lost(error: RuntimeError) -> bool:
    """Tells a broken connection from other faults; gloo has no class of its own for it."""
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    text = str(error)
    return "gloo" in text.lower() or "Connection closed by peer" in text
