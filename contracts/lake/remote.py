"""Says in one sentence what is wrong with a store: what an S3 server answers, or that none does.

In:  a URL, and what its client raised. Out: a FootpathError that names the URL and what to check.
The classes are botocore's, which is loaded when there is something to explain.
"""

import builtins
import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from contracts.base.errors import FootpathError, TransientError

# DuckDB reads a store through Python, and its own error quotes the end of Python's stack trace.
_QUOTED = re.compile(r"^(?:[\w.]+\.)?(\w+): (.*)$", re.M)


def sentence(kind: type | str, said: str, url: str) -> str | None:
    """The meaning of an exception of a store's client; None if it is not about the store.

    Args:
      kind: its class, or the name of it where only that is left.
      said: its message.
      url: what was asked for.
    """
    silent, nameless = _silent_and_nameless()
    kind, said = _cause(kind, said)
    if issubclass(kind, silent):
        where = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return (
            f"{url} cannot be reached: {where or 'S3'} does not answer ({said}): "
            f"check AWS_ENDPOINT_URL, the network, and that the server is up"
        )
    if issubclass(kind, nameless):
        return f"{url} needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if issubclass(kind, PermissionError):
        return (
            f"{url} is refused ({said}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            f"and that they may list, read and write there"
        )
    if issubclass(kind, FileNotFoundError) and "bucket" in said.lower():
        return f"{url}: there is no bucket '{urlsplit(url).netloc}': make it, or correct the URL"
    return None


def _silent_and_nameless() -> tuple[tuple[type, ...], tuple[type, ...]]:
    """Exception classes of a store that does not answer, and of missing credentials."""
    from botocore import exceptions as botocore

    silent = (botocore.ConnectionError, botocore.HTTPClientError)
    nameless = (
        botocore.NoCredentialsError,
        botocore.PartialCredentialsError,
        botocore.TokenRetrievalError,
    )
    return silent, nameless


def _cause(kind: type | str, said: str) -> tuple[type, str]:
    """Class and message of an exception, or of the one about the store that it quotes."""
    silent, nameless = _silent_and_nameless()
    for name, quoted in _QUOTED.findall(said):
        if issubclass(found := _class_of(name), (*silent, *nameless, PermissionError)):
            return found, quoted
    return _class_of(kind), said


def _class_of(kind: type | str) -> type:
    from botocore import exceptions as botocore

    if isinstance(kind, type):
        return kind
    found = getattr(botocore, kind, None) or getattr(builtins, kind, None)
    return found if isinstance(found, type) else Exception


@contextlib.contextmanager
def told(url: str) -> Iterator[None]:
    """Turns what a store's client raises into one sentence.

    Raises:
      TransientError: the store does not answer.
      FootpathError: it refuses.
    """
    try:
        yield
    except Exception as error:
        if found := sentence(type(error), str(error), url):
            silent, _ = _silent_and_nameless()
            is_silent = issubclass(_cause(type(error), str(error))[0], silent)
            raise (TransientError if is_silent else FootpathError)(found) from None
        raise


def check_bucket(system: Any, url: str) -> None:
    """Asks S3 once whether a URL's bucket is there and ours: a listing of none is just empty.

    Raises:
      FootpathError: it is not, or nobody answers.
    """
    if urlsplit(url).scheme not in ("s3", "s3a"):
        return
    with told(url):
        try:
            system.call_s3("head_bucket", Bucket=urlsplit(url).netloc)
        except FileNotFoundError:
            raise FileNotFoundError("no such bucket") from None
