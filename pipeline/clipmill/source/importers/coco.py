"""COCO captions: `annotations/captions_*.json` beside folders of images."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.settings import ImportSettings
from clipmill.source.importers.samples import Collection, Sample, chosen_splits, refuse_outside
from clipmill.storage import Location

_COLUMNS = (pa.field("split", pa.string()), pa.field("license", pa.int64()), pa.field("coco_url", pa.string()))


def read_coco(source: Location, settings: ImportSettings) -> Collection:
    """Every image of every split, or of ``settings.split`` such as val2017, in the order of its JSON file.

    The id is the image's id in COCO; the columns are split, license (a number that the JSON explains) and coco_url.
    """
    if source.filesystem.get_file_info(source.path).is_file:
        raise UserError(f"{source} is a file, but COCO is a folder with annotations/ and the images")
    found = {
        info.base_name.removeprefix("captions_").removesuffix(".json"): refuse_outside(
            source / "annotations" / info.base_name, source, settings
        )
        for info in storage.list_files(source / "annotations", recursive=False)
        if info.base_name.startswith("captions_") and info.base_name.endswith(".json")
    }
    if not found:
        raise UserError(f"{source} has no annotations/captions_*.json, which is where COCO keeps its captions")
    splits = [(split, _load(found[split])) for split in chosen_splits(found, settings.split, source)]
    return Collection(
        columns=_COLUMNS,
        samples=(sample for split, document in splits for sample in _samples(source, split, document)),
        total=sum(len(document["images"]) for _, document in splits),
    )


def _load(place: Location) -> dict[str, Any]:
    try:
        document = json.loads(storage.read_bytes(place))
    except RecursionError:
        raise UserError(f"{place} is nested too deeply to be COCO; replace it") from None
    except ValueError as error:
        raise UserError(f"{place} is not valid JSON ({error}); it may have been cut short: download it again") from None
    needed = {"images": {"id", "file_name"}, "annotations": {"image_id", "caption"}}
    for part, keys in needed.items():
        entries = document.get(part) if isinstance(document, dict) else None
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and keys <= entry.keys() for entry in entries
        ):
            raise UserError(f"{place} has no list {part!r} of entries with {' and '.join(sorted(keys))}, as COCO has")
    result: dict[str, Any] = document
    return result


def _samples(source: Location, split: str, document: dict[str, Any]) -> Iterator[Sample]:
    captions: dict[Any, list[str]] = {}
    for annotation in document["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    folder = next(
        (place for place in (source / split, source / "images" / split) if storage.exists(place)), source / "images"
    )
    for image in document["images"]:
        yield Sample(
            id=str(image["id"]),
            path=image["file_name"],
            image=folder / image["file_name"],
            captions=tuple(captions.get(image["id"], ())),
            values=(split, image.get("license"), image.get("coco_url")),
        )
