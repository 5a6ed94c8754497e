"""One row, by its id, and what is known of an index."""

from typing import Any

import numpy as np

from clipmill.encoders.caution import caution, published_at
from clipmill.serve.answers.beside import shown
from clipmill.serve.answers.opened import Served
from clipmill.serve.answers.query import NoSuchRow
from clipmill.serve.answers.search import promised


def item(identifier: str, served: Served, *, with_vector: bool) -> dict[str, Any]:
    """The first row with this id, as `Item` says it. Raises NoSuchRow where there is none, or it was taken down."""
    positions = [one for one in served.opened.positions_of_id(identifier).tolist() if served.shows(one)]
    if not positions:
        raise NoSuchRow(f"id {identifier!r}: no row of the index has this id")
    at = np.array(positions[:1])
    (row,) = served.opened.rows(at)
    number = row["row"]
    picture = served.opened.beside.pictures([number]).get(number)
    return {
        "index": served.opened.name,
        "version": served.opened.version,
        "row": number,
        "id": row["id"],
        "columns": {name: value for name, value in row.items() if name not in ("row", "id")},
        "captions": served.opened.beside.captions([number]).get(number, []),
        **shown(picture),
        "vector": [float(value) for value in served.index.vectors_at(at)[0]] if with_vector else None,
        "others": len(positions) - 1,
    }


def facts(served: Served, *, followed: bool) -> dict[str, Any]:
    """An index as `IndexFacts` says it."""
    manifest = served.index.manifest
    return {
        "name": served.opened.name,
        "version": served.opened.version,
        "gallery": manifest.gallery,
        "n": manifest.n,
        "removed": len(served.hidden),
        "dimension": manifest.dimension,
        "factory": manifest.factory,
        "model": manifest.model.name if manifest.model else None,
        "exact": manifest.exact,
        "k": manifest.k,
        "recall": promised(manifest, None, manifest.k, exact=manifest.exact),
        "followed": followed,
        "thumbnails": served.opened.beside.has_thumbnails,
        "asks_by_row": manifest.rerank_vectors.kind != "none",
        "columns": [name for name in served.index.table.columns if name not in ("row", "id")],
        "caution": caution(manifest.model, manifest.kept_columns, None, published_at(manifest.embeddings)),
    }
