"""What the shop sells: categories, product kinds, brands, prices, and how demand moves.

In: a number of items and a seed. Out: a `Catalog`, and `items.csv`. A *cell* is one product kind
of one category; items of a cell are neighbors of one another, and popularity within a cell
follows Zipf's law. An item is known inside by its *slot*, its place in order of cells, and outside
by an id that says nothing about it.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from features.shop.randomness import Stream, generator

COLORS = ("Navy", "Black", "White", "Sand", "Olive", "Burgundy", "Sky Blue", "Charcoal", "Rose")
EDITIONS = ("Paperback", "Hardcover", "Large Print", "Illustrated", "Anniversary Edition")
MODELS = ("Classic", "Pro", "Plus", "Lite", "Compact", "Max", "Eco", "Studio")
SIZES = ("30 ml", "50 ml", "75 ml", "100 ml", "Travel Size", "Gift Set")
BRANDS = (
    "Alder & Finch", "Bergwind", "Cassia", "Dunmore", "Elbhafen", "Fjordlane", "Greta Holm",
    "Halden", "Isarwerk", "Juniper Row", "Kestrel", "Lindqvist", "Maren", "Nordlicht", "Oakridge",
    "Palermo", "Quill", "Rosenthaler", "Solveig", "Tamsin", "Ulmer", "Vesper", "Westbrook", "Zora",
)  # fmt: skip
BRANDS_PER_CATEGORY = 8

KINDS = 4
REFRESH_DAYS = 28  # after so long, a cell's least sold item is relaunched as its best seller


class Category(NamedTuple):
    """One category and who likes it when."""

    name: str
    kinds: tuple[str, str, str, str]  # in order of the age that each appeals to
    variants: tuple[str, ...]
    price: float  # median, EUR
    women: float  # half the log odds of women's interest over men's
    age: float  # at which interest peaks
    month: int  # in which it sells best; 0 where there is none


CATEGORIES = (
    Category("dresses", ("Mini Dress", "Wrap Dress", "Linen Dress", "Evening Dress"),
             COLORS, 59, 1.3, 30, 6),
    Category("shirts", ("Printed Tee", "Overshirt", "Linen Shirt", "Oxford Shirt"),
             COLORS, 35, -0.4, 35, 5),
    Category("trousers", ("Baggy Jeans", "Slim Jeans", "Chino Trousers", "Corduroy Trousers"),
             COLORS, 69, -0.2, 33, 9),
    Category("shoes", ("Canvas Sneaker", "Running Shoe", "Chelsea Boot", "Leather Loafer"),
             COLORS, 89, 0.3, 32, 10),
    Category("jackets", ("Puffer Jacket", "Denim Jacket", "Rain Jacket", "Wool Coat"),
             COLORS, 129, 0.0, 36, 11),
    Category("bags", ("Belt Bag", "Backpack", "Tote Bag", "Leather Handbag"),
             COLORS, 79, 0.9, 34, 0),
    Category("jewellery", ("Ear Cuff", "Charm Bracelet", "Silver Necklace", "Pearl Earrings"),
             MODELS, 49, 0.9, 40, 12),
    Category("cosmetics", ("Lip Gloss", "Face Serum", "Day Cream", "Night Cream"),
             SIZES, 24, 1.1, 33, 0),
    Category("phones", ("Gaming Phone", "Smartphone", "Foldable Phone", "Big-Button Phone"),
             MODELS, 399, -0.6, 27, 11),
    Category("audio", ("Earbuds", "Bluetooth Speaker", "Studio Headphones", "Record Player"),
             MODELS, 119, -0.6, 28, 11),
    Category("games", ("Game Controller", "Racing Game", "Strategy Game", "Jigsaw Puzzle"),
             MODELS, 45, -0.8, 22, 12),
    Category("fitness", ("Resistance Band", "Dumbbell Set", "Yoga Mat", "Walking Poles"),
             COLORS, 39, 0.2, 30, 1),
    Category("outdoor", ("Hammock", "Trekking Pack", "Two-Person Tent", "Folding Chair"),
             COLORS, 99, -0.4, 38, 6),
    Category("tools", ("Multi-Tool", "Cordless Drill", "Circular Saw", "Workbench"),
             MODELS, 89, -1.1, 46, 4),
    Category("garden", ("Herb Planter", "Solar Light", "Raised Bed", "Hedge Trimmer"),
             MODELS, 45, 0.2, 58, 4),
    Category("kitchen", ("Air Fryer", "Espresso Machine", "Cast-Iron Pan", "Stand Mixer"),
             MODELS, 85, 0.5, 44, 12),
    Category("decor", ("LED Strip", "Scented Candle", "Linen Cushion", "Table Lamp"),
             COLORS, 29, 0.7, 38, 11),
    Category("books", ("Fantasy Novel", "Crime Novel", "Cookbook", "Biography"),
             EDITIONS, 16, 0.3, 50, 12),
    Category("baby", ("Baby Carrier", "Pushchair", "Cot", "Wooden Blocks"),
             COLORS, 75, 0.6, 33, 0),
    Category("pets", ("Dog Toy", "Cat Tree", "Dog Bed", "Bird Feeder"),
             COLORS, 35, 0.2, 47, 0),
)  # fmt: skip
CELLS = len(CATEGORIES) * KINDS


@dataclass(frozen=True)
class Catalog:
    """All items, in order of slots; I items in C cells."""

    item_ids: pa.StringArray  # [I]
    titles: pa.StringArray  # [I]
    brands: pa.StringArray  # [I]
    prices: pa.StringArray  # [I], decimal text in EUR
    cells: np.ndarray  # int32[I]
    cell_start: np.ndarray  # int32[C], the first slot of each cell
    cell_size: np.ndarray  # int32[C]
    phase: np.ndarray  # int32[C], days by which each cell's relaunches are shifted

    @property
    def size(self) -> int:
        """The number of items."""
        return len(self.cells)

    def rotation(self, day: int) -> np.ndarray:
        """Returns by how many slots each cell's ranking has moved on by that day: int32[C].

        The item of rank r lies in slot start + (r - rotation) mod size: with every relaunch the
        last becomes the first and all others grow a rank older.
        """
        return ((day + self.phase) // REFRESH_DAYS).astype(np.int32) % self.cell_size


def item_count(users: int) -> int:
    """How many items a shop with so many users sells."""
    return min(max(300, users // 2), 50_000)


def make_catalog(items: int, seed: int) -> Catalog:
    """Draws a catalog of so many items, at least two to a cell."""
    rng = generator(seed, Stream.CATALOG)
    appeal = rng.dirichlet(np.full(CELLS, 4.0))
    drawn = rng.choice(CELLS, items - 2 * CELLS, p=appeal)
    cells = np.sort(np.concatenate([np.repeat(np.arange(CELLS), 2), drawn])).astype(np.int32)
    size = np.bincount(cells, minlength=CELLS).astype(np.int32)
    brand = (cells // KINDS * 5 + rng.integers(0, BRANDS_PER_CATEGORY, items)) % len(BRANDS)
    numbers = pa.array(rng.permutation(items)).cast(pa.string())
    return Catalog(
        item_ids=pc.binary_join_element_wise("i", pc.utf8_lpad(numbers, 5, "0"), ""),
        titles=_titles(cells, brand, rng),
        brands=pa.array(BRANDS).take(pa.array(brand)),
        prices=_prices(cells, brand, rng),
        cells=cells,
        cell_start=(np.cumsum(size) - size).astype(np.int32),
        cell_size=size,
        phase=rng.integers(0, REFRESH_DAYS, CELLS),
    )


def write_items(catalog: Catalog, path: Path) -> None:
    """Writes `items.csv`: item, title, category, brand, price; in order of item ids."""
    names = pa.array([category.name for category in CATEGORIES])
    table = pa.table(
        {
            "item": catalog.item_ids,
            "title": catalog.titles,
            "category": names.take(pa.array(catalog.cells // KINDS)),
            "brand": catalog.brands,
            "price": pc.cast(catalog.prices, pa.float64()),
        }
    )
    pyarrow.csv.write_csv(table.sort_by("item"), path)


def season(day_of_year: int) -> np.ndarray:
    """What the time of year adds to the log interest in each category: float32[20]."""
    peak = np.array([(c.month - 0.5) / 12 for c in CATEGORIES])
    strength = np.array([0.5 if c.month else 0.0 for c in CATEGORIES])
    return (strength * np.cos(2 * math.pi * (day_of_year / 365 - peak))).astype(np.float32)


def queries() -> list[str]:
    """What people type: for each cell, KINDS texts from the exact to the vague."""
    texts = []
    for category in CATEGORIES:
        for kind in category.kinds:
            words = kind.lower()
            texts += [words, words.split()[-1], f"{words} sale", category.name]
    return texts


def _titles(cells: np.ndarray, brand: np.ndarray, rng: np.random.Generator) -> pa.StringArray:
    kinds = pa.array([kind for category in CATEGORIES for kind in category.kinds])
    variants = pa.array([v for category in CATEGORIES for v in category.variants])
    count = np.array([len(category.variants) for category in CATEGORIES])
    category = cells // KINDS
    variant = (np.cumsum(count) - count)[category] + rng.integers(0, count[category])
    named = pc.binary_join_element_wise(
        kinds.take(pa.array(cells)), variants.take(pa.array(variant)), ", "
    )
    return pc.binary_join_element_wise(named, pa.array(BRANDS).take(pa.array(brand)), " - ")


def _prices(cells: np.ndarray, brand: np.ndarray, rng: np.random.Generator) -> pa.StringArray:
    """Whole euros less five cents: the category's median, the brand's tier, and chance."""
    tier = np.exp(rng.normal(0, 0.25, len(BRANDS)))
    median = np.array([category.price for category in CATEGORIES])[cells // KINDS]
    euros = np.ceil(median * tier[brand] * np.exp(rng.normal(0, 0.35, len(cells))))
    return pc.binary_join_element_wise(
        pa.array((euros - 1).clip(1).astype(np.int64)).cast(pa.string()), "95", "."
    )
