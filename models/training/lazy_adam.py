"""AdamW that leaves alone the rows of a table to which a step gives no gradient.

The dense update reads and writes all of an item table, its gradient and two moments, however few
items a batch has: above some size that is most of the cost of a step. A table whose lookups give
sparse gradients (`BehaviorEncoder.is_lazy`) is updated here by row. Rows without a gradient keep
weights and state bit for bit.

Dense Adam goes on moving a row by its momentum where no gradient comes: after the step itself, by
r = beta1 / sqrt(beta2) of it in the next one, by r^2 in the one after. Left out (torch's
SparseAdam), a row that is seldom met learns ten times slower. So a row goes that way at once, as
far as it is likely to get before it is next met, and the difference is made good when it is:

    rate  = steps that gave the row a gradient / all steps
    ahead = 1 + r (1 - rate) + (r (1 - rate))^2 + ...     expected, of the unit u = lr m' / sqrt(v')

    with the next gradient g, k steps later:
      p = p + (ahead - (1 + r + ... + r^(k - 1))) u       what dense Adam would have done in k steps
      m = beta1^k m + (1 - beta1) g                       moments decay by the steps that went by
      v = beta2^k v + (1 - beta2) g^2
      p = p - ahead u                                     with the new rate, m', v' and lr

A row that has a gradient in each step has rate 1, ahead 1 and k = 1: that is AdamW. For others it
is AdamW but for where a row is between being met and met again (by expectation, not exactly), and
for the schedule, which stands still in between.

Shapes: V rows of a table, U of them that have a gradient, D width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# What is kept of each row: the step of its last gradient, how many it had, and the learning rate
# then with both corrections for bias. Floats, as which torch restores all state of a float weight.
ROWS = ("last_V", "count_V", "rate_V")


class LazyAdamW(torch.optim.AdamW):
    """AdamW that updates the tables of groups with `by_row` by row; these have no weight decay."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Updates all weights that have a gradient."""
        by_row = []
        for group in (group for group in self.param_groups if group.get("by_row")):
            for table in (table for table in group["params"] if table.grad is not None):
                self._update_rows(table, group)
                by_row.append((table, table.grad))
                table.grad = None
        super().step(closure)
        for table, gradient in by_row:
            table.grad = gradient

    def _update_rows(self, table: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[table], group["betas"]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
            state |= {name: table.new_zeros(len(table)) for name in ROWS}
        state["step"] += 1
        step = float(state["step"])
        row_U, gradient_UD = _rows_of(table)
        last_U, count_U, lr_U = (state[name][row_U] for name in ROWS)
        mean_UD, square_UD = state["exp_avg"][row_U], state["exp_avg_sq"][row_U]

        ratio, waited_U = beta1 / beta2**0.5, step - last_U
        due_U = (1 - ratio**waited_U) / (1 - ratio)
        ahead_U = 1 / (1 - ratio * (1 - count_U / last_U.clamp(min=1)))
        back_U1 = (lr_U * (ahead_U - due_U))[:, None]
        rows_UD = table[row_U].addcdiv_(back_U1 * mean_UD, square_UD.sqrt().add_(group["eps"]))

        mean_UD.mul_(beta1 ** waited_U[:, None]).add_(gradient_UD, alpha=1 - beta1)
        square_UD.mul_(beta2 ** waited_U[:, None])
        square_UD.addcmul_(gradient_UD, gradient_UD, value=1 - beta2)
        unbiased = (1 - beta2**step) ** 0.5
        lr = group["lr"] * unbiased / (1 - beta1**step)
        ahead_U = 1 / (1 - ratio * (1 - (count_U + 1) / step))
        scale_UD = square_UD.sqrt().add_(group["eps"] * unbiased)
        rows_UD.addcdiv_(mean_UD * ahead_U[:, None], scale_UD, value=-lr)

        table[row_U] = rows_UD
        state["exp_avg"][row_U], state["exp_avg_sq"][row_U] = mean_UD, square_UD
        state["last_V"][row_U], state["count_V"][row_U] = step, count_U + 1
        state["rate_V"][row_U] = lr


def _rows_of(table: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that have a gradient [U], and it [U, D]; of a dense one, all."""
    assert table.grad is not None
    if not table.grad.is_sparse:
        return torch.arange(len(table), device=table.device), table.grad
    gradient = table.grad.coalesce()
    return gradient.indices()[0], gradient.values()
