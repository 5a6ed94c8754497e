"""The place of an output: what may be replaced there, where it is made, how it is put there, and copies of it."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.fs as fs

from clipmill.core.errors import UserError
from clipmill.storage import local_files
from clipmill.storage.location import STAGING, Location, resolve
from clipmill.storage.reading import list_files
from clipmill.storage.writing import make_folder
from clipmill.storage.written import named


def holds_only(output: Location, is_ours: Callable[[str], bool]) -> bool:
    """Whether files are at an output, all of them with names of ours (relative to it), so that they may be replaced.

    Raises UserError when any other file is there: those are nobody's to delete.
    """
    if output.is_local and os.path.isfile(output.path):
        raise UserError(f"--output {output} is a file; give a folder")
    there = [info.path[len(output.path) + 1 :] for info in list_files(output)]
    foreign = next((name for name in there if not is_ours(name)), None)
    if foreign is not None:
        raise UserError(
            f"--output {output} has other files in it ({foreign}), which are not replaced; choose a new or empty place"
        )
    return bool(there)


def staging_of(output: Location) -> Location:
    """Where a dataset is made before it is published: beside it, so that a published folder holds nothing else."""
    return output.sibling(f".{output.name}{STAGING}")


def published_from(dataset: Location) -> Location:
    """Where a staged dataset will be published; of one that is published, its place."""
    staged = re.fullmatch(rf"(.*/)\.([^/]+){re.escape(STAGING)}/[^/]+/dataset/?", dataset.path)
    if staged is None:
        return dataset
    uri = re.sub(rf"(.*/)\.([^/]+){re.escape(STAGING)}/[^/]+/dataset/?$", r"\1\2", dataset.uri)
    return Location(dataset.filesystem, staged[1] + staged[2], uri)


def resolve_output(uri: str) -> Location:
    """The place of an output, links followed. Raises UserError for a mount point, which cannot be replaced whole."""
    location = resolve(uri)
    if not location.is_local:
        return location
    path = os.path.realpath(location.path)
    if os.path.ismount(path):
        raise UserError(
            f"--output {uri} is a mount point, which cannot be replaced as a whole; give a folder inside it"
        )
    return Location(location.filesystem, path, path)


def publish(
    staging: Location,
    output: Location,
    made: Sequence[fs.FileInfo] | None = None,
    old: Sequence[fs.FileInfo] | None = None,
    *,
    last: str = "manifest.json",
) -> None:
    """Puts a finished staging folder in the place of ``output``; the file called ``last`` makes it exist. ``made``
    are the files in the one and ``old`` those in the other, where they were listed on S3 already.

    Local: the folder is renamed, an old dataset moved aside first, deleted after, and put back where that fails. S3:
    objects are copied on the server with ``last`` at the end, then what the new dataset does not have is deleted; the
    staging folder is left to the caller to remove. Raises RunFailed when there is nothing to publish, and when another
    run published there meanwhile.
    """
    if staging.is_local:
        with named(output.uri):
            local_files.publish(staging.path, output.path)
        return
    from clipmill.storage.s3.publish import publish_by_copy

    made = list_files(staging) if made is None else made
    old = list_files(output) if old is None else old
    publish_by_copy(made, old, staging.path, output.path, last)


def reference(source: Location, target: Location) -> None:
    """The bytes of a file under another name on the same storage, without moving them: a hard link where the disk can,
    a copy on the server on S3. Neither name may be written into later; what is there is replaced."""
    if not source.is_local:
        from clipmill.storage.s3.transfer import copy

        copy(source.path, target.path, source.filesystem.get_file_info(source.path).size)
        return
    make_folder(target.sibling(""))
    with named(target.uri):
        local_files.link(source.path, target.path)


def has_retired(output: Location) -> bool:
    """Whether an old dataset lies beside an output: a run was killed before it had put or deleted all."""
    return output.is_local and os.path.lexists(local_files.retired(output.path))


def remove_retired(output: Location) -> None:
    """Deletes the old dataset beside an output; there has to be a new one."""
    if output.is_local:
        local_files.remove_folder(local_files.retired(output.path))


def local_copy(location: Location, cache: Path, digest: str) -> Path:
    """A local file with these bytes: the file itself when it is local, else a copy in ``cache`` named by its sha256.

    A download that broke off is continued by the next. Raises RunFailed when there is no such object, when the bytes do
    not have the digest they should, or when the cache has no room.
    """
    if location.is_local:
        return Path(location.path)
    from clipmill.storage.s3.cache import cached

    return cached(location.path, cache, digest)
