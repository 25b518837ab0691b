"""The items that a softmax reads of a large catalog, and the rule by which it is large."""

import numpy as np
import pytest
import torch

from contracts.recipes.recipe import Recipe
from contracts.recipes.rules import MANY_ITEMS, SAMPLED
from models.data.packed import UNK
from models.nn.catalog import sampled_items
from models.nn.user_model import ModelConfig, build_model
from models.objectives.ptum import item_losses

NEEDED = torch.tensor([7, 12, 7, 30, UNK])


@pytest.mark.parametrize(("items", "most"), [(40, 8), (40, 100), (5000, 8)])
def test_each_free_item_is_as_likely_to_stand_for_all(items, most):
    torch.manual_seed(0)
    free, found = items - UNK - 1 - 3, np.zeros(items)
    for _ in range(2000):
        item_C, log_weight_C = sampled_items(NEEDED, items, most)
        assert item_C[:4].tolist() == [UNK, 7, 12, 30]
        drawn = item_C[4:]
        assert len(drawn.unique()) == len(drawn) > 0
        assert len(drawn) == min(most, free) or items > 16 * most
        assert int(drawn.min()) > UNK
        assert not np.isin(drawn.numpy(), NEEDED.numpy()).any()
        assert (log_weight_C[:4] == 0).all()
        np.testing.assert_allclose(float(log_weight_C[4:].exp().sum()), free, rtol=1e-5)
        np.add.at(found, drawn.numpy(), 1)
    is_free = np.ones(items, bool)
    is_free[[*range(UNK + 1), 7, 12, 30]] = False
    assert found[~is_free].sum() == 0
    for half in (slice(0, items // 2), slice(items // 2, None)):
        expected = is_free[half].sum() / free
        np.testing.assert_allclose(found[half].sum() / found.sum(), expected, atol=0.02)


def model_of(items: int, **settings):
    sizes = {"item": items, "action": 5, "category": 5}
    recipe = Recipe.named("manymask_bag", {"dim": 16, "fields": ["item"]} | settings)
    torch.manual_seed(0)
    return build_model(ModelConfig.of(recipe, sizes))


def test_the_loss_of_a_sample_is_near_that_of_all_items():
    model = model_of(3000, sampled_items=500)
    torch.nn.init.normal_(model.behavior.tables["item"], std=0.5)
    users_BD, user_N = torch.randn(20, 16), torch.arange(100) % 20
    item_N = torch.randint(UNK + 1, 3000, (100,))
    logits_BV = users_BD @ model.behavior.items().T
    logits_BV[:, : UNK + 1] = -torch.inf
    expected = torch.nn.functional.cross_entropy(logits_BV[user_N], item_N)
    found = [item_losses(model, users_BD, user_N, item_N)[0].mean() for _ in range(20)]
    torch.testing.assert_close(torch.stack(found).mean(), expected, rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("items", "settings", "expected"),
    [
        (MANY_ITEMS - 1, {}, (0, False)),
        (MANY_ITEMS, {}, (SAMPLED, True)),
        (MANY_ITEMS, {"sampled_items": 0, "lazy_items": False}, (0, False)),
        (10, {"sampled_items": 5, "lazy_items": True}, (5, True)),
    ],
)
def test_from_a_size_on_a_step_does_not_read_all_items_unless_it_is_told_to(
    items, settings, expected
):
    model = model_of(items, **settings)
    assert (model.behavior.sampled, model.behavior.is_lazy) == expected
    catalog = model.behavior.catalog(torch.tensor([5]))
    assert (catalog.item_C is not None) == bool(expected[0])
    catalog.items_CD.sum().backward()
    is_sparse = model.behavior.tables["item"].grad.is_sparse
    assert is_sparse == (expected[1] and catalog.item_C is not None)
