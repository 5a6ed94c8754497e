"""Probe, few-shot and nearest neighbours give what scikit-learn gives on the same splits."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from captioned import unit
from clipmill.evaluation.classification import supervised
from clipmill.evaluation.classification.few_shot import DRAWS, mean_over_draws
from clipmill.evaluation.classification.neighbours import vote
from clipmill.evaluation.classification.probe import COARSE, ITERATIONS, Examples, Scale, Sweep, sweep
from clipmill.evaluation.classification.splits import hash_rows, split
from clipmill.evaluation.classification.supervised import Labelled, Parts, Supervised, measure_supervised, part_images
from clipmill.evaluation.progress import silent
from clipmill.evaluation.vectors import Vectors

CLASSES = 4
RANDOM = np.random.default_rng(0)
CENTRES = RANDOM.standard_normal((CLASSES, 12))
NUMBERS = RANDOM.choice(CLASSES, size=260, p=[0.5, 0.2, 0.2, 0.1])
VALUES = unit(CENTRES[NUMBERS] + RANDOM.standard_normal((260, 12)) * 1.3)
ROWS = np.arange(260) + 5
IMAGES = Labelled(Vectors(ROWS, VALUES), NUMBERS)


def measured(parts: Parts | str, prompts: np.ndarray | None = None) -> Supervised:
    assert isinstance(parts, Parts)
    return measure_supervised(parts, CLASSES, prompts, 100, 0, silent)


@pytest.fixture(scope="module")
def found() -> Supervised:
    return measured(part_images(IMAGES, None, CLASSES, 0), unit(CENTRES).astype(np.float32))


def scaled(train: np.ndarray, others: np.ndarray) -> np.ndarray:
    mean = train.astype(np.float64).mean(axis=0)
    return ((others - mean) / np.sqrt(((train - mean) ** 2).mean())).astype(np.float32)


def test_the_probe_is_scikit_learns_on_the_same_split(found: Supervised) -> None:
    places = split(np.arange(260), ROWS, NUMBERS, 0)
    train, both = VALUES[places.train], np.concatenate([places.train, places.validation])
    model = LogisticRegression(C=10**found.sweep.best, max_iter=ITERATIONS)
    model.fit(scaled(train, VALUES[both]), NUMBERS[both])
    given = model.predict(scaled(train, VALUES[places.test]))
    truth = NUMBERS[places.test]
    assert found.linear.value == pytest.approx(np.mean(given == truth), abs=1e-6)
    assert found.linear_recall.value == pytest.approx(balanced_accuracy_score(truth, given), abs=1e-6)
    assert 0.5 < found.linear.value < 1
    assert found.linear.low < found.linear.value < found.linear.high
    assert (found.train, found.validation, found.test) == tuple(
        len(part) for part in (places.train, places.validation, places.test)
    )


def test_the_sweep_finds_what_fits_from_scratch_find() -> None:
    places = split(np.arange(260), ROWS, NUMBERS, 0)
    scale = Scale.of(VALUES[places.train].astype(np.float32))
    train, validation = (Examples(scale(VALUES[part]), NUMBERS[part]) for part in (places.train, places.validation))
    swept = sweep(train, validation)
    tried = dict(swept.tried)
    for exponent in tried:
        model = LogisticRegression(C=10**exponent, max_iter=ITERATIONS).fit(train.vectors, train.classes)
        accuracy = np.mean(model.predict(validation.vectors) == validation.classes)
        assert tried[exponent] == pytest.approx(accuracy, abs=1.5 / len(validation))
    assert set(COARSE) <= set(tried)
    assert tried[swept.best] == max(tried.values())
    assert Sweep(((-2.0, 0.5), (0.0, 0.9), (2.0, 0.9))).best == 0


def test_scaling_gives_mean_zero_and_mean_square_one() -> None:
    given = Scale.of(VALUES.astype(np.float32))(VALUES)
    assert np.abs(given.mean(axis=0)).max() < 1e-5
    assert np.mean(given.astype(np.float64) ** 2) == pytest.approx(1, abs=1e-4)
    alike = np.ones((3, 4), np.float32)
    assert np.isfinite(Scale.of(alike)(alike)).all()


def test_neighbours_vote_as_scikit_learns_do(found: Supervised) -> None:
    places = split(np.arange(260), ROWS, NUMBERS, 0)
    known = np.concatenate([places.train, places.validation])
    exact = VALUES.astype(np.float64)
    for k in (20, 1):
        oracle = KNeighborsClassifier(
            n_neighbors=k,
            metric=lambda a, b: 2 - a @ b,
            algorithm="brute",
            weights=lambda far: np.exp((2 - far) / 0.07),
        ).fit(exact[known], NUMBERS[known])
        assert found.neighbours[k].value == pytest.approx(oracle.score(exact[places.test], NUMBERS[places.test]))
    few = vote(VALUES[:3], NUMBERS[:3], VALUES[3:9], CLASSES, (5,))
    assert few[5].shape == (6,)


def test_few_shots_rise_towards_the_probe_and_say_what_was_drawn(found: Supervised) -> None:
    assert [one.shots for one in found.few_shot] == [1, 2, 4, 8, 16]
    first, last = found.few_shot[0], found.few_shot[-1]
    assert len(first.draws) == DRAWS
    assert len(set(first.draws)) > 1
    assert first.accuracy.value == pytest.approx(np.mean(first.draws))
    assert first.accuracy.value < last.accuracy.value <= found.linear.value + 0.1
    assert first.accuracy.low < first.accuracy.value < first.accuracy.high
    smallest = np.bincount(NUMBERS[split(np.arange(260), ROWS, NUMBERS, 0).train]).min()
    assert [one.short for one in found.few_shot] == [int(smallest < one.shots) for one in found.few_shot]


def test_zero_shot_is_measured_on_the_same_test_images(found: Supervised) -> None:
    test = split(np.arange(260), ROWS, NUMBERS, 0).test
    given = (VALUES[test].astype(np.float64) @ unit(CENTRES).T.astype(np.float64)).argmax(axis=1)
    assert found.zero_shot is not None
    assert found.zero_shot.value == pytest.approx(np.mean(given == NUMBERS[test]))


def test_images_in_another_order_give_the_same_figures(found: Supervised) -> None:
    order = np.random.default_rng(1).permutation(260)
    other = measured(part_images(Labelled(Vectors(ROWS[order], VALUES[order]), NUMBERS[order]), None, CLASSES, 0))
    assert other.neighbours == found.neighbours
    assert other.sweep == found.sweep
    assert other.few_shot == found.few_shot
    assert other.linear == found.linear


def test_with_training_data_of_their_own_all_images_test() -> None:
    half = np.arange(260) < 130
    tested, trained = (Labelled(Vectors(ROWS[part], VALUES[part]), NUMBERS[part]) for part in (half, ~half))
    trained = Labelled(trained.vectors, np.where(trained.numbers == 3, -1, trained.numbers))
    other = measured(part_images(tested, trained, CLASSES, 0))
    assert other.test == np.sum(NUMBERS[half] != 3)
    assert other.left_out == np.sum(NUMBERS[half] == 3)
    assert other.train + other.validation == np.sum(trained.numbers >= 0)
    assert other.classes == 3


@pytest.mark.parametrize("numbers", [[0] * 9, [0, 0, 0, 1, 1, 2], [-1] * 5])
def test_too_few_images_are_said_to_be(numbers: list[int]) -> None:
    few = Labelled(Vectors(ROWS[: len(numbers)], VALUES[: len(numbers)]), np.array(numbers))
    assert "fewer than two classes have three images" in str(part_images(few, None, CLASSES, 0))


def test_test_images_that_training_has_too_are_counted_and_many_images_are_sampled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twice = Labelled(Vectors(np.arange(520), np.concatenate([VALUES, VALUES])), np.concatenate([NUMBERS, NUMBERS]))
    other = measured(part_images(twice, None, CLASSES, 0))
    assert other.repeated > other.test * 0.6
    monkeypatch.setattr(supervised, "MEMORY_CELLS", 100 * (12 + 2 * CLASSES))
    parts = part_images(twice, None, CLASSES, 0)
    assert isinstance(parts, Parts)
    assert (parts.labelled, parts.sampled) == (520, 100)


def test_the_interval_over_draws_holds_the_truth() -> None:
    random = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        skill, ease = random.normal(0, 0.05, (5, 1)), random.normal(0, 0.2, (1, 150))
        hits = random.random((5, 150)) < np.clip(0.6 + skill + ease, 0, 1)
        interval = mean_over_draws(list(hits))
        held += interval.low <= 0.6 <= interval.high
    assert held / 400 >= 0.93
    certain = mean_over_draws([np.ones(40, bool)] * 5)
    assert (certain.high, certain.low) == (1.0, pytest.approx(0.025 ** (1 / 40)))


def test_each_draw_is_scikit_learns_classifier_of_so_many_images_a_class(found: Supervised) -> None:
    places = split(np.arange(260), ROWS, NUMBERS, 0)
    scale = Scale.of(VALUES[places.train].astype(np.float32))
    test, truth = scale(VALUES[places.test]), NUMBERS[places.test]
    for one in found.few_shot[:3]:
        for number, accuracy in enumerate(one.draws):
            keys = hash_rows(ROWS[places.train], 0, 3, number)
            chosen = np.concatenate(
                [
                    sorted(places.train[mine][np.argsort(keys[mine])[: one.shots]])
                    for mine in (np.flatnonzero(NUMBERS[places.train] == c) for c in range(CLASSES))
                ]
            )
            assert np.bincount(NUMBERS[chosen]).tolist() == [one.shots] * CLASSES
            model = LogisticRegression(C=10**one.exponent, max_iter=ITERATIONS)
            model.fit(scale(VALUES[np.sort(chosen)]), NUMBERS[np.sort(chosen)])
            assert accuracy == pytest.approx(np.mean(model.predict(test) == truth), abs=1e-6)
