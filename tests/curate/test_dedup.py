"""`clipmill dedup` publishes the pairs and groups that are there, keeps by the rule asked for, and continues its work."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill.core.errors import OutputDiffers, RunFailed, UserError
from clipmill.core.gpus import FAKE_GPUS
from clipmill.core.manifests import DuplicatesManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import DedupSettings
from clipmill.curate import dedup as dedup_module
from clipmill.curate import steps
from clipmill.curate.dedup import make_dedup
from clipmill.curate.graph import find_duplicates
from clipmill.curate.worth import describe
from clipmill.datasets.manifests import Embeddings
from clipmill.engine.here import Here
from clipmill.index.build.gallery import Gallery
from clipmill.verification.dataset import verify
from clustered import write_embeddings
from planted import PLANTED, planted_embeddings, planted_vectors


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return planted_vectors()


@pytest.fixture(scope="module")
def embeddings(vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> str:
    return planted_embeddings(tmp_path_factory.mktemp("embeddings"), vectors)


def find_here(settings: DedupSettings) -> DuplicatesManifest:
    """Finds what is left to find, in this process."""
    dedup = make_dedup(settings)
    return dedup.run(lambda work: find_duplicates(dedup, work, Here(1), Silent())).manifest


def test_planted_duplicates_are_published_as_pairs_and_groups(
    embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedup_module, "STRIP_ROWS", 700)
    output = str(tmp_path / "duplicates")
    manifest = find_here(DedupSettings(embeddings=embeddings, output=output, threshold=0.95))
    pairs = pq.read_table(f"{output}/pairs.parquet").to_pylist()
    assert [(pair["row_a"], pair["row_b"]) for pair in pairs] == [(5, 2900), (700, 701), (701, 1500)]
    assert [pair["cosine"] for pair in pairs] == pytest.approx(list(PLANTED), abs=2e-3)
    assert (pairs[0]["id_a"], pairs[0]["id_b"]) == ("image-5", "image-2900")
    groups = pq.read_table(f"{output}/groups.parquet").to_pylist()
    assert [(member["group"], member["row"], member["kept"]) for member in groups] == [
        (0, 5, True),
        (0, 2900, False),
        (1, 700, True),
        (1, 701, False),
        (1, 1500, False),
    ]
    assert (manifest.pairs, manifest.groups, manifest.rows_in_groups, manifest.rows_dropped) == (3, 2, 5, 3)
    assert manifest.largest_group == 3
    found = verify(output, quick=False, reporter=Silent())
    assert found.whole, found.faults


def test_strips_that_were_compared_are_not_compared_again(
    embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedup_module, "STRIP_ROWS", 1000)
    settings = DedupSettings(embeddings=embeddings, output=str(tmp_path / "duplicates"), threshold=0.95)
    work = make_dedup(settings)
    work.staging.open()
    steps.rotate(work)
    steps.compare(work, work.strips[1])
    assert [strip.number for strip in steps.to_compare(work)] == [0, 2]
    compared = []
    real = steps.near_pairs
    monkeypatch.setattr(steps, "near_pairs", lambda one, *others: compared.append(one.start) or real(one, *others))
    manifest = find_here(settings)
    assert set(compared) == {0, 2000}
    assert manifest.pairs == 3
    assert manifest.runs[-1].rows_reused == 1000


def test_pairs_that_are_gone_are_told_and_not_left_out(embeddings: str, tmp_path: Path) -> None:
    work = make_dedup(DedupSettings(embeddings=embeddings, output=str(tmp_path / "duplicates")))
    work.staging.open()
    with pytest.raises(RunFailed, match="is gone or damaged; run the same command again"):
        steps.collect(work)


def test_captions_are_told_apart_by_their_index(embeddings: str, tmp_path: Path) -> None:
    output = str(tmp_path / "duplicates")
    find_here(DedupSettings(embeddings=embeddings, output=output, gallery="captions", threshold=0.999))
    (pair,) = pq.read_table(f"{output}/pairs.parquet").to_pylist()
    assert (pair["row_a"], pair["row_b"], pair["caption_index_a"], pair["caption_index_b"]) == (7, 400, 0, 0)
    assert pq.read_table(f"{output}/groups.parquet").column("caption_index").to_pylist() == [0, 0]


def test_a_finished_output_is_left_alone_and_one_that_differs_is_refused(embeddings: str, tmp_path: Path) -> None:
    settings = DedupSettings(embeddings=embeddings, output=str(tmp_path / "duplicates"), threshold=0.95)
    manifest = find_here(settings)
    assert make_dedup(settings).finished() == manifest
    assert find_here(settings) == manifest
    with pytest.raises(OutputDiffers, match=r"threshold: was 0\.95, now 0\.9"):
        find_here(settings.model_copy(update={"threshold": 0.9}))
    assert find_here(settings.model_copy(update={"threshold": 0.9, "overwrite": True})).threshold == 0.9


@pytest.mark.parametrize(
    ("keep", "gallery", "says"),
    [
        ("label", "images", "--keep label: the column is string"),
        ("year", "images", "has no such column among its images (kept columns: label)"),
        ("largest", "captions", "--keep largest"),
    ],
)
def test_a_rule_that_cannot_choose_is_refused(
    embeddings: str, tmp_path: Path, keep: str, gallery: str, says: str
) -> None:
    with pytest.raises(UserError) as refused:
        make_dedup(DedupSettings(embeddings=embeddings, output=str(tmp_path), keep=keep, gallery=gallery))
    assert says in str(refused.value)


def test_the_best_of_a_group_is_the_largest_or_the_best_described(tmp_path: Path) -> None:
    images = np.eye(4, 8, dtype=np.float16)
    dataset = write_embeddings(tmp_path / "embeddings", images, images, files=1)
    part = dataset / "images/part-00000.parquet"
    table = pq.read_table(part)
    widths = table.set_column(2, table.schema.field("width"), pa.array([10, 30, 20, 5], pa.int32()))
    pq.write_table(widths, part)
    captions = pq.read_table(dataset / "captions/part-00000.parquet")
    scores = captions.set_column(5, captions.schema.field("clip_score"), pa.array([0.1, 0.2, None, 0.3], pa.float32()))
    pq.write_table(scores, dataset / "captions/part-00000.parquet")
    gallery = Gallery(Embeddings.open(str(dataset)), "images")
    members = np.array([0, 2, 3])
    assert describe(gallery, members, "first")[1].tolist() == [0, 0, 0]
    assert describe(gallery, members, "largest")[1].tolist() == [80, 160, 40]
    worth = describe(gallery, members, "clip-score")[1]
    np.testing.assert_allclose(worth, [0.1, np.nan, 0.3], rtol=1e-6)


def test_products_on_a_gpu_publish_the_same_files(
    embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedup_module, "STRIP_ROWS", 700)
    outputs = {products: tmp_path / products for products in ("cpu", "gpu")}
    with pytest.raises(RunFailed, match="--products gpu: this process finds no CUDA"):
        find_here(DedupSettings(embeddings=embeddings, output=str(outputs["gpu"]), products="gpu"))
    monkeypatch.setenv(FAKE_GPUS, "1")
    for products, output in outputs.items():
        found = find_here(DedupSettings(embeddings=embeddings, output=str(output), products=products))
        assert found.pairs == len(PLANTED)
    for name in ("pairs.parquet", "groups.parquet"):
        assert pq.read_table(outputs["cpu"] / name).equals(pq.read_table(outputs["gpu"] / name))
