"""Bearer tokens of the service: who may read which feature services.

In: `tokens.yaml`, which holds a hash of each token, never the token:

    tokens:
      - name: ranking
        sha256: 4b1c...
        services: ["shop/user_representation__v*", "shop/gender__v*"]

`services` are globs over `<data set>/<service>`. `shop/users` is the right to filter similar users
by attributes of the users table. A token has 256 random bits, so a plain hash hides it.
"""

import hashlib
import hmac
import secrets
import stat
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, StringConstraints, ValidationError

from contracts.base.errors import FootpathError
from contracts.base.schema import Strict, sentences

USERS = "users"  # in the place of a service: the attributes of users


class TokenEntry(Strict):
    """One token."""

    name: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$", max_length=80)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    services: list[Annotated[str, StringConstraints(pattern=r"^.+/.+$")]] = Field(min_length=1)


class TokenFile(Strict):
    """The whole file."""

    tokens: list[TokenEntry] = Field(min_length=1)


@dataclass(frozen=True)
class Caller:
    """Who asks, and what they may read."""

    name: str
    services: tuple[str, ...]

    def may(self, dataset: str, service: str) -> bool:
        """Whether a service of a data set is theirs to read."""
        return any(fnmatchcase(f"{dataset}/{service}", glob) for glob in self.services)


EVERYBODY = Caller("", ("*",))  # of a service on the loopback without tokens


class Tokens:
    """The tokens of a file."""

    def __init__(self, entries: list[TokenEntry]) -> None:
        self._callers = [
            (bytes.fromhex(entry.sha256), Caller(entry.name, tuple(entry.services)))
            for entry in entries
        ]

    def caller(self, authorization: str) -> Caller | None:
        """Whose the header `Authorization` is; all tokens are compared, in constant time."""
        scheme, _, token = authorization.partition(" ")
        given = hashlib.sha256(token.strip().encode()).digest()
        found = None
        for digest, caller in self._callers:
            if hmac.compare_digest(digest, given):
                found = caller
        return found if scheme.lower() == "bearer" else None


def read_tokens(path: Path) -> Tokens:
    """Reads the file of tokens.

    Raises:
      FootpathError: it is not there, others than its owner's group may read it, or it is no such
        file.
    """
    try:
        if path.stat().st_mode & stat.S_IRWXO:
            raise FootpathError(f"{path} may be read by everybody: chmod 600 {path}")
        said = yaml.safe_load(path.read_text())
        entries = TokenFile.model_validate(said).tokens
    except OSError as error:
        raise FootpathError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError:
        raise FootpathError(f"{path} is no YAML: `footpath serve-token` prints a line") from None
    except ValidationError as error:
        raise FootpathError(sentences(error, str(path))) from None
    names = [entry.name for entry in entries]
    if twice := {name for name in names if names.count(name) > 1}:
        raise FootpathError(f"{path} names a token twice: {', '.join(sorted(twice))}")
    return Tokens(entries)


def new_token() -> tuple[str, str]:
    """A new token, and its hash."""
    token = secrets.token_urlsafe(32)
    return token, hashlib.sha256(token.encode()).hexdigest()
