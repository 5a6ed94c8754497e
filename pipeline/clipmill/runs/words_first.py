"""Words as the first stages of a run: texts about the input of `embed`, and its captions made better.

Every source file has datasets of its own, named after the file and the settings: of a file that is as before they are there
already; of a folder of pictures batches are such files (`clipmill.runs.batches`). What is embedded are the files with the
captions that are true, so a version grows by those that are new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.reporter import Reporter
from clipmill.core.schemas import IMAGE_SHA256, Reason
from clipmill.core.settings import CaptionSettings, EmbedSettings, RecaptionSettings
from clipmill.core.takedown import Takedown
from clipmill.core.text_manifests import CaptionedManifest, TextsManifest
from clipmill.datasets.manifests import LISTING_FILE, MANIFEST, Embeddings, read_manifest
from clipmill.datasets.shards import read_shards
from clipmill.embedding.plan import EmbedSource
from clipmill.runs.batches import Batch, batches, listed
from clipmill.runs.run_file import RunFile
from clipmill.runs.stages import replacing
from clipmill.runs.summary import RunRecord
from clipmill.runs.text_stages import recaption_stage, words_stage
from clipmill.source.columns import choose_columns
from clipmill.source.footers import save_footers
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs
from clipmill.storage import Location
from clipmill.versions.place import Place
from clipmill.words.carry_over import carry_over
from clipmill.words.leave_out import leave_out
from clipmill.words.written import Written


@dataclass(frozen=True)
class FileWords:
    """Where the words about one source file lie; of a batch of a folder also its ``listing``. What is left of a ``larger``
    batch, whose words are taken along, was its ``rows``."""

    file: InputFile
    texts: Location
    captioned: Location | None
    listing: Location
    larger: FileWords | None = None
    rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class WordsFirst:
    """The stages `caption` and `recaption` of a run towards ``place``, without what was ``removed``. ``base`` are the
    embeddings that are published, which know the ids of contents."""

    run: RunFile
    place: Place
    removed: Takedown
    base: Embeddings | None
    reporter: Reporter
    tell: Callable[[str, str], None]

    @cached_property
    def words(self) -> list[FileWords]:
        """Of every file of the input of `embed`."""
        found = find_inputs(self.run.embed.input, self.place.footers)
        if found[0].listing is not None:
            return [self._of_batch(batch) for batch in batches(found[0], self._listings(found[0]))]
        save_footers(self.place.footers, found)
        return [self._of(file) for file in found]

    def _of(self, file: InputFile) -> FileWords:
        folder = self.place.words / self._name(file)
        captioned = folder / f"captioned-{_token([], self.run.recaption)}" if self.run.recaption else None
        return FileWords(file, folder / "texts", captioned, folder / LISTING_FILE)

    def _name(self, file: InputFile) -> str:
        """Of the folder of its words."""
        assert self.run.caption is not None
        return _token([file.path, file.size, file.etag], self.run.caption)

    def _of_batch(self, batch: Batch) -> FileWords:
        larger = self._of(batch.larger) if batch.larger is not None else None
        return replace(self._of(batch.file), larger=larger, rows=batch.rows)

    def _listings(self, folder: InputFile) -> list[pa.Table]:
        """The batches that words were written about with these settings."""
        start = len(self.place.words.path) + 1
        files = sorted(str(info.path[start:]) for info in storage.list_files(self.place.words))
        names = [name for name, _, file in (path.partition("/") for path in files) if file == LISTING_FILE]
        found = {name: storage.read_table(self.place.words / name / LISTING_FILE) for name in names}
        return [listing for name, listing in found.items() if self._name(listed(folder, listing)) == name]

    def make(self, record: RunRecord) -> None:
        """Makes what is not there, and leaves out of what is there what was taken down."""
        with record.stage("caption") as stage:
            counts = [self._write(words).counts for words in self.words]
            texts, answered = sum(one.texts for one in counts), sum(one.answered for one in counts)
            stage.note(self.place.words.uri, texts=texts, answered=answered, files=len(counts))
        self.tell("caption", f"{texts:,} texts about {answered:,} pictures of {len(counts):,} files")
        if self.run.recaption is None:
            return
        with record.stage("recaption") as stage:
            made = [self._filter(words).counts for words in self.words]
            kept = {name: sum(getattr(one, name) for one in made) for name in _TOLD}
            stage.note(self.place.words.uri, **kept)
        self.tell(
            "recaption",
            f"{kept['kept_originals']:,} of {kept['originals']:,} captions and {kept['kept_generated']:,} of "
            f"{kept['generated']:,} texts are kept",
        )

    def source(self) -> tuple[EmbedSettings, EmbedSource] | None:
        """What is embedded, and with which columns; None where that is the input itself."""
        if self.run.recaption is None:
            return None
        places = [words.captioned for words in self.words if words.captioned is not None]
        found = [file for place in places for file in find_inputs(place.uri)]
        inputs = [replace(file, ordinal=at) for at, file in enumerate(sorted(found, key=lambda one: one.path.encode()))]
        pictures = {read_manifest(place, CaptionedManifest).image_column for place in places}
        if len(pictures) > 1:
            raise UserError(
                f"the files of {self.run.embed.input} call their pictures differently ({', '.join(sorted(pictures))}): name "
                "the column with recaption.image_column, or make the files agree"
            )
        columns = {"image_column": pictures.pop(), "caption_column": "caption", "id_column": "id"}
        settings = self.run.embed.model_copy(update=columns)
        chosen = choose_columns(
            inputs,
            **columns,
            keep_columns=settings.keep_columns,
            audio_column=settings.audio_column,
            video_column=settings.video_column,
        )
        return settings, EmbedSource(inputs, chosen)

    def forget_others(self) -> None:
        """Removes words about files that are gone, or with other settings. The caller owns the output."""
        current = {words.texts.path.rsplit("/", 2)[-2] for words in self.words}
        start = len(self.place.words.path) + 1
        there = {info.path[start:].partition("/")[0] for info in storage.list_files(self.place.words)}
        for name in sorted(there - current):
            storage.remove(self.place.words / name)

    @cached_property
    def _known_removed(self) -> Takedown:
        """What was removed, with the ids of the pictures of contents where no captioned rows tell which these are."""
        if self.run.recaption is not None or not self.removed.contents or self.base is None:
            return self.removed
        if not self.base.manifest.has_hashes:
            return self.removed
        digests = _digests(self.removed)
        ids: set[str] = set()
        for batch in self.base.batches("images", ["id", IMAGE_SHA256]):
            ids.update(batch.filter(pc.is_in(batch.column(1), value_set=digests)).column(0).to_pylist())
        return self.removed | Takedown(frozenset(ids))

    def _write(self, words: FileWords) -> TextsManifest:
        assert self.run.caption is not None
        if words.file.listing is not None and not storage.is_file(words.listing):
            storage.write_table(words.listing, words.file.listing)
        if words.larger is not None and words.rows is not None and not storage.is_file(words.texts / MANIFEST):
            self._write(words.larger)
            carry_over(Written.open(words.larger.texts.uri), words.file, words.rows, words.texts)
        settings = self.run.caption.model_copy(update={"input": self._input(words), "output": words.texts.uri})
        run, inputs = self.run, self._inputs(words)
        made = replacing(
            settings, lambda chosen: words_stage(chosen, run.cluster, self.reporter, self.removed, inputs)
        ).manifest
        if not len(self.removed):
            return made
        written = Written.open(words.texts.uri)
        rows = _rows_to_leave_out(words, written, self._known_removed)
        return leave_out(written, rows).manifest if len(rows) else made

    def _input(self, words: FileWords) -> str:
        return words.file.path if words.file.listing is None else self.run.embed.input

    def _inputs(self, words: FileWords) -> list[InputFile] | None:
        """A batch, which cannot be found by its path."""
        return None if words.file.listing is None else [words.file]

    def _filter(self, words: FileWords) -> CaptionedManifest:
        assert self.run.recaption is not None
        assert words.captioned is not None
        places = {"input": self._input(words), "texts": words.texts.uri, "output": words.captioned.uri}
        settings = self.run.recaption.model_copy(update=places)
        run, inputs = self.run, self._inputs(words)
        return replacing(
            settings, lambda chosen: recaption_stage(chosen, run.cluster, self.reporter, self.removed, inputs)
        ).manifest


_TOLD = ("originals", "generated", "kept_originals", "kept_generated")


def _token(of: Sequence[object], settings: CaptionSettings | RecaptionSettings) -> str:
    """A name for what follows from settings."""
    named = [settings.content(), settings.model, settings.pretrained]
    told = json.dumps([*of, *named], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _rows_to_leave_out(words: FileWords, written: Written, removed: Takedown) -> NDArray[np.int64]:
    """Rows that were taken down since the texts were written, by what the texts and the captioned rows tell of them."""
    found, done = [], []
    for shard in read_shards(written.location, written.manifest.shards_sha256):
        table = storage.read_table(shard.at(written.location))
        found.append(table.filter(_is_in(table.column("id"), removed.ids)).column("row").to_numpy())
        if shard.part == "rejected":
            done.append(table.filter(pc.equal(table.column("reason"), Reason.REMOVED.value)).column("row").to_numpy())
    if removed.contents and words.captioned is not None and storage.is_file(words.captioned / MANIFEST):
        manifest = read_manifest(words.captioned, CaptionedManifest)
        digests = _digests(removed)
        for shard in read_shards(words.captioned, manifest.shards_sha256):
            if shard.part == "captioned":
                place = shard.at(words.captioned)
                with place.filesystem.open_input_file(place.path) as stream:
                    table = pq.read_table(stream, columns=["row", IMAGE_SHA256])
                marked = pc.is_in(table.column(IMAGE_SHA256), value_set=digests)
                found.append(table.filter(marked).column("row").to_numpy())
    rows = np.unique(np.concatenate(found))
    return np.setdiff1d(rows, np.concatenate(done)) if done else rows


def _digests(removed: Takedown) -> pa.Array:
    return pa.array([bytes.fromhex(one) for one in sorted(removed.contents)], pa.binary(32))


def _is_in(ids: pa.ChunkedArray, removed: frozenset[str]) -> pa.ChunkedArray:
    return pc.is_in(ids, value_set=pa.array(sorted(removed), pa.string()))
