"""Rendered scenes as source Parquet: any number of rows, a row group in memory at a time, published whole or not at all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.manifests import Record, SourceFile, SourceManifest
from clipmill.core.reporter import Reporter
from clipmill.core.settings import SampleSettings
from clipmill.scenes.captions import captions, naming_captions, negative_captions, placing_captions, some_of
from clipmill.scenes.questions import one_question, practised, questions
from clipmill.scenes.render import encode, render
from clipmill.scenes.scene import Scene, scene_of_row
from clipmill.scenes.sounds import encode_sound, render_sound, shared_captions, sound_captions
from clipmill.source.written import SourceStage, describe_part, part_name
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Made, Work, configuration_differences
from clipmill.storage import Location

ROWS_PER_FILE = 10_000
ROWS_PER_GROUP = 500
_FORMAT = 4

SCENES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]), nullable=False),
        pa.field("caption", pa.list_(pa.string()), nullable=False),
        pa.field("negative_caption", pa.list_(pa.string()), nullable=False),
        pa.field("teaching_caption", pa.list_(pa.string()), nullable=False),
        pa.field("training_caption", pa.list_(pa.string()), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("size", pa.string(), nullable=False),
        pa.field("objects", pa.int32(), nullable=False),
        pa.field("layout", pa.string(), nullable=False),
        pa.field("background", pa.string(), nullable=False),
        pa.field("scene", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("questions", pa.list_(pa.string()), nullable=False),
        pa.field("answers", pa.list_(pa.string()), nullable=False),
        pa.field("training_questions", pa.list_(pa.string()), nullable=False),
        pa.field("training_answers", pa.list_(pa.string()), nullable=False),
    ]
)
"""``label`` and ``size`` are those of the main object, ``layout`` is where the others lie as seen from it (or where it
lies when alone), ``scene`` is the canonical description. ``negative_caption`` holds captions that are false of the image,
``teaching_caption`` those of training scenes that say one thing alone: what the main object is called, or where things lie.
``training_caption`` all of ``caption`` and some of these. ``questions`` and ``answers`` are all that is asked of a scene,
``question`` and ``answer`` one pair of them, ``training_questions`` and ``training_answers`` those that a model learns from.
"""

PICTURE_EVERY = 3
"""With ``--sounds alternate`` or ``shared`` one row in so many is a picture, the others are sounds."""

SOUNDING = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", SCENES.field("image").type),
        pa.field("audio", SCENES.field("image").type),
        pa.field("caption", pa.list_(pa.string()), nullable=False),
        *(SCENES.field(name) for name in ("label", "size", "objects", "layout", "background", "scene")),
    ]
)
"""Rows with ``--sounds``: ``caption`` is of the sound where there is one, else of the picture; in every second row of
``shared`` it is true of both."""


@dataclass(frozen=True)
class Sample(SourceStage):
    """Scenes to be rendered; row i depends on the seed, the split and i alone."""

    name = "sample"
    settings: SampleSettings

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the content."""
        return {"stage": self.name, "settings": self.settings.content(), "format": _FORMAT}

    def differences(self, found: SourceManifest) -> list[str]:
        """How source Parquet at the output differs from these scenes, in words."""
        if found.made_by != self.name:
            return [f"it was made by `clipmill {found.made_by}`"]
        return configuration_differences(found.configuration, self.settings.content())

    @property
    def outline(self) -> Outline:
        """A piece per file."""
        files = len(_parts(self.settings.rows))
        step = Step(doing="rendering files", total=files, files={"records/*.json": 1})
        return Outline(stage=self.name, unit="rows", amount=self.settings.rows, steps=(step,))


def write_scenes(settings: SampleSettings, reporter: Reporter) -> Made[SourceManifest]:
    """Renders ``settings.rows`` scenes to a folder of ``part-*.parquet``. Files that an interrupted run of the same
    command finished are kept.

    Raises OutputDiffers when the output was made otherwise and ``overwrite`` is not set, UserError when it holds other
    files.
    """
    sample = Sample(settings)

    def make(work: Work) -> SourceManifest:
        parts = _parts(settings.rows)
        records = {name: _record(work, name) for name in parts}
        start = work.start(sum(record.file.rows for record in records.values() if record))
        done = start.rows_reused

        def tell(rendered: int) -> None:
            nonlocal done
            done += rendered
            reporter.progress(sample.name, done, settings.rows, "scenes")

        tell(0)
        for name, rows in parts.items():
            records[name] = records[name] or _write_part(work, name, settings, rows, tell)
        made = [record for record in records.values() if record is not None]
        captions = sum(record.captions for record in made)
        return sample.manifest(start, [record.file for record in made], settings.content(), captions=captions)

    return sample.run(make)


class _Record(Record):
    """A file that is finished, and the captions in it."""

    file: SourceFile
    captions: int


def _record(work: Work, name: str) -> _Record | None:
    """What an earlier start noted of a file; None where the file, or all of it, is not there."""
    try:
        found = _Record.model_validate_json(storage.read_bytes(_record_place(work, name)))
    except (FileNotFoundError, ValueError):
        return None
    place = work.dataset / name
    return found if place.filesystem.get_file_info(place.path).size == found.file.bytes else None


def _record_place(work: Work, name: str) -> Location:
    return work.folder / "records" / f"{name.removesuffix('.parquet')}.json"


def scene_rows(settings: SampleSettings, rows: range) -> Iterator[dict[str, object]]:
    """The rows of these numbers, one by one."""
    for row in rows:
        scene, random = scene_of_row(settings.split, settings.seed, row)
        naming, placing = [], []
        if settings.split == "train":
            naming, placing = naming_captions(scene), placing_captions(scene)
        asked, all_asked, learned = one_question(scene), questions(scene), practised(scene)
        yield {
            "id": f"{settings.split}-{settings.seed}-{row:08d}",
            "image": {"bytes": encode(render(scene, random, settings.image_size)), "path": None},
            "caption": captions(scene) + naming,
            "negative_caption": negative_captions(scene),
            "teaching_caption": naming + placing,
            "training_caption": captions(scene) + naming + some_of(placing, len(naming), scene),
            "question": asked.question,
            "answer": asked.answer,
            "questions": [one.question for one in all_asked],
            "answers": [one.answer for one in all_asked],
            "training_questions": [one.question for one in learned],
            "training_answers": [one.answer for one in learned],
            **_facts(scene),
        }


def _facts(scene: Scene) -> dict[str, object]:
    return {
        "label": scene.main.name,
        "size": scene.main.size,
        "objects": len(scene.things),
        "layout": " and ".join(direction for direction, _ in scene.others) or scene.place,
        "background": scene.background,
        "scene": scene.description,
    }


def sounding_rows(settings: SampleSettings, rows: range) -> Iterator[dict[str, object]]:
    """The rows of these numbers with a picture and its sound, or one of them in turn."""
    for row in rows:
        scene, random = scene_of_row(settings.split, settings.seed, row)
        picture = encode(render(scene, random, settings.image_size))
        sound = encode_sound(render_sound(scene, random))
        seen = settings.sounds == "beside" or row % PICTURE_EVERY == 0
        heard = settings.sounds == "beside" or not seen
        shared = settings.sounds == "shared" and row % 2 == 1
        yield {
            "id": f"{settings.split}-{settings.seed}-{row:08d}",
            "image": {"bytes": picture, "path": None} if seen else None,
            "audio": {"bytes": sound, "path": None} if heard else None,
            "caption": shared_captions(scene) if shared else sound_captions(scene) if heard else captions(scene),
            **_facts(scene),
        }


def _parts(rows: int) -> dict[str, range]:
    starts = range(0, rows, ROWS_PER_FILE)
    return {part_name(n): range(start, min(start + ROWS_PER_FILE, rows)) for n, start in enumerate(starts)}


def _write_part(work: Work, name: str, settings: SampleSettings, rows: range, tell: Callable[[int], None]) -> _Record:
    captions = 0
    schema, made = (SCENES, scene_rows) if settings.sounds is None else (SOUNDING, sounding_rows)
    with storage.atomic_writer(work.dataset / name) as stream, pq.ParquetWriter(stream, schema) as writer:
        for start in range(rows.start, rows.stop, ROWS_PER_GROUP):
            group = range(start, min(start + ROWS_PER_GROUP, rows.stop))
            table = pa.Table.from_pylist(list(made(settings, group)), schema)
            writer.write_table(table)
            captions += len(table.column("caption").combine_chunks().flatten())
            tell(len(group))
    record = _Record(file=describe_part(name, len(rows), stream.written), captions=captions)
    storage.write_bytes(_record_place(work, name), record.model_dump_json().encode())
    return record
