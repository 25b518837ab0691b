"""A moving average that is made row by row when needed, against one made at every step."""

import torch

from models.nn.row_average import RowAverage

ROWS, WIDTH = 9, 3


def test_rows_that_catch_up_are_where_following_at_every_step_brings_them():
    torch.manual_seed(0)
    table, expected = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)
    average, state = expected.clone(), RowAverage(ROWS)
    for step in range(50):
        changed = torch.randperm(ROWS - 1)[:2]
        state.catch_up(average, table, changed)
        table[changed] += torch.randn(2, WIDTH)
        decay = 0.0 if step == 20 else 0.9 + step / 500
        expected.lerp_(table, 1 - decay)
        state.follow(decay)
        read = torch.randint(ROWS, (2,))
        state.catch_up(average, table, read)
        torch.testing.assert_close(average[read], expected[read])
    assert not torch.isclose(average, expected).all()
    state.catch_up(average, table, slice(None))
    torch.testing.assert_close(average, expected)
