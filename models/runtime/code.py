"""The version of the code that figures follow from."""

from functools import cache
from pathlib import Path

from contracts.base.hashing import hash_files

MODELS = Path(__file__).parents[1]
SHOWS = ("leaderboard", "experiments")  # packages that only plan and show


@cache
def code_version() -> str:
    """Hash of the source of models/, without what only plans and shows."""
    paths = MODELS.rglob("*.py")
    return hash_files(MODELS, [p for p in paths if p.relative_to(MODELS).parts[0] not in SHOWS])
