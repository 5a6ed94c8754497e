"""Rendered scenes as source Parquet: any number of rows, a row group in memory at a time, published whole or not at all.

A file's schema carries the settings it was made with, so that a folder tells by itself which command made it.
"""

import json
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from clipmill import storage
from clipmill.core.errors import OutputDiffers
from clipmill.core.settings import SampleSettings
from clipmill.scenes.captions import captions, naming_captions, negative_captions
from clipmill.scenes.render import encode, render
from clipmill.scenes.scene import scene_of_row
from clipmill.storage import Location

ROWS_PER_FILE = 10_000
ROWS_PER_GROUP = 500
_METADATA_KEY = b"clipmill.sample"
_FORMAT = 1

SCENES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]), nullable=False),
        pa.field("caption", pa.list_(pa.string()), nullable=False),
        pa.field("negative_caption", pa.list_(pa.string()), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("size", pa.string(), nullable=False),
        pa.field("objects", pa.int32(), nullable=False),
        pa.field("layout", pa.string(), nullable=False),
        pa.field("background", pa.string(), nullable=False),
        pa.field("scene", pa.string(), nullable=False),
    ]
)
"""``label`` and ``size`` are those of the main object, ``layout`` is where the others lie as seen from it (or where it
lies when alone), ``scene`` is the canonical description. ``negative_caption`` holds captions that are false of the image.
"""


def write_scenes(settings: SampleSettings, advance: Callable[[int], None] = lambda rows: None) -> bool:
    """Renders ``settings.rows`` scenes to a folder of ``part-*.parquet``; False when that was done before.

    Row i depends on the seed, the split and i alone. Files finished by an interrupted run of the same command are kept.
    Raises OutputDiffers when the output was made otherwise and ``overwrite`` is not set, UserError when it holds other files.
    """
    output = storage.resolve_output(settings.output)
    if storage.holds_only(output, lambda name: name.startswith("part-") and name.endswith(".parquet")):
        if _is_complete(output, settings):
            return False
        if not settings.overwrite:
            raise OutputDiffers(
                f"--output {output} already exists and was not made by this same command; choose another output, or "
                "--overwrite to replace it"
            )
    staging = storage.staging_of(output)
    storage.make_folder(staging)
    parts = _parts(settings.rows)
    _keep_only(staging, settings, set(parts))
    for name, rows in parts.items():
        if not storage.exists(staging / name):
            _write_part(staging / name, settings, rows, advance)
        else:
            advance(len(rows))
    storage.publish(staging, output, last=list(parts)[-1])
    storage.remove(staging)
    return True


def scene_rows(settings: SampleSettings, rows: range) -> Iterator[dict[str, object]]:
    """The rows of these numbers, one by one."""
    for row in rows:
        scene, random = scene_of_row(settings.split, settings.seed, row)
        naming = naming_captions(scene) if settings.split == "train" else []
        yield {
            "id": f"{settings.split}-{settings.seed}-{row:08d}",
            "image": {"bytes": encode(render(scene, random, settings.image_size)), "path": None},
            "caption": captions(scene) + naming,
            "negative_caption": negative_captions(scene),
            "label": scene.main.name,
            "size": scene.main.size,
            "objects": len(scene.things),
            "layout": " and ".join(direction for direction, _ in scene.others) or scene.place,
            "background": scene.background,
            "scene": scene.description,
        }


def _parts(rows: int) -> dict[str, range]:
    starts = range(0, rows, ROWS_PER_FILE)
    return {f"part-{n:05d}.parquet": range(start, min(start + ROWS_PER_FILE, rows)) for n, start in enumerate(starts)}


def _write_part(location: Location, settings: SampleSettings, rows: range, advance: Callable[[int], None]) -> None:
    schema = SCENES.with_metadata({_METADATA_KEY: _fingerprint(settings)})
    with storage.atomic_writer(location) as stream, pq.ParquetWriter(stream, schema) as writer:
        for start in range(rows.start, rows.stop, ROWS_PER_GROUP):
            group = range(start, min(start + ROWS_PER_GROUP, rows.stop))
            writer.write_table(pa.Table.from_pylist(list(scene_rows(settings, group)), schema))
            advance(len(group))


def _fingerprint(settings: SampleSettings) -> bytes:
    values = settings.model_dump(include={"seed", "split", "image_size"})
    return json.dumps({"format": _FORMAT, **values}, sort_keys=True).encode()


def _made_by(location: Location, settings: SampleSettings, rows: range) -> bool:
    """Whether a file is the part with these rows of the same command."""
    try:
        with location.filesystem.open_input_file(location.path) as stream:
            metadata = pq.read_metadata(stream)
    except (OSError, pa.ArrowInvalid):
        return False
    found = (metadata.metadata or {}).get(_METADATA_KEY)
    return found == _fingerprint(settings) and metadata.num_rows == len(rows)


def _is_complete(output: Location, settings: SampleSettings) -> bool:
    parts = _parts(settings.rows)
    found = {info.base_name for info in storage.list_files(output)}
    return found == set(parts) and all(_made_by(output / name, settings, rows) for name, rows in parts.items())


def _keep_only(staging: Location, settings: SampleSettings, names: set[str]) -> None:
    """Removes from the staging folder what another command, or a part of other rows, left there."""
    parts = _parts(settings.rows)
    for info in storage.list_files(staging):
        name = info.base_name
        if name not in names or not _made_by(staging / name, settings, parts[name]):
            storage.remove(staging / name)
