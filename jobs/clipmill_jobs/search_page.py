"""The page of a search: what was asked, of what, and what was found."""

import logging
import shlex
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmill import storage

if TYPE_CHECKING:
    from clipmill.core.manifests import IndexManifest
    from clipmill.index.search.search import Index

_LOG = logging.getLogger("clipmill.search")
_SIDE = 320
_MOST_PIXELS = 178_956_970


def write_results_page(
    index: "Index",
    results: Sequence[dict[str, Any]],
    *,
    asked: tuple[str, str],
    places: tuple[str, str],
    arguments: Sequence[str],
    page: str,
) -> None:
    """Writes ``page``. ``asked`` is the option that the query came by and its value, ``places`` are the index as it was named
    and where it is, ``arguments`` those of the command."""
    from clipmill.report.results.page import Asked, picture_uri, render_page
    from clipmill.report.results.pictures import pictures_of_results

    manifest, (option, value) = index.manifest, asked
    shown = manifest.gallery in ("images", "captions")
    own = _row_of(index, value) if option == "--id" and shown else None
    rows = {result["row"] for result in results} | ({own} if own is not None else set())
    pictures = pictures_of_results(manifest, rows if shown else set())
    missing = {row: why for row, why in pictures.missing.items() if row != own}
    if missing:
        _LOG.warning("%d pictures are missing: %s", len(missing), next(iter(missing.values())))
    picture = pictures.found.get(own) if own is not None else None
    if option == "--image":
        picture = _small(Path(value))
    told = Asked(
        query=f"like {value}" if option == "--id" else value,
        command=shlex.join(["clipmill", "search", *arguments]),
        made=datetime.now(timezone.utc),
        picture=picture_uri(picture),
        facts=_facts(manifest, places, len(results)),
    )
    storage.write_bytes(storage.resolve(page), render_page(told, results, pictures).encode())


def _facts(manifest: "IndexManifest", places: tuple[str, str], found: int) -> dict[str, str]:
    from clipmill.versions.place import Place
    from clipmill.versions.pointer import read_pointer

    named, uri = places
    model, version = manifest.model, read_pointer(Place.of(named)).name
    told = "not known: the vectors were made elsewhere" if model is None else f"{model.name} {model.pretrained}".strip()
    facts = {"Found": f"{found:,} of {manifest.n:,} {manifest.gallery}, by cosine similarity", "Model": told}
    return {**facts, "Index": storage.resolve(uri).uri, **({"Version": version} if version else {})}


def _row_of(index: "Index", identifier: str) -> int:
    """The row with this id, which was searched with."""
    position = index.table.positions_of_id(identifier)[:1]
    return int(index.table.fetch(position).column("row")[0].as_py())


def _small(file: Path) -> bytes:
    from clipmill.source.decode import decode_image, thumbnail

    return thumbnail(decode_image(file.read_bytes(), _MOST_PIXELS), _SIDE)
