"""The version of the code that figures follow from."""

import hashlib
from functools import cache
from pathlib import Path

ROOMS = Path(__file__).parents[2]


@cache
def code_version() -> str:
    """Hash of the source of models/, without what only shows results."""
    root, digest = ROOMS / "models", hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(("leaderboard/", "experiments/")):
            digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]
