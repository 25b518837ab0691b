"""The update by row against the formulas one row at a time, and against dense AdamW."""

import math

import pytest
import torch

from models.training.lazy_adam import LazyAdamW

ROWS, WIDTH, STEPS = 12, 4, 60
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def table_of() -> torch.nn.Parameter:
    torch.manual_seed(0)
    return torch.nn.Parameter(torch.randn(ROWS, WIDTH, dtype=torch.float64))


def lazy_of(table: torch.nn.Parameter) -> LazyAdamW:
    return LazyAdamW([{"params": [table], "weight_decay": 0.0, "by_row": True}], lr=0.1, fused=True)


def lr_at(step: int) -> float:
    return 0.1 * math.cos(step / STEPS)


def steps(always: bool):
    """Rows and their gradients in each step; a row that comes twice has the sum of both."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        rows = torch.randint(ROWS, (5,), generator=generator)
        rows = torch.cat([torch.arange(ROWS), rows]) if always else rows.clamp(max=ROWS - 2)
        yield rows, torch.randn(len(rows), WIDTH, generator=generator, dtype=torch.float64)


def train(table: torch.nn.Parameter, optimizer: torch.optim.Optimizer, some, lr=lr_at) -> None:
    for step, (rows, gradients) in enumerate(some):
        optimizer.param_groups[0]["lr"] = lr(step)
        table.grad = torch.sparse_coo_tensor(rows[None], gradients, table.shape)
        if isinstance(optimizer, torch.optim.AdamW) and not isinstance(optimizer, LazyAdamW):
            table.grad = table.grad.to_dense()
        optimizer.step()


def test_rows_are_updated_as_the_formulas_say_one_by_one():
    table = table_of()
    expected = by_hand(table.detach().tolist())
    train(table, lazy_of(table), steps(always=False))
    torch.testing.assert_close(table.detach(), torch.tensor(expected, dtype=torch.float64))


def by_hand(weights: list[list[float]]) -> list[list[float]]:
    r = BETA1 / math.sqrt(BETA2)
    known = [[{"m": 0.0, "v": 0.0} for _ in row] for row in weights]
    last, count, rate = [0] * ROWS, [0] * ROWS, [0.0] * ROWS
    for step, (rows, gradients) in enumerate(steps(always=False), start=1):
        for row in sorted(set(rows.tolist())):
            gradient = gradients[rows == row].sum(0).tolist()
            waited = step - last[row]
            due = sum(r**n for n in range(waited))
            ahead = 1 / (1 - r * (1 - count[row] / last[row])) if last[row] else 0.0
            last[row], count[row], before = step, count[row] + 1, rate[row]
            rate[row] = lr_at(step - 1) * math.sqrt(1 - BETA2**step) / (1 - BETA1**step)
            later = 1 / (1 - r * (1 - count[row] / step))
            for place, of in enumerate(known[row]):
                back = before * (ahead - due) * of["m"] / (math.sqrt(of["v"]) + EPS)
                of["m"] = BETA1**waited * of["m"] + (1 - BETA1) * gradient[place]
                of["v"] = BETA2**waited * of["v"] + (1 - BETA2) * gradient[place] ** 2
                root = math.sqrt(of["v"]) + EPS * math.sqrt(1 - BETA2**step)
                weights[row][place] += back - later * rate[row] * of["m"] / root
    return weights


def test_where_every_row_has_a_gradient_in_every_step_it_is_adamw():
    lazy, dense = table_of(), table_of()
    train(lazy, lazy_of(lazy), steps(always=True))
    train(dense, torch.optim.AdamW([dense], weight_decay=0.0), steps(always=True))
    torch.testing.assert_close(lazy, dense)


def test_a_dense_gradient_is_one_of_all_rows():
    sparse, dense = table_of(), table_of()
    train(sparse, lazy_of(sparse), steps(always=True))
    optimizer = lazy_of(dense)
    for step, (rows, gradients) in enumerate(steps(always=True)):
        optimizer.param_groups[0]["lr"] = lr_at(step)
        dense.grad = torch.zeros_like(dense).index_add_(0, rows, gradients)
        optimizer.step()
    torch.testing.assert_close(sparse, dense)


def test_a_row_that_no_step_met_keeps_its_bits():
    table = table_of()
    before = table.detach().clone()
    optimizer = lazy_of(table)
    train(table, optimizer, steps(always=False))
    assert torch.equal(table[ROWS - 1], before[ROWS - 1])
    assert not torch.isclose(table[: ROWS - 1], before[: ROWS - 1]).any()
    assert (optimizer.state[table]["exp_avg"][ROWS - 1] == 0).all()


@pytest.mark.parametrize("gap", [2, 7, 40])
def test_a_row_that_is_seldom_met_gets_as_far_as_in_dense_adam(gap):
    """Torch's SparseAdam gets it a tenth as far where it is met every fortieth step."""
    lazy, dense = table_of(), table_of()
    start = lazy.detach().clone()
    gradient = torch.ones(1, WIDTH, dtype=torch.float64)
    no_row = torch.zeros(0, dtype=torch.int64), gradient[:0]
    met = [(torch.tensor([0]), gradient) if n % gap == 0 else no_row for n in range(800)]
    train(lazy, lazy_of(lazy), met, lambda _: 0.1)
    train(dense, torch.optim.AdamW([dense], weight_decay=0.0), met, lambda _: 0.1)
    torch.testing.assert_close(lazy[0] - start[0], dense[0] - start[0], rtol=0.1, atol=0)
