from contracts.config.dataset import load_dataset
from orchestration.assets.evaluation import scratch_rows


def test_an_encoder_of_another_shape_is_not_the_same_from_scratch():
    shop = load_dataset("shop")
    learning = shop.learning.model_copy(
        update={
            "recipes": ["ptum_bag", "wide_bag", "long_bag", "none_bag"],
            "settings": {"wide_bag": {"dim": 64}, "long_bag": {"epochs": 30}},
        }
    )
    found = scratch_rows(shop.model_copy(update={"learning": learning}))
    assert found == {("ptum", "bag"): "none", ("long", "bag"): "none", ("none", "bag"): "none"}
