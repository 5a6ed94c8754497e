"""Where `clipmill run` publishes: versions beside each other, and one small file that says which one readers see.

OUTPUT/current.json              the pointer
OUTPUT/runs/NAME/embeddings/     a version: datasets, never written into again; on S3 they name files of older versions
OUTPUT/runs/NAME/index/
OUTPUT/runs/NAME/report/
OUTPUT/runs/NAME/version.json    written last: without it, the version was not published
OUTPUT/removed.json              ids that were taken down
OUTPUT/unfinished.json           the version that a run is making, or left when it was killed
OUTPUT/models/TOKEN/             a model that a run trained, named after its settings; its report is in TOKEN-report/
OUTPUT/words/FILE/               texts about a source file, and its rows with those that are true, named after file and settings
OUTPUT/work/                     the new rows alone, until they are part of a version
OUTPUT/footers.arrow             what the footers of the input said
"""

from dataclasses import dataclass

from clipmill import storage
from clipmill.storage import Location

POINTER = "current.json"
PARTS = ("embeddings", "index", "report")


@dataclass(frozen=True)
class Place:
    """The names at one output."""

    output: Location

    @staticmethod
    def of(uri: str) -> "Place":
        return Place(storage.resolve(uri))

    @property
    def pointer(self) -> Location:
        return self.output / POINTER

    @property
    def versions(self) -> Location:
        return self.output / "runs"

    def version(self, name: str) -> Location:
        return self.versions / name

    @property
    def removed(self) -> Location:
        return self.output / "removed.json"

    @property
    def unfinished(self) -> Location:
        return self.output / "unfinished.json"

    @property
    def work(self) -> Location:
        return self.output / "work"

    @property
    def models(self) -> Location:
        return self.output / "models"

    @property
    def words(self) -> Location:
        return self.output / "words"

    @property
    def new_rows(self) -> Location:
        return self.work / "embeddings"

    @property
    def footers(self) -> Location:
        return self.output / "footers.arrow"

    @property
    def run_lock(self) -> Location:
        """What a run holds while it works; the lease is the file ``run.owner.json``."""
        return self.output / "run"

    @property
    def pointer_lock(self) -> Location:
        """What is held while a version is chosen or deleted; the lease is the file ``pointer.owner.json``."""
        return self.output / "pointer"
