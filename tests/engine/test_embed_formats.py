"""Archives and saved datasets are embedded where they lie: the vectors of the same rows in Parquet, and each row ends once."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import clipmill
import datasets
from apart import apart
from clipmill.core.manifests import EmbeddingsManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.runs.stages import embed_stage
from pictures import noisy

ROWS = 70
PICTURES = [noisy(40, 30, seed) for seed in range(ROWS)]
CAPTIONS = [f"picture number {number}" for number in range(ROWS)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows as Parquet, as an archive and as a saved dataset; one picture is none."""
    folder = tmp_path_factory.mktemp("formats")
    pictures = [*PICTURES[:-1], b"no picture"]
    for name in ("parquet", "tar"):
        (folder / name).mkdir()
    pq.write_table(pa.table({"image": pictures, "caption": CAPTIONS}), folder / "parquet" / "a.parquet")
    with tarfile.open(folder / "tar" / "a.tar", "w") as archive:
        for number, (picture, caption) in enumerate(zip(pictures, CAPTIONS, strict=True)):
            for extension, data in (("png", picture), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"{number:03d}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    rows = {"image": [{"bytes": data, "path": None} for data in pictures], "caption": CAPTIONS}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(folder / "saved"))
    return folder


def vectors_of(place: Path, part: str) -> tuple[list[int], np.ndarray]:
    dataset = Embeddings.open(str(place))
    tables = [dataset.open_shard(shard).read(["row", "embedding"]) for shard in dataset.shards_of(part)]
    table = pa.concat_tables(tables)
    return table.column("row").to_pylist(), np.stack(table.column("embedding").to_pylist())


def alike(vectors: np.ndarray, expected: np.ndarray) -> None:
    """Formats are cut into units of other sizes, and products of other sizes are summed in another order."""
    np.testing.assert_allclose(vectors.astype(np.float32), expected.astype(np.float32), rtol=0, atol=2**-12)


@pytest.mark.parametrize("kind", ["tar", "saved"])
def test_vectors_rows_and_rejects_are_those_of_parquet(inputs: Path, kind: str, tmp_path: Path) -> None:
    theirs = clipmill.embed(inputs / "parquet", tmp_path / "parquet")
    ours = clipmill.embed(inputs / kind, tmp_path / kind)
    assert ours.counts == theirs.counts
    assert ours.counts.rejected_by_reason == {"not_an_image": 1}
    for part in ("images", "captions"):
        (rows, vectors), (same_rows, same) = vectors_of(tmp_path / kind, part), vectors_of(tmp_path / "parquet", part)
        assert rows == same_rows
        alike(vectors, same)
    assert [fault for found in clipmill.verify(tmp_path / kind) for fault in found.faults] == []
    before = (tmp_path / kind / "manifest.json").read_bytes()
    clipmill.embed(inputs / kind, tmp_path / kind)
    assert (tmp_path / kind / "manifest.json").read_bytes() == before


def embed(source: Path, output: Path) -> EmbeddingsManifest:
    settings = EmbedSettings(input=str(source), output=str(output))
    return embed_stage(settings, ClusterSettings(address="local", cpus=1), Silent()).manifest


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["tar", "saved"])
def test_a_cluster_reads_them_too(inputs: Path, kind: str, tmp_path: Path) -> None:
    clipmill.embed(inputs / kind, tmp_path / "here")
    apart(embed, inputs / kind, tmp_path / "there")
    alike(vectors_of(tmp_path / "here", "images")[1], vectors_of(tmp_path / "there", "images")[1])
