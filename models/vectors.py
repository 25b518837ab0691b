"""User vectors of whole histories: the average over chunks, weighted by their length."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.data import Sequences, blocks, chunks
from models.packed import pack, to_device
from models.user_model import UserModel

BLOCK_EVENTS = 1 << 20  # of users that are finished together
BATCH_EVENTS = 1 << 14  # that the encoder sees at once


def vector_blocks(
    model: UserModel, sequences: Sequences, users_U: np.ndarray
) -> Iterator[tuple[slice, Tensor]]:
    """Encodes every event of the users, in memory that does not grow with their number.

    Args:
      model: put into evaluation mode.
      sequences: where the histories are.
      users_U: rows of users that have one event or more.

    Yields:
      A slice of `users_U` and its vectors, float32 [slice, D], on the CPU.
    """
    model.eval()
    for block in blocks(sequences.lengths[users_U], BLOCK_EVENTS):
        yield block, _vectors(model, sequences, users_U[block])


def user_vectors(model: UserModel, sequences: Sequences, users_U: np.ndarray) -> Tensor:
    """Encodes the users' histories -> float32 [U, D] on the CPU."""
    return torch.cat([vectors for _, vectors in vector_blocks(model, sequences, users_U)])


@torch.no_grad()
def _vectors(model: UserModel, sequences: Sequences, users_U: np.ndarray) -> Tensor:
    owner, start, length = chunks(sequences.lengths, users_U, model.config.max_length)
    sums_UD = torch.zeros(len(users_U), model.config.dim, dtype=torch.float64)
    device = next(model.parameters()).device
    for batch in blocks(length, BATCH_EVENTS):
        windows = sequences.windows(users_U[owner[batch]], start[batch], length[batch])
        vectors = model(to_device(pack(windows), device)).cpu().double()
        weights = torch.from_numpy(length[batch])[:, None]
        sums_UD.index_add_(0, torch.from_numpy(owner[batch]), vectors * weights)
    events = torch.from_numpy(sequences.lengths[users_U])[:, None]
    return (sums_UD / events).float()
