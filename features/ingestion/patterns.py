"""Names with fields and wildcards -> regular expressions.

In:  a path such as `events/{year}-{month}-{day}/**/*.csv`. Out: a pattern over whole paths, with
the fields as groups of digits and wildcards as `pathlib` globs them.
"""

import re

# Field -> its digits.
FIELDS = {
    "year": r"\d{4}",
    "month": r"\d{2}",
    "day": r"\d{2}",
    "hour": r"\d{2}",
    "hours": r"\d{1,9}",
}
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def name_pattern(name: str) -> re.Pattern[str]:
    """Returns the pattern of the paths that a name with fields and wildcards stands for."""
    known: set[str] = set()
    pattern = ""
    for part in re.split(r"({\w+}|\*\*/|\*\*|\*|\?|\[[^\]]+\])", name):
        field = part.strip("{}")
        if field in FIELDS and part != field:
            pattern += f"(?P={field})" if field in known else f"(?P<{field}>{FIELDS[field]})"
            known.add(field)
        elif part.startswith("[") and part.endswith("]"):
            pattern += f"[^{part[2:]}" if part.startswith("[!") else part
        else:
            pattern += _WILD.get(part, re.escape(part))
    return re.compile(pattern, re.DOTALL)
