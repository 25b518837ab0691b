"""Whose requests a server on this machine answers: those by its own names, of its own pages.

A server without a login is open to every page in a browser beside it: by a request across sites,
or by a name of the page's own that it lets point here (DNS rebinding). So a request is refused

  whose Host is a name, unless it is localhost, this machine's, or one that was given;
  that a page of another site sends. Links to pages work from anywhere.
"""

import os
import re
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers


def refusal(headers: Headers, path: str, names: frozenset[str], variable: str) -> str:
    """Why a request is refused; empty if it is not.

    Args:
      headers: of the request.
      path: that it asks for.
      names: of this server, besides addresses.
      variable: of the environment, by which further names are given.
    """
    host = headers.get("host", "")
    if not _is_own(host, names):
        return f"'{host}' is no name of this server: add it to {variable} if it is"
    origin = urlsplit(headers.get("origin", f"//{host}"))
    if origin.netloc != host and origin.hostname not in names:
        return f"a page of '{origin.geturl()}' has no business here: see {variable}"
    is_link = headers.get("sec-fetch-mode") == "navigate" and not path.endswith("/graphql")
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_link:
        return "a page of another site has no business here"
    return ""


def names_of(variable: str, *further: str) -> frozenset[str]:
    """The names that a server is reached by, besides addresses.

    Args:
      variable: of the environment; names with commas between them.
      further: names that are known otherwise.
    """
    given = os.environ.get(variable, "").split(",")
    found = {"localhost", socket.gethostname(), *(name.strip() for name in given), *further}
    return frozenset(name.lower() for name in found if name)


def _is_own(host: str, names: frozenset[str]) -> bool:
    name = re.sub(r":\d*$", "", host).lower()
    if name in names:
        return True
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))  # which no name was resolved to
    except ValueError:
        return False
    return True
