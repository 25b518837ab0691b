"""Text of the data and of the environment, made fit for a terminal, a shell and an error.

In:  ids, names and URLs that anybody may have written. Out: the same without what a terminal takes
for a command, without passwords, and quoted where it is pasted into a shell.
"""

import re
import shlex

from contracts.base.errors import FootpathError

# Control characters but tab and line end, what turns the direction of text, halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_USERINFO = re.compile(r"([A-Za-z][\w+.-]*)://([^/?#\s'\"]+)@")
# Where what stands before the @ is no user but a container.
_AZURE = ("abfs", "abfss", "az", "adl", "wasb", "wasbs")


def shown(text: str) -> str:
    """Text as it may go to a terminal or a log: control characters escaped, passwords left out."""
    text = _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return _USERINFO.sub(lambda f: f[0] if _is_container(f) else f"{f[1]}://***@", text)


def command(*words: str, last: str = "") -> str:
    """A command to paste into a shell.

    Args:
      words: what it is made of, quoted where the shell needs it.
      last: an argument that may begin with a dash, and then comes behind `--`.
    """
    ended = ["--", last] if last.startswith("-") else [last] * bool(last)
    return shlex.join([*words, *ended])


def without_userinfo(url: str, what: str) -> str:
    """A path or URL that holds no user and no password; they would be stored and shown with it.

    Raises:
      FootpathError: it does; `what` says which it is.
    """
    if any(not _is_container(found) for found in _USERINFO.finditer(url)):
        raise FootpathError(
            f"{what} is {shown(url)}, with a user or password in it, which would be stored and "
            f"shown: leave them out, and give them by the variables of the store, such as "
            f"AWS_ACCESS_KEY_ID, or by FSSPEC_<PROTOCOL>_USERNAME and FSSPEC_<PROTOCOL>_PASSWORD"
        )
    return url


def _is_container(found: re.Match[str]) -> bool:
    return found[1].lower() in _AZURE and ":" not in found[2]
