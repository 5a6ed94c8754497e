"""What a report says of a sample of queries holds for all of them, and a sample of all is all."""

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from captioned import identity, pairs, write_captioned
from clipmill.core.intervals import drawn_proportion_interval, proportion_interval
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.retrieval.draw import Sample, Stratum, draw_sample
from clipmill.evaluation.retrieval.ranks import Ranks, rank_positives
from clipmill.evaluation.retrieval.retrieval import Retrieval, retrieve, summarise
from clipmill.evaluation.sampling import sample_of
from clipmill.evaluation.statistics.bootstrap import mean_intervals, median_interval
from clipmill.evaluation.statistics.clustered import clustered_mean
from clipmill.evaluation.studies.slicing import SliceName, Slicing
from clipmill.evaluation.vectors import Vectors

IMAGES, EACH, SEEDS = 3000, 2, 50
RARE, HARD = 0.04, 0.02


@cache
def data() -> tuple[Vectors, Vectors, NDArray[np.int64]]:
    """Images, captions, and the slice of each image: of the small ones one is easy and one is hard."""
    random = np.random.default_rng(3)
    pictures, captions, rows = pairs(IMAGES, EACH, dimension=24, noise=1.6, seed=3)
    slices = np.where(random.random(IMAGES) < RARE, 1, 0)
    slices[random.random(IMAGES) < HARD] = 2
    noise = random.standard_normal(captions.shape) * np.array([0.0, 0.0, 0.6])[slices[rows]][:, None]
    spoiled = captions.astype(np.float64) + noise
    spoiled /= np.linalg.norm(spoiled, axis=1, keepdims=True)
    return Vectors(np.arange(IMAGES), pictures), Vectors(rows, spoiled.astype(np.float16)), slices


@cache
def whole(direction: str) -> tuple[Retrieval, Ranks]:
    images, captions, _ = data()
    sides = (captions, images) if direction == "t2i" else (images, captions)
    found = retrieve(direction, *sides, samples=100)  # type: ignore[arg-type]
    assert found is not None
    return found


def sampled(direction: str, seed: int, most: int, *, by_slices: bool) -> Retrieval:
    """The result of a sample, from the ranks of all: those of a query do not depend on which others are ranked."""
    _, ranks = whole(direction)
    _, _, slices = data()
    keys = np.random.default_rng(seed).integers(1 << 63, size=len(ranks)).astype(np.uint64)
    sample = draw_sample(ranks.positions, keys, most, [slices[ranks.rows]] if by_slices else [])
    assert sample is not None
    return summarise(direction, of_sample(ranks, sample), 0, 0, 200, seed, sample)  # type: ignore[arg-type]


def of_sample(ranks: Ranks, sample: Sample) -> Ranks:
    found = ranks.take(np.isin(ranks.positions, sample.positions))
    return replace(found, weights=sample.weights, of=sample.queries)


@pytest.mark.parametrize("by_slices", [False, True])
@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_the_figure_of_all_lies_in_the_interval_of_a_sample_about_95_times_in_100(
    direction: str, by_slices: bool
) -> None:
    truth = {figure.key: figure.value for figure in whole(direction)[0].figures}
    covered: Counter[str] = Counter()
    for seed in range(SEEDS):
        for figure in sampled(direction, seed, 400, by_slices=by_slices).figures:
            assert figure.low is not None
            assert figure.high is not None
            covered[figure.key] += figure.low <= truth[figure.key] <= figure.high
    assert {key: count for key, count in covered.items() if count < 44} == {}
    assert set(covered) == set(truth)


@pytest.mark.parametrize("by_slices", [False, True])
def test_figures_of_samples_are_those_of_all_on_average(by_slices: bool) -> None:
    result = whole("t2i")[0]
    found = [sampled("t2i", seed, 400, by_slices=by_slices) for seed in range(SEEDS)]
    for key in ("recall@1", "recall@10", "mean_reciprocal_rank", "mean_rank"):
        values = np.array([one.intervals[key].value for one in found])
        assert values.mean() == pytest.approx(result.intervals[key].value, abs=4 * values.std() / np.sqrt(SEEDS))
    for k, sizes in result.smaller.items():
        for size, value in sizes.items():
            values = np.array([one.smaller[k][size] for one in found])
            assert values.mean() == pytest.approx(value, abs=4 * values.std() / np.sqrt(SEEDS) + 1e-9)
    assert np.mean([one.recall(10) for one in found]) == pytest.approx(result.recall(10), abs=0.02)


def test_strata_of_which_all_were_drawn_leave_intervals_as_they_are() -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(np.arange(400), 3)
    values = np.clip(random.random(400)[rows] + random.normal(0, 0.3, 1200), 0, 1)
    weights = np.where(rows < 100, 1.0, 1.0 + 1e-12)  # two strata, each drawn whole
    for one, other in (
        (proportion_interval(values, rows), drawn_proportion_interval(values, rows, weights)),
        (clustered_mean(values, rows), clustered_mean(values, rows, weights)),
    ):
        assert one is not None
        assert other is not None
        assert other.value == pytest.approx(one.value)
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.02)
    pair = mean_intervals(values[:, None], rows, 4000)[0], mean_intervals(values[:, None], rows, 4000, 0, weights)[0]
    assert pair[1].high - pair[1].low == pytest.approx(pair[0].high - pair[0].low, rel=0.06)
    middle = median_interval(values, rows, 2000), median_interval(values, rows, 2000, 0, weights)
    assert middle[1].high - middle[1].low == pytest.approx(middle[0].high - middle[0].low, rel=0.1)


def test_the_variance_of_a_stratified_mean_is_that_over_many_draws() -> None:
    random = np.random.default_rng(1)
    stratum = np.repeat([0, 1], [9000, 1000])
    weight, drawn = np.array([9000 / 300, 1000 / 200]), (300, 200)
    means, widths = [], []
    for _ in range(400):
        world = np.where(stratum == 0, random.random(10_000) < 0.7, random.random(10_000) < 0.3)
        chosen = np.concatenate(
            [
                random.choice(np.flatnonzero(stratum == number), count, replace=False)
                for number, count in enumerate(drawn)
            ]
        )
        found = clustered_mean(world[chosen].astype(float), chosen, weight[stratum[chosen]])
        assert found is not None
        means.append(found.value)
        widths.append((found.high - found.low) / 2 / 1.96)
    assert np.mean(widths) == pytest.approx(np.std(means), rel=0.1)


def settings(**values: object) -> EvaluateSettings:
    return EvaluateSettings(embeddings="unused", output="unused", **values)


def test_two_datasets_of_the_same_files_draw_the_same_queries(tmp_path: Path) -> None:
    pictures, captions, rows = pairs(300, 2)
    other = np.random.default_rng(9).permutation(captions.T).T.copy()
    drawn = []
    for name, said in (("one", captions), ("other", other)):
        place = write_captioned(tmp_path / name, pictures, said, rows, model=identity(16), paths=["s3://b/one"])
        sides = Vectors(rows, said), np.arange(600), np.arange(300)
        sample = sample_of(Embeddings.open(place), "t2i", sides[0], sides[1], sides[2], [], settings(query_sample=80))
        assert sample is not None
        drawn.append(sample.positions.tolist())
        again = sample_of(Embeddings.open(place), "t2i", *sides, [], settings(query_sample=80, seed=1))
        assert again is not None
        assert again.positions.tolist() != drawn[-1]
    assert drawn[0] == drawn[1]


def test_captions_are_in_the_slices_of_their_image(tmp_path: Path) -> None:
    pictures, captions, rows = pairs(300, 2)
    place = write_captioned(tmp_path / "e", pictures, captions, rows, paths=["s3://b/one"])
    slicing = Slicing("kind", (SliceName("value", "a"), SliceName("value", "b")), (np.arange(300) < 4).astype(np.int64))
    asked = Vectors(rows, captions), np.arange(600), np.arange(300)
    sample = sample_of(Embeddings.open(place), "t2i", *asked, [slicing], settings(query_sample=100))
    assert sample is not None
    assert np.sum(rows[sample.positions] < 4) == 8
    assert Stratum(8, 8) in sample.strata


def test_no_sample_is_drawn_where_all_are_asked_for_or_there_are_no_more(tmp_path: Path) -> None:
    pictures, captions, rows = pairs(30, 2)
    embeddings = Embeddings.open(write_captioned(tmp_path / "e", pictures, captions, rows))
    asked = Vectors(rows, captions), np.arange(60), np.arange(30)
    for most in ("all", 60, 100_000):
        assert sample_of(embeddings, "t2i", *asked, [], settings(query_sample=most)) is None


def test_ranks_of_a_sample_are_those_of_the_whole() -> None:
    images, captions, _ = data()
    few = np.arange(0, len(captions), 97)
    found, all_ranks = rank_positives(captions, images, few), whole("t2i")[1]
    assert np.array_equal(found.higher, all_ranks.higher[few])
