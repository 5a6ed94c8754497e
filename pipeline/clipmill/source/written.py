"""Source Parquet that we write ourselves: part files, and a manifest that lists them and is written last.

A reader of ours that finds the manifest believes only it, so a folder that is half there is never taken for a whole one.
"""

from abc import ABC
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from clipmill import storage
from clipmill.core import environment
from clipmill.core.errors import OutputDiffers, RunFailed, UserError
from clipmill.core.manifests import Run, SourceFile, SourceManifest
from clipmill.core.text_manifests import CaptionedManifest
from clipmill.datasets.manifests import KINDS, MANIFEST, kind_at, read_manifest
from clipmill.datasets.shards import Shard, read_shards
from clipmill.stage import publication
from clipmill.stage.kinds import CAPTIONED, Kind, manifest_kind
from clipmill.stage.stage import Stage
from clipmill.stage.staging import Started
from clipmill.storage import Location, Written

_OURS = {
    "embeddings": ("an embeddings dataset", "; to index it: `clipmill index --embeddings {folder} --output FOLDER`"),
    "index": ("an index", '; to search it: `clipmill search --index {folder} --text "…"`'),
    "duplicates": ("a list of near-duplicates", "; to drop them: `clipmill filter --duplicates {folder} …`"),
    "selection": ("a selection of rows", ""),
    "report": ("a report", ""),
}
"""What our datasets are called, and what is done with them."""


def part_name(number: int) -> str:
    """The name of a part file."""
    return f"part-{number:05d}.parquet"


def is_part(name: str) -> bool:
    """Whether a file is called like one of ours."""
    return name.startswith("part-") and name.endswith(".parquet")


SOURCE: Kind[SourceManifest] = manifest_kind(SourceManifest, owns=lambda name: is_part(name) or name == MANIFEST)


class SourceStage(Stage[SourceManifest], ABC):
    """A stage that writes source Parquet."""

    kind = SOURCE

    def finished(self) -> SourceManifest | None:
        """As `Stage.finished`. Raises OutputDiffers where Parquet files without a manifest are at the output, which an older
        clipmill wrote or somebody else, unless they may be replaced."""
        found = super().finished()
        if found is None and not self.settings.overwrite and not kind_at(self.output):
            published = publication.names_of(self.output)
            there = [info.path[len(self.output.path) + 1 :] for info in storage.list_files(self.output)]
            if any(is_part(name) and name not in published for name in there):
                raise OutputDiffers(
                    f"--output {self.output} holds Parquet files already, without the manifest of a finished run; "
                    "--overwrite replaces them"
                )
        return found

    def manifest(
        self, start: Started, files: list[SourceFile], configuration: dict[str, Any], *, captions: int, missing: int = 0
    ) -> SourceManifest:
        """The manifest of these files, which a run that began at ``start`` made."""
        rows = sum(file.rows for file in files)
        reused = start.rows_reused
        run = Run(
            started=start.at,
            finished=datetime.now(timezone.utc),
            rows_encoded=rows - reused,
            rows_reused=reused,
        )
        return SourceManifest(
            made_by=self.name,
            rows=rows,
            captions=captions,
            missing_images=missing,
            configuration=configuration,
            files=files,
            runs=[*start.earlier, run],
            software=environment.software(),
            hardware=environment.hardware(),
        )


def describe_part(name: str, rows: int, written: Written) -> SourceFile:
    """The entry of a part file that was just written."""
    return SourceFile(path=name, rows=rows, bytes=written.bytes, sha256=written.sha256)


def files_listed(folder: Location) -> list[str] | None:
    """The part files of a source dataset of ours, relative to ``folder``; None where there is no manifest of one.

    Raises UserError for a folder that holds another dataset of ours, and RunFailed where a file that is listed is absent
    or has another size.
    """
    kind = kind_at(folder)
    if kind is None or kind not in KINDS:
        return None
    if kind not in (SOURCE.name, CAPTIONED.name):
        what, then = _OURS.get(kind, (f"a dataset of kind {kind!r}", ""))
        raise UserError(
            f"{folder} is {what} that clipmill made, and not a source of pictures and captions; to embed again, give the "
            f"--input that it was made from{then.format(folder=folder)}"
        )
    made_by, files = _files_of(folder, kind)
    sizes = {info.path[len(folder.path.rstrip("/")) + 1 :]: info.size for info in storage.list_files(folder)}
    for file in files:
        if sizes.get(file.path) != file.bytes:
            raise RunFailed(
                f"{folder / file.path} is missing, or was cut short or replaced since `clipmill {made_by}` wrote "
                f"it; make {folder} again with --overwrite"
            )
    return [file.path for file in files]


def _files_of(folder: Location, kind: str) -> tuple[str, Sequence[SourceFile | Shard]]:
    """The command that wrote the source rows of a folder, and their files."""
    if kind == CAPTIONED.name:
        listed = read_shards(folder, read_manifest(folder, CaptionedManifest).shards_sha256)
        return "recaption", [shard for shard in listed if shard.part == "captioned"]
    manifest = read_manifest(folder, SourceManifest)
    return manifest.made_by, manifest.files


def refuse_half_published(folder: Location) -> None:
    """Raises RunFailed for a folder on S3 in which some files of a dataset are there and the last one is not yet. On a local
    disk a dataset comes to its place in one step."""
    if folder.is_local or "/" not in folder.path:
        return
    found = publication.read(folder)
    if found is not None and found.is_partial(folder):
        raise RunFailed(
            f"{folder} is only partly there: the run that puts it there is not done, or was killed; wait for it, or run its "
            "command again to finish it"
        )
