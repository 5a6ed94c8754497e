"""Rows of a dataset by position: the captions, ids and thumbnails that a report shows."""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from clipmill.datasets.manifests import Embeddings

SIDE = 160
"""Longer side of a thumbnail on the page, in pixels."""
_MAX_PIXELS = 4_000_000


def rows_at(
    embeddings: Embeddings, part: str, columns: Sequence[str], positions: Iterable[int]
) -> dict[int, dict[str, Any]]:
    """These columns of the rows at some positions of a part, by position; only row groups that hold one are read."""
    wanted = np.unique(np.fromiter(positions, np.int64))
    found: dict[int, dict[str, Any]] = {}
    start = 0
    for shard in embeddings.shards_of(part):
        if np.any((wanted >= start) & (wanted < start + shard.rows)):
            parquet = embeddings.open_shard(shard)
            group_start = start
            for group in range(parquet.num_row_groups):
                stop = group_start + parquet.metadata.row_group(group).num_rows
                here = wanted[(wanted >= group_start) & (wanted < stop)]
                if len(here):
                    rows = parquet.read_row_group(group, columns=list(columns)).take(pa.array(here - group_start))
                    known = [row for batch in rows.to_batches() for row in embeddings.as_known(batch).to_pylist()]
                    found.update(zip(here.tolist(), known, strict=True))
                group_start = stop
        start += shard.rows
    return found


def first_rejects(embeddings: Embeddings, most: int = 20) -> list[dict[str, str]]:
    """The first rejects of each reason, as far as there are: reason, kind, id, source and detail. The source of a listed folder
    is the path of the file in it."""
    wanted = ["reason", "kind", "id", "source", "detail"]
    reasons = embeddings.manifest.counts.rejected_by_reason
    missing = {reason: min(count, most) for reason, count in reasons.items()}
    found: list[dict[str, str]] = []
    for shard in embeddings.shards_of("rejected"):
        if not any(missing.values()):
            break
        for row in embeddings.open_shard(shard).read(wanted).to_pylist():
            if missing.get(row["reason"], 0):
                missing[row["reason"]] -= 1
                source = row["source"]
                found.append({**row, "source": source[:-1] + row["id"] if source.endswith("/*") else source})
    return found


def has_thumbnails(embeddings: Embeddings) -> bool:
    """True if the images were embedded with thumbnails."""
    shards = embeddings.shards_of("images")
    return bool(shards) and "thumbnail" in embeddings.open_shard(shards[0]).schema_arrow.names


def opened_picture(thumbnail: bytes | None) -> Image.Image | None:
    """A thumbnail in RGB; None for what cannot be read as a picture, or is a large one."""
    if not thumbnail:
        return None
    try:
        with Image.open(io.BytesIO(thumbnail)) as opened:
            return opened.convert("RGB") if opened.width * opened.height <= _MAX_PIXELS else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def picture(thumbnail: bytes | None) -> str | None:
    """A thumbnail as a small JPEG data URI; None for what cannot be read as a picture."""
    image = opened_picture(thumbnail)
    if image is None:
        return None
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def pictures_at(embeddings: Embeddings, positions: Iterable[int]) -> dict[int, str]:
    """Data URIs of the thumbnails of these images, by position; without those that have none."""
    if not has_thumbnails(embeddings):
        return {}
    rows = rows_at(embeddings, "images", ["thumbnail"], positions)
    made = {position: picture(row["thumbnail"]) for position, row in rows.items()}
    return {position: uri for position, uri in made.items() if uri}
