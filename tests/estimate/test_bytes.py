"""Bytes are foretold from counts to within a few in a hundred of what is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from clipmill import storage
from clipmill.core.schemas import captions_schema, images_schema
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings, embedding_column, part_writer
from clipmill.datasets.shards import Shard
from clipmill.estimate.embedding_bytes import embedding_bytes, measured_columns, thumbnail_bytes, vector_bytes
from clipmill.estimate.estimate import estimate
from clipmill.estimate.index_bytes import index_bytes
from clipmill.estimate.machine import Machine
from clipmill.estimate.rates import published
from clipmill.estimate.workload import ModelCost, Workload
from clipmill.index.build.build import make_build
from clipmill.index.build.plan import plan_index
from clustered import image_and_caption_vectors, write_embeddings
from estimate.manifests import manifest
from indexing import run_here

RANDOM = np.random.default_rng(0)
WORDS = np.array(
    ["a", "red", "blue", "dog", "cat", "runs", "sits", "on", "near", "grass", "table", "of", "small", "big"]
)


def write_part(folder: Path, part: str, rows: int, dimension: int) -> Shard:
    """One part file as a run writes it, with ids and captions that are as hard to compress as real ones."""
    vectors = embedding_column(RANDOM.normal(size=(rows, dimension)).astype(np.float16))
    ids = pa.array([f"{number:012x}" for number in RANDOM.integers(0, 1 << 48, rows)])
    if part == "images":
        hashes = pa.array([RANDOM.bytes(32) for _ in range(rows)], pa.binary(32))
        sizes = RANDOM.integers(100, 1000, (2, rows)).astype(np.int32)
        columns = [pa.array(np.arange(rows)), ids, *map(pa.array, sizes), hashes, vectors]
        schema = images_schema(dimension, hashes=True)
    else:
        texts = pa.array([" ".join(RANDOM.choice(WORDS, 10)) for _ in range(rows)])
        scores = pa.array(RANDOM.random(rows).astype(np.float32))
        columns = [pa.array(np.arange(rows)), ids, pa.array(np.zeros(rows, np.int32)), texts, vectors, scores]
        schema = captions_schema(dimension)
    place = storage.resolve(folder / f"{part}-{rows}.parquet")
    with storage.atomic_writer(place) as stream, part_writer(stream, schema) as writer:
        writer.write_table(pa.table(columns, schema=schema), row_group_size=8192)
    return Shard(part, "", rows, stream.written.bytes, "", 0, rows - 1)


@pytest.mark.parametrize("dimension", [64, 192, 512, 768])
def test_a_vector_takes_its_numbers_and_its_levels(tmp_path: Path, dimension: int) -> None:
    schema = pa.schema([images_schema(dimension).field("embedding")])
    table = pa.table([embedding_column(np.ones((3000, dimension), np.float16))], schema=schema)
    with storage.atomic_writer(storage.resolve(tmp_path / "x")) as stream, part_writer(stream, schema) as writer:
        writer.write_table(table)
    assert stream.written.bytes == pytest.approx(3000 * vector_bytes(dimension), rel=0.02)


def test_a_thousand_rows_foretell_the_bytes_of_many(tmp_path: Path) -> None:
    small = [write_part(tmp_path, part, 1000, 16) for part in ("images", "captions")]
    large = [write_part(tmp_path, part, rows, 16) for part, rows in (("images", 9000), ("captions", 12_000))]
    columns = measured_columns(manifest(1000, 1.0, {}, captions=1000), small)
    _, foretold, _ = embedding_bytes(9000, 12_000, 16, columns)
    assert foretold == pytest.approx(sum(shard.bytes for shard in large), rel=0.05)


@pytest.mark.parametrize("rows", [5, 40])
def test_a_thousand_rows_foretell_the_bytes_of_a_few(tmp_path: Path, rows: int) -> None:
    """The ends of two files are most of what a night of five rows writes."""
    small = [write_part(tmp_path, part, 1000, 16) for part in ("images", "captions")]
    few = [write_part(tmp_path, part, rows, 16) for part in ("images", "captions")]
    columns = measured_columns(manifest(1000, 1.0, {}, captions=1000), small)
    _, foretold, _ = embedding_bytes(rows, rows, 16, columns)
    assert foretold == pytest.approx(sum(shard.bytes for shard in few), rel=0.05)


def test_thumbnails_are_told_apart_for_an_index_has_none(tmp_path: Path) -> None:
    vectors = image_and_caption_vectors(600, 600, 16, 0)
    pictures = [RANDOM.bytes(700) for _ in range(600)]
    with_them = Embeddings.open(str(write_embeddings(tmp_path / "with", *vectors, thumbnails=pictures, files=1)))
    without = Embeddings.open(str(write_embeddings(tmp_path / "without", *vectors, files=1)))
    assert thumbnail_bytes(without) == 0
    assert thumbnail_bytes(with_them) == pytest.approx(704, rel=0.01)  # with the length of each
    one, other = (
        measured_columns(dataset.manifest, dataset.shards, thumbnail_bytes(dataset)) for dataset in (with_them, without)
    )
    indexed = other.image[1] - other.not_indexed
    assert one.image[1] - one.not_indexed == pytest.approx(indexed, abs=4.0)  # the ends of that column
    model = ModelCost("m", 16, (32, 32), 1.0, 1.0, "")
    workload, machine = Workload(50_000, 1.0, 10_000, 100_000), Machine("2", 2, 0)
    rates = published(model, workload, machine)
    sizes = [
        estimate(workload, model, machine, rates, columns, plan_index(50_000, 16, 10**9, 0.95), None)
        .figure("index_bytes")
        .value
        for columns in (one, other)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


@pytest.mark.parametrize(("memory", "shards"), [(10**9, 1), (10**6, 1), (10**6, 3)])
def test_files_of_an_index_are_counted(
    memory: int, shards: int, clustered_embeddings: Callable[..., Embeddings], tmp_path: Path
) -> None:
    n, dimension = 12_000, 32
    dataset = clustered_embeddings(n, 300, dimension)
    folder = tmp_path / "index"
    values = {"embeddings": dataset.location.uri, "output": str(folder), "tuning_queries": 100}
    run_here(make_build(IndexSettings.model_validate({**values, "memory": memory, "shards": shards})))
    plan = plan_index(n, dimension, memory, 0.95, shards=shards)
    assert plan.exact == (memory == 10**9)
    tables = sum(file.stat().st_size for file in folder.glob("rows-*.parquet"))
    counted = index_bytes(plan, n, dimension, tables / n / 1.25)
    codes = sum(file.stat().st_size for file in folder.glob("*.faiss"))
    vectors = sum(file.stat().st_size for file in folder.glob("vectors-*.npy"))
    rows = sum(file.stat().st_size for file in folder.glob("rows-*"))
    assert counted.vectors == vectors
    assert counted.rows == pytest.approx(rows, abs=1)
    assert counted.codes == pytest.approx(codes, rel=0.08)  # lists this short, cut in three, are padded unevenly
    assert counted.total == pytest.approx(codes + vectors + rows, rel=0.05)
