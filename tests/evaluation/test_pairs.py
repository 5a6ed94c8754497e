"""Every pair of kinds of items that a dataset has is measured in both directions, by the same definitions."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, EvaluateSettings, IndexSettings
from clipmill.datasets.manifests import Embeddings, vectors_of
from clipmill.runs.stages import embed_stage, evaluate_stage, index_stage
from clipmill.verification.dataset import verify
from clips import film
from pictures import noisy

pytest.importorskip("av")
ROWS = 24
HERE = ClusterSettings(cpus=1, device="cpu")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with a picture, a video of two pictures and two captions each; every fourth has no video."""
    folder = tmp_path_factory.mktemp("pairs")
    chance = np.random.default_rng(4)
    videos = [film([chance.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(2)]) for _ in range(ROWS)]
    columns = {
        "image": [noisy(24, 24, seed) for seed in range(ROWS)],
        "video": [video if row % 4 else b"" for row, video in enumerate(videos)],
        "caption": [[f"number {row}", f"a scene called {row}"] for row in range(ROWS)],
    }
    (folder / "in").mkdir()
    pq.write_table(pa.table(columns), folder / "in/rows.parquet")
    embed = EmbedSettings(input=str(folder / "in"), output=str(folder / "embeddings"), video_column="video")
    embed_stage(embed, HERE, Silent())
    index = IndexSettings(embeddings=str(folder / "embeddings"), output=str(folder / "index"), gallery="videos")
    index_stage(index, HERE, Silent())
    settings = EvaluateSettings(
        embeddings=str(folder / "embeddings"),
        index=str(folder / "index"),
        output=str(folder / "report"),
        bootstrap_samples=20,
    )
    evaluate_stage(settings, Silent())
    return folder


def side(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    dataset = Embeddings.open(str(folder / "embeddings"))
    table = dataset.table(part, ["row", "embedding"])
    return table.column("row").to_numpy(), vectors_of(table.column("embedding")).astype(np.float64)


@pytest.mark.parametrize(
    ("direction", "queries", "gallery"),
    [
        ("t2i", "captions", "images"),
        ("i2t", "images", "captions"),
        ("t2v", "captions", "videos"),
        ("v2t", "videos", "captions"),
        ("i2v", "images", "videos"),
        ("v2i", "videos", "images"),
    ],
)
def test_recall_is_that_of_all_products(measured: Path, direction: str, queries: str, gallery: str) -> None:
    (asked, left), (found, right) = side(measured, queries), side(measured, gallery)
    known = np.isin(asked, found)
    scores = left[known] @ right.T
    right_ones = asked[known][:, None] == found
    best = np.where(right_ones, scores, -2).max(axis=1)
    places = (scores > best[:, None]).sum(axis=1)
    report = json.loads((measured / "report/report.json").read_text())
    (part,) = [part for part in report["retrieval"] if part["direction"] == direction]
    assert (part["queries"], part["gallery"]) == (int(known.sum()), len(found))
    assert part["without_positive"] == int((~known).sum())
    figures = {figure["key"]: figure["value"] for figure in part["figures"]}
    for k in (1, 5, 10):
        assert figures[f"{direction}.recall@{k}"] == pytest.approx((places < k).mean(), abs=1 / known.sum() + 1e-9)


def test_the_report_is_whole_and_tells_of_the_index_of_videos(measured: Path) -> None:
    report = json.loads((measured / "report/report.json").read_text())
    assert [part["direction"] for part in report["retrieval"]] == ["t2i", "i2t", "t2v", "v2t", "i2v", "v2i"]
    assert report["fidelity"]["gallery"] == "videos"
    assert report["dataset"]["counts"]["clips"]["videos"] == {"embedded": 18, "rejected": 6, "without_column": 0}
    assert verify(str(measured / "report"), quick=False, reporter=Silent()).faults == []
    page = (measured / "report/report.html").read_text()
    assert "text → video" in page
    assert "18 videos" in page
    queries = pq.read_table(measured / "report/report.queries.parquet")
    assert set(queries.column("task").to_pylist()) == {"t2i", "i2t", "t2v", "v2t", "i2v", "v2i"}
