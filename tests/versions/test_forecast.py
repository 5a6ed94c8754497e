"""The plan of a run is made by the version that it grows from, and stands beside the actual figures."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clipmill.core.forecasts import Forecast
from clipmill.core.manifests import (
    Counts,
)
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings, write_manifest
from clipmill.datasets.shards import SHARDS_FILE
from clipmill.estimate.embedding_bytes import file_bytes
from clipmill.estimate.machine import Machine
from clipmill.index.build.build import make_build
from clipmill.source.input_file import InputFile
from clipmill.storage import resolve, sha256
from clipmill.versions.base import Base
from clipmill.versions.forecast import PlannedRun, beside, make_forecast
from clipmill.versions.place import Place
from clipmill.versions.version import Version, write_version
from clustered import image_and_caption_vectors, write_embeddings
from estimate.manifests import manifest
from indexing import run_here

TWO_CORES = Machine("2 cores", 2, 0)
STAGES = {"encode_images": 8.0, "encode_captions": 2.0, "cpu": 10.0}


def published(folder: Path, name: str, encoded: int, base: Base | None = None, wall: float = 25.0) -> Base:
    """A version of 2,000 rows with a caption each, of which so many were encoded for it, in this time on two cores."""
    place = Place.of(str(folder))
    location = folder / "runs" / name / "embeddings"
    write_embeddings(location, *image_and_caption_vectors(2000, 2000, 16, 0), files=1)
    made = manifest(2000, wall, STAGES, captions=2000, rows_encoded=encoded)
    sums = {"shards_sha256": sha256(resolve(location) / SHARDS_FILE)}
    write_manifest(resolve(location), made.model_copy(update=sums))
    version = Version(
        name=name,
        made=datetime.now(timezone.utc),
        base=base.version.name if base else None,
        key="",
        manifests={},
        counts=Counts(),
        rows_encoded=encoded,
        rows_reused=2000 - encoded,
        removed=0,
        ordinals=1,
        training=None,
        notes=[],
        bars=[],
    )
    write_version(place, version)
    return Base(place, version, Embeddings.open(str(location)))


def files_of(*rows: int) -> list[InputFile]:
    return [
        InputFile(number, f"{number}", 10, "", count, (count,), (10,), pa.schema([]))
        for number, count in enumerate(rows)
    ]


def ahead(base: Base, new: list[InputFile], **changed: Any) -> PlannedRun:
    model = base.embeddings.manifest.model
    assert model is not None
    values = {"model": model, "files": files_of(2000, 4096), "new": new, "limit": None, "index": None}
    return PlannedRun(**{**values, "machine": TWO_CORES, **changed})


def figures(forecast: Forecast) -> dict[str, float]:
    return {one.name: one.planned for one in forecast.figures}


def test_time_and_bytes_of_what_is_new_follow_from_the_version_before(tmp_path: Path) -> None:
    """10 encoder seconds of two encoders are 5 s of 25 s for 2,000 rows: 20 s to start, and 2.5 ms per row."""
    base = published(tmp_path, "1", 2000)
    found = make_forecast(ahead(base, files_of(4096)), base)
    assert found.basis == "as version 1 took"
    assert figures(found)["embed_seconds"] == pytest.approx(20.0 + 4096 * 2.5e-3)
    size = sum(file.bytes for file in base.embeddings.shards)
    ends = sum(file_bytes(part, base.embeddings.manifest.dimension) for part in ("images", "captions"))
    assert figures(found)["embedding_bytes"] == pytest.approx(ends + (size - ends) * 4096 / 2000)
    assert set(figures(found)) == {"embed_seconds", "embedding_bytes"}
    assert figures(make_forecast(ahead(base, files_of(4096), limit=64), base))["embed_seconds"] == pytest.approx(
        20.0 + 64 * 5e-3  # one unit, so one encoder
    )


def test_a_night_without_anything_new_tells_no_rates(tmp_path: Path) -> None:
    first = published(tmp_path, "1", 2000)
    second = published(tmp_path, "2", 0, first)
    third = published(tmp_path, "3", 0, second)
    found = make_forecast(ahead(third, files_of(4096)), third)
    assert found.basis == "as version 1 took"
    assert figures(found) == figures(make_forecast(ahead(first, files_of(4096)), first))
    for file in (tmp_path / "runs/1").rglob("version.json"):
        file.unlink()
    assert make_forecast(ahead(third, files_of(4096)), third).figures == [], "it was pruned"
    assert make_forecast(ahead(third, []), third).figures == []


def test_a_cluster_that_has_still_to_grow_is_taken_as_it_was(tmp_path: Path) -> None:
    base = published(tmp_path, "1", 2000)
    empty = ahead(base, files_of(4096), machine=Machine("empty", 0, 0))
    assert figures(make_forecast(empty, base)) == figures(make_forecast(ahead(base, files_of(4096)), base))
    assert make_forecast(empty, None).figures == []


def test_of_a_model_that_is_not_known_there_are_no_figures(tmp_path: Path) -> None:
    base = published(tmp_path, "1", 2000)
    found = make_forecast(ahead(base, files_of(10)), None)
    assert (found.basis, found.figures) == ("nothing is known yet of what this model takes on these machines", [])


def test_the_first_run_is_planned_by_published_figures(tmp_path: Path) -> None:
    base = published(tmp_path, "1", 2000)
    model = base.embeddings.manifest.model
    assert model is not None
    named = model.model_copy(update={"name": "ViT-B-32"})
    files, index = files_of(2000, 4096), IndexSettings(embeddings="-", output="-")
    found = make_forecast(ahead(base, files, model=named, index=index), None)
    assert found.basis == "by published figures and one caption per image"
    assert set(figures(found)) == {"embed_seconds", "embedding_bytes", "index_seconds", "index_bytes"}
    assert all(one.low <= one.planned <= one.high for one in found.figures)


def test_what_happened_stands_beside_it(tmp_path: Path) -> None:
    base = published(tmp_path, "1", 2000)
    index = tmp_path / "runs/2/index"
    settings = IndexSettings(embeddings=base.embeddings.location.uri, output=str(index), tuning_queries=50)
    run_here(make_build(settings))
    planned = make_forecast(ahead(base, files_of(2000), files=files_of(2000), index=settings), base)
    found = beside(planned, published(tmp_path / "new", "made", 2000, wall=30.0).embeddings, resolve(index))
    was = {one.name: one.actual for one in found.figures}
    assert was["embed_seconds"] == 30.0
    assert was["embedding_bytes"] == sum(file.bytes for file in base.embeddings.shards)
    named = [file for file in index.iterdir() if file.name not in ("manifest.json", "shards.parquet")]
    assert was["index_bytes"] == sum(file.stat().st_size for file in named)
    assert was["index_seconds"] is not None
    by_name = {one.name: one for one in found.figures}
    assert by_name["embed_seconds"].difference == pytest.approx(25.0 / 30.0 - 1)
    assert abs(by_name["index_bytes"].difference or 1.0) < 0.2, "of 16 dimensions most are columns"
    half = published(tmp_path / "half", "made", 1000).embeddings
    in_two_starts = {one.name: one.actual for one in beside(planned, half, None).figures}
    assert in_two_starts["embed_seconds"] is None
    assert in_two_starts["embedding_bytes"] == was["embedding_bytes"]
