"""What the service is told at its start, handed to its processes by one environment variable."""

import ipaddress
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from contracts.base.errors import FootpathError

VARIABLE = "FOOTPATH_SERVE"
HOSTS = "FOOTPATH_SERVE_HOSTS"  # names that it is reached by, with commas between them


@dataclass(frozen=True)
class Settings:
    """What all processes of a service share."""

    datasets: tuple[str, ...] = ()  # none: all that are enabled
    tokens: str = ""  # path of the file; none: everybody may read
    refresh_seconds: float = 3.0
    flush_seconds: float = 30.0
    threads: int = 8  # requests at a time in each process

    def export(self) -> None:
        """Hands the settings to processes that are started from here."""
        os.environ[VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def handed(cls) -> "Settings":
        """The settings that this process was started with."""
        found = json.loads(os.environ[VARIABLE])
        return cls(**found | {"datasets": tuple(found["datasets"])})


def check_address(host: str, tokens: Path | None) -> None:
    """Refuses to answer other machines without tokens.

    Raises:
      FootpathError: the address is not of the loopback, and there are no tokens.
    """
    if tokens is None and not _is_loopback(host):
        raise FootpathError(
            f"--host {host} lets other machines ask: give --tokens with a file of tokens "
            "(`footpath serve-token NAME` makes one)"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
