"""A row's split depends on the rows there are, never on their order."""

import numpy as np

from clipmill.evaluation.classification.splits import draw, hash_rows, split

ROWS = np.arange(1000) * (1 << 20) + 7
CLASSES = np.random.default_rng(0).choice([0, 1, 2, 4], size=1000, p=[0.7, 0.2, 0.097, 0.003])


def parts(order: np.ndarray, seed: int = 0) -> list[set[int]]:
    found = split(np.arange(len(order)), ROWS[order], CLASSES[order], seed)
    return [set(ROWS[order][part].tolist()) for part in (found.train, found.validation, found.test)]


def test_the_order_of_rows_changes_nothing() -> None:
    straight = parts(np.arange(1000))
    assert straight == parts(np.random.default_rng(1).permutation(1000))
    assert straight != parts(np.arange(1000), seed=1)


def test_each_class_is_split_alike_and_no_row_is_in_two_parts() -> None:
    found = split(np.arange(1000), ROWS, CLASSES, 0)
    everything = np.concatenate([found.train, found.validation, found.test])
    assert len(np.unique(everything)) == len(everything)
    for number in (0, 1, 2):
        size = np.sum(number == CLASSES)
        assert np.sum(CLASSES[found.test] == number) == round(0.2 * size)
        assert np.sum(CLASSES[found.validation] == number) == round(0.2 * size)
        assert np.sum(CLASSES[everything] == number) == size


def test_small_classes_have_one_image_in_each_part_or_none() -> None:
    classes = np.array([0, 1, 1, 2, 2, 2])
    found = split(np.arange(6), np.arange(6), classes, 0)
    assert [classes[part].tolist() for part in (found.train, found.validation, found.test)] == [[2], [2], [2]]
    two = split(np.arange(6), np.arange(6), classes, 0, test=False)
    assert (classes[two.train].tolist(), len(two.test)) == ([1, 2, 2], 0)
    none = split(np.empty(0, np.int64), np.arange(6), classes, 0)
    assert len(none.train) == len(none.test) == 0


def test_draws_are_by_row_and_look_random() -> None:
    chosen = set(ROWS[draw(np.arange(1000), ROWS, 100, 0)].tolist())
    assert len(chosen) == 100
    backwards = ROWS[::-1]
    assert chosen == set(backwards[draw(np.arange(1000), backwards, 100, 0)].tolist())
    bits = np.unpackbits(hash_rows(np.arange(4096), 5).view(np.uint8)).reshape(4096, 64)
    assert abs(bits.mean(axis=0) - 0.5).max() < 0.04
