"""User vectors of histories: the average over chunks, weighted by their length.

A model that reads a summary of the whole history takes the last chunk beside it, and no other.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.data.batching import blocks, chunks
from models.data.examples import Labeled, last_windows
from models.data.packed import pack, to_device
from models.data.sequences import Sequences
from models.nn.user_model import UserModel

BLOCK_EVENTS = 1 << 20  # of users that are finished together
BATCH_EVENTS = 1 << 14  # that the encoder sees at once


def vector_blocks(
    model: UserModel,
    sequences: Sequences,
    users_U: np.ndarray,
    ends_U: np.ndarray | None = None,
    starts_U: np.ndarray | None = None,
    now_U: np.ndarray | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Encodes what is seen of the users, in memory that does not grow with their number.

    Args:
      model: put into evaluation mode.
      sequences: where the histories are.
      users_U: rows of users; one may come several times, seen up to different instants.
      ends_U: how many of the user's events are seen, one or more; all where it is left out.
      starts_U: the first event that is seen; the user's first where it is left out.
      now_U: unix seconds at which they are looked at, for all chunks of a user alike; in the second
        of each chunk's last event where it is left out.

    Yields:
      A slice of `users_U` and its vectors, float32 [slice, D], on the CPU.
    """
    model.eval()
    starts = np.zeros(len(users_U), np.int64) if starts_U is None else starts_U
    lengths = (sequences.lengths[users_U] if ends_U is None else ends_U) - starts
    for block in blocks(lengths, BLOCK_EVENTS):
        now = None if now_U is None else now_U[block]
        yield block, _vectors(model, sequences, users_U[block], starts[block], lengths[block], now)


def user_vectors(
    model: UserModel,
    sequences: Sequences,
    users_U: np.ndarray,
    ends_U: np.ndarray | None = None,
    starts_U: np.ndarray | None = None,
    now_U: np.ndarray | None = None,
) -> Tensor:
    """Encodes what is seen of the users, as `vector_blocks` says -> float32 [U, D] on the CPU."""
    found = vector_blocks(model, sequences, users_U, ends_U, starts_U, now_U)
    parts = [vectors for _, vectors in found]
    return torch.cat(parts) if parts else torch.zeros(0, model.config.dim)


@torch.no_grad()
def window_vectors(model: UserModel, sequences: Sequences, examples: Labeled) -> Tensor:
    """Encodes the last max_length events of each example -> float32 [n, D] on the CPU."""
    model.eval()
    length, parts = model.config.max_length, [torch.zeros(0, model.config.dim)]
    device = next(model.parameters()).device
    for block in blocks(np.minimum(examples.lengths_n, length), BATCH_EVENTS):
        some = examples.pick(np.arange(block.start, block.stop))
        windows = last_windows(sequences, some, length)
        parts.append(model(to_device(pack(windows), device)).cpu())
    return torch.cat(parts)


@torch.no_grad()
def _vectors(
    model: UserModel,
    sequences: Sequences,
    users_U: np.ndarray,
    starts_U: np.ndarray,
    lengths_U: np.ndarray,
    now_U: np.ndarray | None,
) -> Tensor:
    everyone = np.arange(len(users_U))
    if model.config.summary:
        length = np.minimum(lengths_U, model.config.max_length)
        owner, start = everyone, lengths_U - length
    else:
        owner, start, length = chunks(lengths_U, everyone, model.config.max_length)
    sums_UD = torch.zeros(len(users_U), model.config.dim, dtype=torch.float64)
    device = next(model.parameters()).device
    for batch in blocks(length, BATCH_EVENTS):
        whose = owner[batch]
        now = None if now_U is None else now_U[whose]
        first = starts_U[whose] + start[batch]
        since = starts_U[whose]
        windows = sequences.windows(users_U[whose], first, length[batch], now, since)
        vectors = model(to_device(pack(windows), device)).cpu().double()
        weights = torch.from_numpy(length[batch])[:, None]
        sums_UD.index_add_(0, torch.from_numpy(whose), vectors * weights)
    seen_U = np.bincount(owner, weights=length, minlength=len(users_U))
    return (sums_UD / torch.from_numpy(seen_U)[:, None]).float()
