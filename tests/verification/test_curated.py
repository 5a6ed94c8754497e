"""What was altered in near-duplicates or a selection is found, and named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from clipmill import storage
from clipmill.core.reporter import Silent
from clipmill.core.settings import DedupSettings
from clipmill.curate.dedup import make_dedup
from clipmill.curate.graph import find_duplicates
from clipmill.datasets.shards import SHARDS_FILE, Shard, describe_shard, write_shards
from clipmill.engine.here import Here
from clipmill.verification.dataset import verify
from clipmill.verification.findings import Findings
from clipmill_jobs import filter as filter_job
from clustered import write_embeddings

ROWS = 30


@pytest.fixture
def embeddings(tmp_path: Path) -> str:
    """Three rows alike, two others alike, and the rest at right angles."""
    vectors = np.eye(ROWS, 32, dtype=np.float16)
    vectors[[7, 20]] = vectors[3]
    vectors[11] = vectors[10]
    return str(write_embeddings(tmp_path / "embeddings", vectors, vectors[:5]))


@pytest.fixture
def duplicates(embeddings: str, tmp_path: Path) -> Path:
    dedup = make_dedup(DedupSettings(embeddings=embeddings, output=str(tmp_path / "duplicates"), threshold=0.9))
    dedup.run(lambda work: find_duplicates(dedup, work, Here(1), Silent()))
    return tmp_path / "duplicates"


@pytest.fixture
def selection(embeddings: str, tmp_path: Path) -> Path:
    options = ["--embeddings", embeddings, "--output", str(tmp_path / "selection"), "--where", "row > 9"]
    assert CliRunner().invoke(filter_job.command, options).exit_code == 0
    return tmp_path / "selection"


def check(folder: Path, *, quick: bool = False) -> Findings:
    return verify(str(folder), quick=quick, reporter=Silent())


def replace_table(folder: Path, path: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Alters a file and all checksums above it, so that only its content can give it away."""
    pq.write_table(change(pq.read_table(folder / path)), folder / path)
    location = storage.resolve(folder)
    shards = [Shard(**record) for record in pq.read_table(folder / SHARDS_FILE).to_pylist()]
    rows = pq.read_metadata(folder / path).num_rows
    made = [
        describe_shard(location, path, shard.part, rows, shard.first_row, shard.last_row)
        if shard.path == path
        else shard
        for shard in shards
    ]
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards_sha256"] = write_shards(location, made)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def set_column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def test_what_was_made_is_whole(duplicates: Path, selection: Path) -> None:
    assert check(duplicates).checked == {"files": 2, "rows": 4 + 5, "cosines": 4}
    for folder in (duplicates, selection):
        for quick in (True, False):
            assert check(folder, quick=quick).faults == []


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        ("pairs.parquet", lambda table: set_column(table, "cosine", [0.5, 1, 1, 1]), "1 pairs have a cosine below"),
        (
            "pairs.parquet",
            lambda table: set_column(table, "row_b", [29, 20, 20, 11]),
            "1 pairs in pairs.parquet are not in",
        ),
        (
            "pairs.parquet",
            lambda table: set_column(table, "row_b", [10, 20, 20, 11]),
            "1 pairs in pairs.parquet are not in",
        ),
        (
            "groups.parquet",
            lambda table: set_column(table, "kept", [True] * 5),
            "not every one of 2 groups keeps one row",
        ),
        (
            "pairs.parquet",
            lambda table: set_column(table, "cosine", [0.95, 1, 1, 1]),
            "1 of 4 pairs looked at have another",
        ),
        (
            "groups.parquet",
            lambda table: set_column(table, "least_cosine", [0.95, 1, 1, 1, 1]),
            "in 1 groups not every row has the same least_cosine",
        ),
        (
            "groups.parquet",
            lambda table: set_column(table, "least_cosine", [0.95] * 5),
            "the least cosine is 0.950000, the manifest says 1.0",
        ),
        ("groups.parquet", lambda table: table.slice(1), "groups.parquet holds 4 rows, the manifest counts 5"),
    ],
)
def test_duplicates_that_contradict_themselves_are_found(
    duplicates: Path, path: str, change: Callable[[pa.Table], pa.Table], says: str
) -> None:
    replace_table(duplicates, path, change)
    assert any(says in fault for fault in check(duplicates).faults), check(duplicates).faults


def test_groups_wider_than_their_pairs_or_their_linkage_allow_are_found(duplicates: Path) -> None:
    replace_table(duplicates, "pairs.parquet", lambda table: set_column(table, "cosine", [0.95, 1, 1, 1]))
    assert any(
        "in 1 groups least_cosine is greater than the cosine of a pair" in one for one in check(duplicates).faults
    )
    replace_table(duplicates, "groups.parquet", lambda table: set_column(table, "least_cosine", [0.8] * 5))
    manifest = json.loads((duplicates / "manifest.json").read_text())
    (duplicates / "manifest.json").write_text(json.dumps({**manifest, "linkage": "complete"}))
    assert any("2 groups hold two rows below the threshold" in one for one in check(duplicates).faults)


def test_clusters_without_a_recall_are_found(duplicates: Path) -> None:
    manifest = json.loads((duplicates / "manifest.json").read_text())
    (duplicates / "manifest.json").write_text(json.dumps({**manifest, "method": "clusters"}))
    assert any("does not say what share of pairs was found" in one for one in check(duplicates, quick=True).faults)


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        ("kept/part-00000.parquet", lambda table: table.slice(1), "kept/ holds 19 rows, the manifest counts 20"),
        (
            "kept/part-00000.parquet",
            lambda table: set_column(table, "row", [3, *table.column("row").to_pylist()[1:]]),
            "do not hold each of 30 rows once",
        ),
        (
            "dropped/part-00000.parquet",
            lambda table: set_column(table, "why", [[], *table.column("why").to_pylist()[1:]]),
            "dropped rows without a reason",
        ),
    ],
)
def test_rows_that_are_lost_repeated_or_dropped_for_nothing_are_found(
    selection: Path, path: str, change: Callable[[pa.Table], pa.Table], says: str
) -> None:
    replace_table(selection, path, change)
    assert any(says in fault for fault in check(selection).faults), check(selection).faults


def test_an_altered_byte_and_a_missing_or_extra_file_are_found(duplicates: Path, selection: Path) -> None:
    path = duplicates / "groups.parquet"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(bytes(data))
    assert any("groups.parquet was altered" in fault for fault in check(duplicates).faults)
    (selection / "kept/part-00000.parquet").rename(selection / "kept/other.parquet")
    faults = check(selection).faults
    assert any("kept/part-00000.parquet is missing" in fault for fault in faults)
    assert any("kept/other.parquet does not belong" in fault for fault in faults)


def test_embeddings_that_were_made_anew_are_told(embeddings: str, duplicates: Path) -> None:
    manifest = Path(embeddings) / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    assert any("made anew or altered" in fault for fault in check(duplicates).faults)
    assert pc.max(pq.read_table(duplicates / "groups.parquet").column("group")).as_py() == 1
