"""Near-duplicates by clusters: nearly all pairs, none invented, the recall that is told is the true one, and work continues."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from clipmill.core.errors import RunFailed
from clipmill.core.gpus import FAKE_GPUS
from clipmill.core.intervals import proportion_interval
from clipmill.core.manifests import DuplicatesManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import DedupSettings
from clipmill.curate import cluster_steps, near
from clipmill.curate import dedup as dedup_module
from clipmill.curate.dedup import Dedup, make_dedup
from clipmill.curate.graph import find_duplicates
from clipmill.engine.here import Here
from clipmill.stage.checkpoints import save
from clipmill.verification.dataset import verify
from clustered import image_and_caption_vectors, unit, write_embeddings

N, DIMENSION, THRESHOLD = 3000, 128, 0.93
ALIKE = 40
"""Rows with one and the same vector in the first strip, and as many in all others: more than are compared one by one."""


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Clustered vectors, a tenth of which are near-copies of others at cosines from the threshold to 1, or links of chains."""
    rng = np.random.default_rng(4)
    images, _ = image_and_caption_vectors(N, 1, DIMENSION, seed=4)
    whole = unit(images.astype(np.float64))
    copies, originals = np.split(rng.permutation(N)[: N // 5], 2)
    aside = rng.standard_normal((len(copies), DIMENSION))
    aside = unit(aside - (aside * whole[originals]).sum(axis=1, keepdims=True) * whole[originals])
    cosine = rng.uniform(THRESHOLD, 1, (len(copies), 1))
    whole[copies] = cosine * whole[originals] + np.sqrt(1 - cosine**2) * aside
    for first, cosine_of_step in zip(range(0, 60, 3), np.linspace(0.94, 0.99, 20), strict=True):
        angle = np.arccos(cosine_of_step)  # three rows in a row, so that the outer two are twice as far apart
        towards = unit(rng.standard_normal(DIMENSION))
        towards = unit(towards - towards @ whole[originals[first]] * whole[originals[first]])
        for step in (1, 2):
            turned = np.cos(step * angle) * whole[originals[first]] + np.sin(step * angle) * towards
            whole[copies[first + step - 1]] = turned
    others = np.setdiff1d(np.arange(N), [*copies, *originals])
    whole[[*rng.choice(others[others > 400], ALIKE, replace=False), *others[:ALIKE]]] = whole[originals[0]]
    return whole.astype(np.float16)


@pytest.fixture(scope="module")
def embeddings(vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("embeddings")
    return str(write_embeddings(folder / "embeddings", vectors, vectors[: N // 2], row_group_size=250))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Many strips and blocks, and a sample of rows that leaves most out."""
    monkeypatch.setattr(dedup_module, "STRIP_ROWS", 400)
    monkeypatch.setattr(near, "_MANY_ALIKE", 20)
    monkeypatch.setattr(cluster_steps, "TUNING_ROWS", 300)
    monkeypatch.setattr(cluster_steps, "MEASURING_ROWS", 700)
    return iter([None])


def asked(embeddings: str, output: Path, **settings: Any) -> DedupSettings:
    return DedupSettings(
        **{"embeddings": embeddings, "output": str(output), "threshold": THRESHOLD, "method": "clusters", **settings}
    )


def find_here(settings: DedupSettings) -> DuplicatesManifest:
    dedup = make_dedup(settings)
    return dedup.run(lambda work: find_duplicates(dedup, work, Here(1), Silent())).manifest


def listed(output: Path) -> dict[tuple[int, int], float]:
    table = pq.read_table(output / "pairs.parquet").to_pydict()
    return dict(zip(zip(table["row_a"], table["row_b"], strict=True), table["cosine"], strict=True))


def stand_ins(vectors: np.ndarray) -> np.ndarray:
    """For each row the first with its vector."""
    _, first, inverse = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
    return first[inverse]


def true_pairs(vectors: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    whole = unit(vectors.astype(np.float64))
    return set(zip(*(side.tolist() for side in np.nonzero(np.triu(whole @ whole.T >= threshold, 1))), strict=True))


def test_nearly_all_pairs_are_found_and_none_is_invented(embeddings: str, vectors: np.ndarray, tmp_path: Path) -> None:
    manifest = find_here(asked(embeddings, tmp_path / "found"))
    pairs, first = set(listed(tmp_path / "found")), stand_ins(vectors)
    assert len(pairs) == manifest.pairs
    assert pairs <= true_pairs(vectors, THRESHOLD - 1e-5)
    truth = {pair for pair in true_pairs(vectors, THRESHOLD) if all(first[row] == row for row in pair)}
    assert len(truth) > 300
    assert len(truth & pairs) / len(truth) >= 0.98
    groups = pq.read_table(tmp_path / "found/groups.parquet").to_pandas().set_index("row")["group"]
    alike = np.flatnonzero(first == np.argmax(np.bincount(first)))
    assert len(alike) == 2 * ALIKE + 1
    assert groups[alike].nunique() == 1
    assert sum(first[a] == first[b] for a, b in pairs) < 20 * len(alike)
    assert manifest.method == "clusters"
    assert manifest.clusters is not None
    assert manifest.clusters.cells == pytest.approx(N // 32, rel=0.2)
    assert manifest.clusters.compared < N / 2
    found = verify(str(tmp_path / "found"), quick=False, reporter=Silent())
    assert found.whole, found.faults


def test_the_recall_that_is_told_is_that_of_the_rows_that_were_drawn(
    embeddings: str, vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By brute force over the rows to measure with, where rows look into no cell but their home, so that much is missed."""
    monkeypatch.setattr(cluster_steps, "tune", lambda dedup, plan: cluster_steps.Margins(0, 0))
    seen = []
    real = cluster_steps.truth_of
    monkeypatch.setattr(cluster_steps, "truth_of", lambda dedup, plan: seen.append(plan.drawn) or real(dedup, plan))
    recall = find_here(asked(embeddings, tmp_path / "found")).recall
    assert recall is not None
    (drawn,) = seen
    measuring = set(drawn.positions[~drawn.tunes].tolist())
    assert recall.rows == len(measuring) == 700
    whole = unit(vectors.astype(np.float64))
    leader, pairs = stand_ins(vectors), set(listed(tmp_path / "found"))
    hits, rows = [], []
    for row in sorted(measuring):
        reached = np.flatnonzero(
            (whole[row] @ whole.T >= THRESHOLD) & ((leader == np.arange(N)) | (np.arange(N) >= 400))
        )
        for other in reached[reached != row].tolist():  # in the first strip one row stands for those with its vector
            a, b = sorted((leader[row], leader[other]))
            hits.append(float(a == b or (a, b) in pairs))
            rows.append(row)
    expected = proportion_interval(np.array(hits), np.array(rows))
    assert recall.recall is not None
    assert (recall.recall.value, recall.recall.n) == (pytest.approx(expected.value), expected.n)
    assert recall.recall.value < 1


def test_every_start_agrees_and_a_killed_one_continues(
    embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = find_here(asked(embeddings, tmp_path / "whole"))

    def begun_again(settings: DedupSettings) -> Iterator[int]:
        """Dies after every piece of work, and begins again, until all is done; how many pieces each start did."""
        for done in range(100):
            dedup = make_dedup(settings)
            saves: list[Any] = []

            def dying(place: Any, value: object, saves: list[Any] = saves) -> None:
                if saves:
                    raise KeyboardInterrupt
                save(place, value)
                saves.append(place)

            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(cluster_steps, "save", dying)
                    dedup.run(lambda work, dedup=dedup: find_duplicates(dedup, work, Here(1), Silent()))
                return
            except KeyboardInterrupt:
                yield done

    starts = len(list(begun_again(asked(embeddings, tmp_path / "killed"))))
    assert starts == 8 + 8 + 8 + 8 + 2 - 1  # strips three times, blocks, cells and margins; the last start finishes
    for name in ("pairs.parquet", "groups.parquet"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    killed = DuplicatesManifest.model_validate_json((tmp_path / "killed/manifest.json").read_bytes())
    assert (killed.recall, killed.clusters) == (whole.recall, whole.clusters)


def test_vectors_that_are_gone_are_told_and_made_anew(
    embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = asked(embeddings, tmp_path / "found")

    def drop(dedup: Dedup) -> list[int]:
        Path(dedup.vectors(3).path).write_bytes(b"")
        return list(range(dedup.blocks))

    with monkeypatch.context() as patch:
        patch.setattr(cluster_steps, "compare_block", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            find_here(settings)
    drop(make_dedup(settings))
    with pytest.raises(RunFailed, match="is gone or damaged; run the same command again"):
        find_here(settings)
    assert find_here(settings).pairs > 300


def test_products_on_a_gpu_find_the_same(embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAKE_GPUS, "1")
    for products in ("cpu", "gpu"):
        find_here(asked(embeddings, tmp_path / products, products=products))
    one, other = (listed(tmp_path / products) for products in ("cpu", "gpu"))
    assert one == other


def test_captions_are_found_by_clusters_too(embeddings: str, tmp_path: Path) -> None:
    manifest = find_here(asked(embeddings, tmp_path / "found", gallery="captions"))
    assert manifest.n == N // 2
    assert pq.read_table(tmp_path / "found/pairs.parquet").num_rows == manifest.pairs > 50
    found = verify(str(tmp_path / "found"), quick=False, reporter=Silent())
    assert found.whole, found.faults


@pytest.mark.parametrize("method", ["exact", "clusters"])
def test_complete_linkage_holds_no_two_rows_apart(
    embeddings: str, vectors: np.ndarray, tmp_path: Path, method: str
) -> None:
    chain = find_here(asked(embeddings, tmp_path / "chain", method=method))
    complete = find_here(asked(embeddings, tmp_path / "complete", method=method, linkage="complete"))
    assert chain.least_cosine is not None
    assert complete.least_cosine is not None
    assert chain.least_cosine < THRESHOLD - 1e-3
    assert complete.least_cosine >= THRESHOLD - 1e-5
    whole = unit(vectors.astype(np.float64))
    for name in ("chain", "complete"):
        table = pq.read_table(tmp_path / name / "groups.parquet").to_pandas()
        for _, group in table.groupby("group"):
            rows = whole[group["row"].to_numpy()]
            assert len(group) > 1
            assert group["least_cosine"].iloc[0] == pytest.approx((rows @ rows.T).min(), abs=1e-5)
            assert group["kept"].sum() == 1
        assert table["row"].is_unique
        found = verify(str(tmp_path / name), quick=False, reporter=Silent())
        assert found.whole, found.faults


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_a_handful_of_rows_is_compared_as_well(tmp_path: Path, rows: int) -> None:
    stored = np.repeat(np.eye(1, 16, dtype=np.float16), rows, axis=0)
    stored[-1, 1] = 0.1
    dataset = write_embeddings(tmp_path / "embeddings", stored, stored[:1], files=1)
    manifest = find_here(asked(str(dataset), tmp_path / "found"))
    assert manifest.pairs == rows * (rows - 1) // 2
