"""A folder of images: captions in a .txt file beside each, one per line; the first sub-folder is the label."""

from collections.abc import Iterator

import pyarrow as pa

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.settings import ImportSettings
from clipmill.source.importers.samples import Collection, Sample, paths_below, refuse_outside
from clipmill.source.names import IMAGE_SUFFIXES
from clipmill.storage import Location


def read_folder(source: Location, settings: ImportSettings) -> Collection:
    """Every image below ``source`` in byte order of its path. The id is the path without its ending."""
    files = paths_below(source)
    images = [path for path in files if path.lower().endswith(IMAGE_SUFFIXES)]
    if not images:
        raise UserError(f"{source}: there is no image below this folder ({', '.join(IMAGE_SUFFIXES)})")
    texts = {path: refuse_outside(source / path, source, settings) for path in files if path.endswith(".txt")}
    labelled = any("/" in path for path in images)
    return Collection(
        columns=(pa.field("label", pa.string()),) if labelled else (),
        samples=_samples(source, images, texts, labelled),
        total=len(images),
    )


def _samples(source: Location, images: list[str], texts: dict[str, Location], labelled: bool) -> Iterator[Sample]:
    for path in images:
        stem = path.rsplit(".", 1)[0]
        captions = storage.read_bytes(texts[f"{stem}.txt"]) if f"{stem}.txt" in texts else b""
        lines = captions.decode("utf-8-sig", errors="replace").splitlines()
        yield Sample(
            id=stem,
            path=path,
            image=source / path,
            captions=tuple(line.strip() for line in lines if line.strip()),
            values=(path.split("/")[0] if "/" in path else None,) if labelled else (),
        )
