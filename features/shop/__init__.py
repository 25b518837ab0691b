"""The synthetic shop: a believable source of events at any scale, from a seed.

In: a number of users and days, and a seed. Out: a folder as a real source would fill it, that is,
`events/<day>/<hour>.jsonl.gz` by arrival (UTC), `items.csv`, `users.csv`, and `truth.json`, which
counts what was put in: repeated deliveries, late events, malformed rows, bots. It exists so that
the whole chain runs and can be judged without anybody's data.

The stages, each a module: `catalog` (what is sold), `population` (who buys), `behavior` (what
they do in a day), `delivery` (how the log gets damaged on its way), `lines` (the bytes),
`generate` (the whole). `calendar` tells the time, `truth` keeps count.
"""

from features.shop.generate import generate_shop
from features.shop.truth import ShopTruth

__all__ = ["ShopTruth", "generate_shop"]
