"""The shape of the space, against sums over all pairs and against what is known of real vectors."""

from pathlib import Path

import numpy as np
import pytest

from captioned import pairs, unit
from clipmill.evaluation.retrieval.ranks import rank_positives
from clipmill.evaluation.studies import space
from clipmill.evaluation.studies.space import describe_space, describe_tower, effective_rank
from clipmill.evaluation.vectors import Vectors

FASHION = Path(__file__).parents[3] / "../shared/data/fashion_clip_pairs"


def sides(images: int = 60, each: int = 3, **options: object) -> tuple[Vectors, Vectors]:
    pictures, captions, rows = pairs(images, each, **options)
    return Vectors(np.arange(images), pictures), Vectors(rows, captions)


def unit64(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64) / np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)


def test_gap_alignment_and_uniformity_are_the_papers_sums_over_pairs() -> None:
    images, captions = sides()
    found = describe_space(images, captions, rank_positives(captions, images))
    one, other = unit64(images.values), unit64(captions.values)
    assert found.modality_gap == pytest.approx(np.linalg.norm(one.mean(0) - other.mean(0)))
    assert found.alignment is not None
    assert found.alignment.value == pytest.approx(np.mean([np.sum((other[i] - one[i // 3]) ** 2) for i in range(180)]))
    for tower, vectors in ((found.images, one), (found.captions, other)):
        closeness = [
            np.exp(-2 * np.sum((a - b) ** 2)) for i, a in enumerate(vectors) for j, b in enumerate(vectors) if i != j
        ]
        assert tower is not None
        assert tower.uniformity == pytest.approx(np.log(np.mean(closeness)))
        assert tower.norm_of_mean == pytest.approx(np.linalg.norm(vectors.mean(0)))


def test_effective_rank_of_equal_directions_is_their_number() -> None:
    assert effective_rank(np.diag([2.0, 2, 2, 0, 0])) == pytest.approx(3)
    assert effective_rank(np.diag([0.5, 0.25, 0.25])) == pytest.approx(2**1.5)
    assert effective_rank(np.zeros((4, 4))) == 0


def test_vectors_that_are_all_the_same_have_no_spread() -> None:
    found = describe_tower(np.tile(unit(np.ones((1, 8))), (20, 1)), np.random.default_rng(0))
    assert found is not None
    assert found.norm_of_mean == pytest.approx(1)
    assert found.uniformity == pytest.approx(0)
    assert found.effective_rank == 0


def test_random_directions_are_as_uniform_as_can_be() -> None:
    found = describe_tower(unit(np.random.default_rng(0).standard_normal((3000, 256))), np.random.default_rng(0))
    assert found is not None
    assert found.uniformity == pytest.approx(-4, abs=0.05)
    assert found.norm_of_mean < 0.03


def test_a_sample_comes_close_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    images, captions = sides(3000, 1)
    ranks = rank_positives(captions, images)
    whole = describe_space(images, captions, ranks)
    monkeypatch.setattr(space, "SAMPLE", 1500)
    monkeypatch.setattr(space, "UNIFORMITY_SAMPLE", 500)
    drawn = describe_space(images, captions, ranks)
    assert drawn.images is not None
    assert whole.images is not None
    assert (drawn.images.n, drawn.images.uniformity_n) == (1500, 500)
    assert drawn.images.effective_rank == pytest.approx(whole.images.effective_rank, rel=0.02)
    assert drawn.images.uniformity == pytest.approx(whole.images.uniformity, rel=0.02)
    assert whole.alignment is not None
    assert drawn.alignment is not None
    assert drawn.alignment.low < whole.alignment.value < drawn.alignment.high


def test_what_takes_two_is_not_measured_of_one_and_nothing_of_none() -> None:
    images, captions = sides(1, 1)
    found = describe_space(images, captions, rank_positives(captions, images))
    assert found.images is not None
    assert (found.images.effective_rank, found.images.uniformity) == (None, None)
    empty = Vectors(np.empty(0, np.int64), np.empty((0, 16), np.float16))
    nothing = describe_space(images, empty, None)
    assert (nothing.captions, nothing.alignment, nothing.modality_gap) == (None, None, None)


@pytest.mark.skipif(not FASHION.exists(), reason="the real pairs are not on this machine")
def test_real_vectors_have_the_figures_that_are_known_of_them() -> None:
    values = [np.load(FASHION / f"{name}_embeddings.npy").astype(np.float16) for name in ("image", "text")]
    images, captions = (Vectors(np.arange(len(side)), side) for side in values)
    found = describe_space(images, captions, rank_positives(captions, images))
    for tower, rank, norm in ((found.images, 78.2, 0.742), (found.captions, 66.0, 0.614)):
        assert tower is not None
        assert tower.effective_rank == pytest.approx(rank, abs=0.05)
        assert tower.norm_of_mean == pytest.approx(norm, abs=5e-4)
    assert found.alignment is not None
    assert found.alignment.value == pytest.approx(2 - 2 * 0.359, abs=2e-3)
