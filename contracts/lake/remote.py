"""Says in one sentence what is wrong with a store: what an S3 server answers, or that none does.

In:  a URL, and what its client raised. Out: a FootpathError that names the URL and what to check.
Its classes are told by their names, for clients of stores are loaded only where one is used.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from contracts.base.errors import FootpathError

SILENT = (
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionError",
    "EndpointConnectionError",
    "HTTPClientError",
    "ProxyConnectionError",
    "ReadTimeoutError",
    "SSLError",
)
NAMELESS = ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError")

# DuckDB reads a store through Python, and its own error quotes the end of Python's stack trace.
_QUOTED = re.compile(
    rf"^(?:[\w.]+\.)?({'|'.join((*SILENT, *NAMELESS, 'PermissionError'))}): (.*)$", re.M
)


def sentence(kind: str, said: str, url: str) -> str | None:
    """Returns what an exception of a store's client means; None if it is not about the store.

    Args:
      kind: the name of its class.
      said: its message.
      url: what was asked for.
    """
    if quoted := _QUOTED.search(said):
        kind, said = quoted.groups()
    if kind in SILENT:
        where = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return (
            f"{url} cannot be reached: {where or 'S3'} does not answer ({said}): "
            f"check AWS_ENDPOINT_URL, the network, and that the server is up"
        )
    if kind in NAMELESS:
        return f"{url} needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if kind == "PermissionError":
        return (
            f"{url} is refused ({said}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            f"and that they may list, read and write there"
        )
    if kind == "FileNotFoundError" and "bucket" in said.lower():
        return f"{url}: there is no bucket '{urlsplit(url).netloc}': make it, or mend the URL"
    return None


@contextlib.contextmanager
def told(url: str) -> Iterator[None]:
    """Turns what a store's client raises into one sentence.

    Raises:
      FootpathError: the store does not answer, or refuses.
    """
    try:
        yield
    except Exception as error:
        if found := sentence(type(error).__name__, str(error), url):
            raise FootpathError(found) from None
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
