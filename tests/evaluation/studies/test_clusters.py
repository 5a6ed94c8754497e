"""Groups of images: planted ones are found with their sizes and what they have in common, and none where there are none."""

import numpy as np

from captioned import unit
from clipmill.evaluation.studies.clusters import TYPICAL, find_clusters, names_by_labels, names_by_words
from clipmill.evaluation.vectors import Vectors

SIZES = (70, 45, 20, 4)


def planted(seed: int = 0) -> tuple[Vectors, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    values = unit(rng.normal(size=(len(SIZES), 32))[truth] + 0.2 * rng.normal(size=(len(truth), 32)))
    return Vectors(np.arange(len(truth)), values), truth


def test_planted_groups_are_found_the_largest_first() -> None:
    images, truth = planted()
    found = find_clusters(images, np.arange(len(images)))
    assert found.sizes.tolist() == list(SIZES)
    np.testing.assert_array_equal(found.numbers, truth)


def test_the_most_typical_lie_nearest_to_the_middle_of_their_group() -> None:
    images, truth = planted(1)
    found = find_clusters(images, np.arange(len(images)))
    values = images.values.astype(np.float64)
    for group, typical in enumerate(found.typical.tolist()):
        inside = np.flatnonzero(truth == group)
        far = np.linalg.norm(values[inside] - values[inside].mean(axis=0), axis=1)
        expected = inside[np.argsort(far)][:TYPICAL].tolist()
        assert typical == expected + [-1] * (TYPICAL - len(expected))


def test_only_the_images_drawn_are_divided() -> None:
    images, truth = planted(2)
    chosen = np.flatnonzero(truth < 2)
    found = find_clusters(images, chosen)
    np.testing.assert_array_equal(found.positions, chosen)
    np.testing.assert_array_equal(found.numbers, truth[chosen])


def test_where_nothing_groups_there_are_none() -> None:
    noise = unit(np.random.default_rng(0).normal(size=(400, 64)))
    assert len(find_clusters(Vectors(np.arange(400), noise), np.arange(400))) == 0
    same = unit(np.ones((60, 8)))
    assert len(find_clusters(Vectors(np.arange(60), same), np.arange(60))) == 0
    images, _ = planted()
    assert len(find_clusters(images, np.arange(10))) == 0


def test_labels_name_a_group_two_where_none_is_a_half() -> None:
    numbers = np.array([0] * 10 + [1] * 10 + [2] * 3)
    labels = np.array([1] * 9 + [0] + [0] * 4 + [1] * 3 + [2] * 3 + [-1] * 3)
    assert names_by_labels(numbers, labels, ("cat", "dog", "bird")) == ["dog 90%", "cat 40%, dog 30%", ""]


def test_words_name_a_group_that_the_others_do_not_have() -> None:
    texts = [["a dog on the beach", "Dog!"]] * 5 + [["a cat on the sofa"]] * 5
    assert names_by_words(np.array([0] * 5 + [1] * 5), texts) == ["beach, dog", "cat, sofa"]
    assert names_by_words(np.array([0, 0, 1, 1]), [["the same words"]] * 4) == ["", ""]
