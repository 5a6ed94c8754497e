"""What is being put in the place of an output, written down beside it first, so that what a kill leaves is understood.

    .NAME.staging/publishing.json

On S3 a dataset comes to its place file by file: a killed run leaves some of the new files, or some of the old ones. The
record names both, and says by a sha256 how far it came: whether the file that makes the dataset exist is the new one.
"""

from collections.abc import Set
from dataclasses import dataclass

import pyarrow.fs as fs
from pydantic import TypeAdapter, ValidationError

from clipmill import storage
from clipmill.core.errors import RunFailed, StorageRefused
from clipmill.core.manifests import Name, RelativePath, Sha256
from clipmill.storage import Location

RECORD = "publishing.json"


@dataclass(frozen=True)
class Publication:
    """A plan (``token``) whose dataset is put in its place. The file called ``last`` makes it exist: it will have this
    ``sha256``, and had the one ``replaced`` (None: there was none). ``made`` are the files, relative to the output, and
    ``old`` those that were there and are not made again; on a local disk, where a folder is renamed, both are empty."""

    token: Name
    last: Name
    sha256: Sha256
    replaced: Sha256 | None
    made: list[RelativePath]
    old: list[RelativePath]

    def is_complete(self, output: Location) -> bool:
        """Whether the output is what was published; only leftovers may be there besides."""
        return _sha256(output / self.last) == self.sha256

    def is_partial(self, output: Location) -> bool:
        """Whether the output may hold some of the new files while the last one is not there yet."""
        return not output.is_local and _sha256(output / self.last) == self.replaced


_RECORD = TypeAdapter(Publication)


Files = list[fs.FileInfo]


def write_down(staged: Location, output: Location, token: str, last: str, sha256: str) -> tuple[Files, Files]:
    """Says what is about to be published, of which ``last`` has this sha256; to be called right before it. Returns the
    files that are staged and those that are there, on S3. Raises RunFailed when ``last`` is gone."""
    staged_files, there = _files(staged), _files(output)
    made, before = _names(staged, staged_files), _names(output, there)
    if last not in made if made else not storage.is_file(staged / last):
        raise RunFailed(f"{staged / last} is gone, so {output} is not published; run the same command again")
    replaced = _sha256(output / last) if output.is_local or last in before else None
    publication = Publication(token, last, sha256, replaced, made, sorted(set(before) - set(made)))
    storage.write_bytes(_place(output), _RECORD.dump_json(publication))
    return staged_files, there


def read(output: Location) -> Publication | None:
    """What was being published to an output when a run was killed; None where there is nothing of this kind."""
    try:
        return _RECORD.validate_json(storage.read_bytes(_place(output)))
    except (OSError, ValidationError, StorageRefused):
        return None


def forget(output: Location) -> None:
    """Removes the record."""
    storage.remove_file(_place(output))


def is_to_be_continued(output: Location) -> bool:
    """Whether an output is half replaced, by a run whose work is still there to finish it."""
    found = read(output)
    if found is None or not storage.exists(storage.staging_of(output) / found.token / "dataset" / found.last):
        return False
    return found.is_partial(output)


def names_of(output: Location) -> Set[str]:
    """Files, relative to an output, that a killed run put there or was about to delete."""
    found = read(output)
    return {*found.made, *found.old} if found else set()


def _place(output: Location) -> Location:
    return storage.staging_of(output) / RECORD


def _files(folder: Location) -> Files:
    return [] if folder.is_local else storage.list_files(folder)


def _names(folder: Location, files: Files) -> list[str]:
    return [info.path[len(folder.path) + 1 :] for info in files]


def _sha256(file: Location) -> str | None:
    try:
        return storage.sha256(file)
    except FileNotFoundError:
        return None
