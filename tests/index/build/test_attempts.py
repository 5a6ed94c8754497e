"""An index that misses its target is followed by one of the next kind, as long as memory allows it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmill.core.errors import UserError
from clipmill.core.manifests import GALLERY_VECTORS, Interval, OperatingPoint, Promise
from clipmill.core.reporter import Silent
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build import attempts, graph
from clipmill.index.build import plan as planning
from clipmill.index.build.build import Build, make_build
from clipmill.index.build.footprint import flat_footprint
from clipmill.index.build.ladder import plans_for
from clipmill.index.build.operate import Operation
from clipmill.index.build.queries import Queries
from clipmill.index.build.unfinished import Drawn, Tuned
from clipmill.verification.index import verify_index
from indexing import build_here, make_here, run_here

N, DIMENSION = 4000, 32


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "EXACT_COMPONENTS", 1000)


@pytest.fixture(scope="module")
def dataset(clustered_embeddings: Callable[..., Embeddings]) -> Embeddings:
    return clustered_embeddings(N, 1200, DIMENSION, seed=7)


def build(dataset: Embeddings, output: Path, **settings: Any) -> Build:
    values = {"tuning_queries": 400, "rerank_vectors": "none", "target_recall": 0.9, **settings}
    return make_build(IndexSettings(embeddings=dataset.location.uri, output=str(output / "index"), **values))


def test_codes_that_find_too_little_are_followed_by_finer_ones(dataset: Embeddings, tmp_path: Path) -> None:
    index = build_here(build(dataset, tmp_path))
    manifest = index.manifest
    assert manifest.factory.endswith("SQ8")
    assert manifest.target_met
    (tried,) = manifest.tried
    assert (tried.factory.rpartition(",")[2], tried.k, tried.query_kind) == ("PQ16x4fsr", 10, "captions")
    assert tried.recall.value < 0.9 <= manifest.measured_recall.value
    assert 0 < tried.bytes < manifest.memory["total"]
    assert verify_index(str(tmp_path / "index"), quick=False, reporter=Silent()).faults == []


def test_at_last_every_vector_is_compared(dataset: Embeddings, tmp_path: Path) -> None:
    index = build_here(build(dataset, tmp_path, target_recall=0.999))
    assert [one.factory.rpartition(",")[2] for one in index.manifest.tried] == ["PQ16x4fsr", "SQ8"]
    assert (index.manifest.factory, index.manifest.exact, index.manifest.target_met) == ("Flat", True, True)
    assert index.manifest.measured_recall.value == 1


def test_what_memory_does_not_allow_is_not_tried(dataset: Embeddings, tmp_path: Path) -> None:
    index = build_here(build(dataset, tmp_path, target_recall=0.999, memory=300_000))
    assert [one.factory.rpartition(",")[2] for one in index.manifest.tried] == ["PQ16x4fsr"]
    assert index.manifest.factory.endswith("SQ8")
    assert index.manifest.target_met is False
    assert index.manifest.memory["total"] <= 300_000


def test_a_target_that_is_reached_is_not_tried_again(dataset: Embeddings, tmp_path: Path) -> None:
    index = build_here(build(dataset, tmp_path, rerank_vectors=None))
    assert index.manifest.tried == []
    assert index.manifest.factory.endswith("PQ16x4fsr")


def test_a_factory_that_was_given_is_kept(dataset: Embeddings, tmp_path: Path) -> None:
    index = build_here(build(dataset, tmp_path, factory="IVF16,PQ16x4fsr"))
    assert (index.manifest.factory, index.manifest.tried, index.manifest.target_met) == ("IVF16,PQ16x4fsr", [], False)


@pytest.mark.parametrize(
    ("tune_k", "kind", "follows"),
    [
        ((100,), "captions", True),
        (None, "captions", False),
        ((50,), "captions", False),
        ((100,), GALLERY_VECTORS, False),
    ],
)
def test_only_what_was_asked_for_makes_another_follow(
    dataset: Embeddings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tune_k: tuple[int, ...] | None,
    kind: str,
    follows: bool,
) -> None:
    """Ten results are found as was promised, a hundred are not."""
    work = build(dataset, tmp_path, tune_k=tune_k)
    share = Interval(value=0.8, low=0.79, high=0.81, n=400)
    point = OperatingPoint(nprobe=4, rerank=0, recall=share, confirmed_recall=share, milliseconds_per_query=1.0)
    missed = Promise(query_kind=kind, k=100, target_met=False, operating_point=point)
    captions = Queries("captions", np.zeros((4, DIMENSION), np.float32), np.zeros((4, DIMENSION), np.float32))
    made = {Drawn: Drawn(captions, None, 0.0), Tuned: Tuned("0" * 64, Operation(point, True, []), [missed], 0.0, 0.0)}
    monkeypatch.setattr(attempts, "load", lambda place, of: made[of])
    assert attempts.missed_promise(work) == (missed if follows else None)


def test_a_start_after_an_interruption_follows_the_next_plan(
    dataset: Embeddings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = build_here(build(dataset, tmp_path / "reference"))
    followed: list[int] = []
    real = graph.next_attempt

    def interrupted(build: Build, trained: attempts.Trained) -> Build | None:
        found = real(build, trained)
        if found is not None:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(graph, "next_attempt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_here(build(dataset, tmp_path))
    monkeypatch.setattr(graph, "next_attempt", real)
    real_train = graph.steps.train

    def noted(build: Build, *rest: Any) -> attempts.Trained:
        followed.append(build.attempt)
        return real_train(build, *rest)

    monkeypatch.setattr(graph.steps, "train", noted)
    made = make_here(build(dataset, tmp_path)).manifest
    assert followed == [1]
    assert (made.factory, made.tried) == (reference.manifest.factory, reference.manifest.tried)
    assert made.trained_sha256 == reference.manifest.trained_sha256
    assert made.promise == reference.manifest.promise.model_copy(update={"operating_point": made.operating_point})


def test_files_of_a_kind_that_was_given_up_are_not_published(
    clustered_embeddings: Callable[..., Embeddings], tmp_path: Path
) -> None:
    """The first kind of an index of 256 dimensions has a query transform."""
    dataset = clustered_embeddings(3000, 700, 256, seed=8)
    index = build_here(build(dataset, tmp_path, target_recall=0.97, tuning_queries=300))
    assert index.manifest.tried[0].factory.startswith("PCAR128,")
    assert index.manifest.query_transform is None
    listed = {path.name for path in (tmp_path / "index").iterdir()}
    assert "query_transform.npy" not in listed
    assert verify_index(str(tmp_path / "index"), quick=False, reporter=Silent()).faults == []


@pytest.mark.parametrize("dimension", [32, 512])
def test_plans_keep_within_memory_and_end_with_exact_search(dimension: int) -> None:
    n = 300_000
    exact = flat_footprint(n, dimension).total
    plans = plans_for(n, dimension, exact, 0.95)
    kinds = [plan.factory.rpartition(",")[2] for plan in plans]
    assert kinds == (["PQ16x4fsr", "SQ8", "Flat"] if dimension == 32 else ["PQ128x4fsr", "PQ256x4fsr", "SQ8", "Flat"])
    assert len({plan.shards for plan in plans}) == 1
    sizes = [plan.chosen.footprint.total for plan in plans if plan.chosen.footprint]
    assert sizes == sorted(sizes)
    assert [plan.factory.rpartition(",")[2] for plan in plans_for(n, dimension, exact - 1, 0.95)] == kinds[:-1]
    assert (plans[-1].training_rows, plans[-2].training_rows > 0) == (0, True)


def test_the_bytes_that_were_planned_are_not_exceeded(dataset: Embeddings, tmp_path: Path) -> None:
    work = build(dataset, tmp_path)
    index = build_here(work)
    planned = work.plans[1].chosen.footprint
    assert planned is not None
    assert index.manifest.memory["total"] <= planned.total


def test_where_nothing_like_what_will_be_asked_is_known_no_other_kind_is_tried(
    clustered_embeddings: Callable[..., Embeddings], tmp_path: Path
) -> None:
    index = build_here(build(clustered_embeddings(N, 0, DIMENSION, seed=7), tmp_path))
    assert index.manifest.tried == []
    assert index.manifest.query_kind == GALLERY_VECTORS


def test_a_factory_that_leaves_no_rows_out_needs_stored_vectors(dataset: Embeddings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="HNSW16 leaves no rows out"):
        build(dataset, tmp_path, factory="HNSW16")
