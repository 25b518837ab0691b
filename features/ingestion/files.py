"""Finds source files, and streams their bytes decompressed.

In:  a folder or URL and a pattern; files as they lie there, plain, gzipped or zstd, on their own or
     in tar archives. Out: the files found, with what shows that one has changed; blocks of
     decompressed bytes. What is damaged ends in one sentence.
"""

import errno
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from contracts.base.errors import FootpathError
from contracts.base.hashing import Hasher
from contracts.lake.remote import check_bucket
from contracts.lake.remote import told as store_told
from features.ingestion.archives import SUFFIXES, Archives, members, split_pattern
from features.ingestion.patterns import name_pattern
from features.ingestion.streams import blocks_of, decompressed, open_url, told, watched

if TYPE_CHECKING:
    from features.ingestion.ahead import SmallFiles

# What is not read: without this list its bytes would be taken for text.
FOREIGN = (".zip", ".bz2", ".xz", ".tbz2", ".txz", ".7z", ".lz4", ".snappy", ".br")


@dataclass(frozen=True)
class SourceFile:
    """A file of the source as it lay there when it was found."""

    path: str  # relative to the source folder, or the whole address if the pattern is absolute
    url: str
    size: int
    stamp: str  # changes when the file does: modification time, or the store's ETag
    archive: str = ""  # the path of the archive that it lies in, and then the url is the archive's
    offset: int = 0  # where it begins in the archive's decompressed bytes

    @property
    def place(self) -> tuple[str, int]:
        """Orders files as they lie, so that an archive is read from its start to its end."""
        return self.url, self.offset


def find_files(folder: str, pattern: str) -> list[SourceFile]:
    """Finds the files below folder that match a glob pattern, in order of path.

    Args:
      folder: a local folder or an fsspec URL.
      pattern: relative to the folder; or an absolute path or URL, and then folder is not used.
        Behind a part that ends as an archive does, it goes on with the archive's members.

    Raises:
      FootpathError: the folder is not there or cannot be listed, or an archive is broken.
    """
    if is_absolute(pattern):
        folder, pattern = "", pattern.removeprefix("file://")
    folder = folder.removeprefix("file://")
    finder = _find_remote if "://" in (folder or pattern) else _find_local
    pattern, inside = split_pattern(pattern)
    found = finder(folder, pattern)
    if inside:
        found = (member for archive in found for member in _find_members(archive, inside))
    return sorted(map(_checked, found), key=lambda file: file.path)


def is_absolute(pattern: str) -> bool:
    """Tells whether a pattern says itself where it starts."""
    return "://" in pattern or Path(pattern).is_absolute()


def _checked(file: SourceFile) -> SourceFile:
    """Refuses a name that could not be written into a table."""
    try:
        file.path.encode()
    except UnicodeEncodeError:
        shown = file.path.encode(errors="backslashreplace").decode()
        raise FootpathError(f"{shown} has a name that is not UTF-8: rename it") from None
    return file


def _find_members(archive: SourceFile, inside: str) -> Iterator[SourceFile]:
    """Finds the members of an archive that match a pattern."""
    stamp = f"{archive.stamp}-{archive.size}" if archive.stamp else ""
    matches = name_pattern(inside).fullmatch
    for member in members(archive.path, archive.url, stamp):
        if matches(member.name):
            path = f"{archive.path}/{member.name}"
            if member.flaw:
                raise FootpathError(f"{path} {member.flaw}")
            yield SourceFile(path, archive.url, member.size, stamp, archive.path, member.offset)


def _find_local(folder: str, pattern: str) -> Iterator[SourceFile]:
    root = Path(folder or Path(pattern).anchor)
    if not root.is_dir():
        raise FootpathError(f"the source folder {root} is not there: link the data set again")
    for path in root.glob(pattern.removeprefix(str(root)) if not folder else pattern):
        try:
            status = path.stat()
        except OSError as error:
            # It went between the listing and here, or is a link to nowhere: then it was not found.
            if error.errno in (errno.ENOENT, errno.ELOOP):
                continue
            raise FootpathError(
                f"{path} cannot be read: {error.strerror}: check the file and its rights"
            ) from None
        if stat.S_ISREG(status.st_mode):
            known_as = str(path.relative_to(root) if folder else path)
            yield SourceFile(known_as, str(path), status.st_size, str(status.st_mtime_ns))


def _find_remote(folder: str, pattern: str) -> Iterator[SourceFile]:
    import fsspec

    where = folder or pattern
    try:
        with store_told(where):
            system, root = fsspec.core.url_to_fs(where)
            system.invalidate_cache()  # a long-lived process would see yesterday's listing
            root = root.rstrip("/")
            found = system.glob(f"{root}/{pattern}" if folder else root, detail=True)
            if not found:
                check_bucket(system, where)
    except (OSError, ImportError, ValueError) as error:
        raise FootpathError(
            f"{where} cannot be listed ({error}): "
            f"check the address and the credentials in the environment"
        ) from None
    for name, info in found.items():
        if info["type"] == "file":
            url = system.unstrip_protocol(name)
            path = name[len(root) :].lstrip("/") if folder else url
            yield SourceFile(path, url, info["size"] or 0, _stamp(info))


def _stamp(info: dict[str, Any]) -> str:
    known = ("ETag", "etag", "md5", "LastModified", "mtime", "updated", "last_modified", "created")
    return next((str(info[key]).strip('"') for key in known if info.get(key)), "")


def read_blocks(
    file: SourceFile,
    digest: Hasher | None = None,
    archives: Archives | None = None,
    ahead: "SmallFiles | None" = None,
) -> Iterator[bytes]:
    """Yields a file's decompressed bytes in blocks, by its suffix .gz, .zst or none of them.

    Args:
      file: which.
      digest: is fed the bytes as they lie in the file.
      archives: an archive that it has open goes on where it was left.
      ahead: gives a small file of a store at once.

    Raises:
      FootpathError: the file cannot be read, is truncated or damaged, or is an archive.
    """
    if file.path.lower().endswith(SUFFIXES):
        raise FootpathError(
            f"{file.path} is an archive: say which of its members to read, "
            f"such as {PurePath(file.path).name}/*.csv"
        )
    if file.path.lower().endswith(FOREIGN):
        raise FootpathError(
            f"{file.path}: this kind of compression is not read: "
            f"unpack it, or compress it with gzip or zstd"
        )
    if not file.archive:
        with told(file.path):
            whole = ahead.take(file) if ahead else None
            if whole is not None:
                yield from decompressed(watched(iter([whole]), digest), file.path)
                return
            with open_url(file.url) as handle:
                yield from decompressed(blocks_of(handle, digest), file.path)
    elif archives is None:
        with Archives() as opened:
            yield from read_blocks(file, digest, opened)
    else:
        member = archives.read(file.archive, file.url, file.offset, file.size)
        yield from decompressed(watched(member, digest), file.path)
