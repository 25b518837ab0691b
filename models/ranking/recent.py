"""The items that came up last, and how much more likely each is to come next for it.

Where people come back to what they looked at, the last item itself is the best guess of the next,
and no product of vectors says so of an item that training has seldom met (Ren et al., RepeatNet,
AAAI 2019, lets a network choose between repeating and exploring; here a weight a place does).

Shapes: n examples, R places from the last, V items.
"""

import numpy as np
import torch
from torch import Tensor

from models.data.examples import Labeled
from models.data.packed import PAD, UNK, ragged_arange
from models.data.sequences import Sequences

RECENT = 10  # items that are told apart by their place
LOOK_BACK = 100  # events among which they are looked for
BLOCK = 1 << 14  # examples whose last events are held at once
# Against a sum of losses, on half the squares: places side by side are worth about as much as each
# other, so a place that few labels speak of follows its neighbors.
STEP_PENALTY, LEVEL_PENALTY = 1.0, 0.01


def recent_items(sequences: Sequences, examples: Labeled) -> np.ndarray:
    """The distinct items of each example's last events, the latest first.

    Returns:
      int64 [n, RECENT]; [PAD] where there are no more. What the vocabulary does not know is no one.
    """
    everyone = np.arange(len(examples.users_n))
    blocks = [everyone[start : start + BLOCK] for start in range(0, len(everyone), BLOCK)]
    parts = [_recent(sequences, examples.pick(block)) for block in blocks]
    return np.concatenate([np.zeros((0, RECENT), np.int64), *parts])


def _recent(sequences: Sequences, examples: Labeled) -> np.ndarray:
    count = len(examples.users_n)
    taken_n = np.minimum(examples.lengths_n, LOOK_BACK).astype(np.int64)
    row = np.repeat(np.arange(count), taken_n)
    back = ragged_arange(torch.from_numpy(taken_n)).numpy()
    last_n = sequences.offsets[examples.users_n] + examples.ends_n - 1
    item = np.asarray(sequences.item[last_n[row] - back], dtype=np.int64)
    key = row * sequences.sizes["item"] + item
    latest = np.sort(np.unique(key, return_index=True)[1])
    latest = latest[item[latest] > UNK]
    row, item = row[latest], item[latest]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    found = np.full((count, RECENT), PAD, np.int64)
    is_told = place < RECENT
    found[row[is_told], place[is_told]] = item[is_told]
    return found


def add_repeats(scores_nC: Tensor, weight_R: Tensor, recent_nR: Tensor, column_nR: Tensor) -> None:
    """Adds the weight of its place to the score of each recent item, in place.

    Args:
      scores_nC: scores of C items.
      weight_R: what each place adds.
      recent_nR: the items.
      column_nR: where they stand among the C.
    """
    row, nth = torch.nonzero(recent_nR > UNK, as_tuple=True)
    scores_nC.index_put_((row, column_nR[row, nth]), weight_R[nth], accumulate=True)


def fit_repeats(recent_nR: Tensor, right_n: Tensor, share_nR: Tensor) -> Tensor:
    """Fits what each place adds to a ranking's scores -> [R].

    What a softmax over all items comes to changes by the recent ones alone, so their shares are all
    that is needed of it.

    Args:
      recent_nR: recent items of examples.
      right_n: the items that were right.
      share_nR: what the ranking gives each recent item of all, 1 in sum over all items.
    """
    weight_R = torch.zeros(recent_nR.shape[1], dtype=torch.float64, requires_grad=True)
    if not recent_nR.numel():
        return weight_R.detach().float()
    share_nR = share_nR.double() * (recent_nR > UNK)
    is_right_nR = ((recent_nR == right_n[:, None]) & (recent_nR > UNK)).double()
    optimizer = torch.optim.LBFGS([weight_R], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total_n = torch.log1p((share_nR * torch.expm1(weight_R)).sum(1))
        loss = (total_n - is_right_nR @ weight_R).sum() + repeat_penalty(weight_R)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return weight_R.detach().float()


def repeat_penalty(weight_R: Tensor) -> Tensor:
    """What weights cost before any example has spoken: a walk in small steps, from 0."""
    return (STEP_PENALTY * weight_R.diff().square().sum() + LEVEL_PENALTY * weight_R @ weight_R) / 2
