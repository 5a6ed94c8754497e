"""The ceiling is what the best model reaches that cannot tell identical items apart."""

from itertools import permutations

import numpy as np
import pytest

from captioned import pairs, unit
from clipmill.evaluation.retrieval.ceiling import (
    hash_captions,
    hash_texts,
    hash_vectors,
    image_to_text_ceiling,
    text_to_image_ceiling,
)
from clipmill.evaluation.retrieval.ranks import rank_positives
from clipmill.evaluation.vectors import Vectors


def both(texts: list[str], rows: list[int], looks: list[int], at: tuple[int, ...] = (1, 2, 5)) -> tuple:
    arguments = (hash_texts(texts), np.array(rows), np.array(looks, np.uint64), np.arange(len(looks)), at)
    return text_to_image_ceiling(*arguments), image_to_text_ceiling(*arguments)


def test_unique_items_have_a_ceiling_of_one() -> None:
    t2i, i2t = both(["a", "b", "c", "d"], [0, 0, 1, 2], [0, 1, 2])
    assert (t2i.queries, i2t.queries) == (4, 3)
    assert [t2i.recall(k) for k in (1, 2, 5)] == [1, 1, 1]
    assert [i2t.recall(k) for k in (1, 2, 5)] == [1, 1, 1]
    assert (t2i.repeated_captions, t2i.repeated_images) == (0, 0)


def test_one_caption_of_several_images_can_name_only_one_of_them_first() -> None:
    t2i, i2t = both(["dog", "dog", "dog", "cat"], [0, 1, 2, 3], [0, 1, 2, 3])
    assert [t2i.recall(k) for k in (1, 2, 5)] == pytest.approx([2 / 4, 3 / 4, 1])
    assert [i2t.recall(k) for k in (1, 2, 5)] == pytest.approx([(3 / 3 + 1) / 4, (3 * 2 / 3 + 1) / 4, 1])
    assert t2i.repeated_captions == 2


def test_identical_images_share_their_places() -> None:
    t2i, i2t = both(["a", "b", "c"], [0, 1, 2], [7, 7, 8])
    assert t2i.recall(1) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert t2i.recall(2) == 1
    assert i2t.recall(1) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)


def test_no_ranking_of_the_images_beats_the_ceiling_and_one_reaches_it() -> None:
    texts, rows, looks = ["x", "x", "x", "x", "x"], [0, 1, 1, 2, 3], [1, 1, 2, 3]
    for k in (1, 2, 3):
        best = 0.0
        for order in permutations([1, 2, 3]):
            place, expected = 0, 0.0
            for look in order:
                alike = [image for image, other in enumerate(looks) if other == look]
                share = np.clip((k - place) / len(alike), 0, 1)
                expected += share * sum(row in alike for row in rows)
                place += len(alike)
            best = max(best, expected)
        assert both(texts, rows, looks, (k,))[0].hits[k] == pytest.approx(best)


def test_a_perfect_model_of_repeated_items_reaches_its_ceiling() -> None:
    random = np.random.default_rng(0)
    scenes = random.integers(12, size=40)
    vectors = unit(random.standard_normal((12, 64)))[scenes]
    texts = [f"scene {scene}" for scene in scenes]
    images = Vectors(np.arange(40), vectors)
    ranks = rank_positives(images, images)
    arguments = (hash_texts(texts), images.rows, hash_vectors(vectors), images.rows, (1, 5, 10))
    for ceiling in (text_to_image_ceiling(*arguments), image_to_text_ceiling(*arguments)):
        assert [ceiling.hits[k] for k in (1, 5, 10)] == pytest.approx([ranks.hits(k).sum() for k in (1, 5, 10)])


def test_captions_without_an_image_are_not_asked_but_stand_in_the_gallery() -> None:
    t2i, i2t = both(["a", "a"], [0, 9], [1], (1,))
    assert (t2i.queries, t2i.recall(1)) == (1, 1)
    assert i2t.recall(1) == pytest.approx(1 / 2)


def measured(texts: list[str | None], captions: Vectors, images: Vectors) -> list[tuple[float, float]]:
    """Expected R@K and its ceiling, both ways and for several K."""
    at = (1, 2, 5, 10)
    looks = hash_captions(texts, captions.values), captions.rows, hash_vectors(images.values), images.rows
    found = []
    for ceiling, queries, gallery in (
        (text_to_image_ceiling(*looks, at), captions, images),
        (image_to_text_ceiling(*looks, at), images, captions),
    ):
        ranks = rank_positives(queries, gallery)
        assert len(ranks) == ceiling.queries
        found += [(float(ranks.hits(k).mean()), ceiling.recall(k)) for k in at]
    return found


@pytest.mark.parametrize("seed", range(30))
def test_expected_recall_is_never_above_the_ceiling(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 40))
    scenes = random.integers(int(random.integers(1, count + 1)), size=count)
    places = unit(random.standard_normal((count, 8)))
    pictures = places[scenes]
    rows = np.sort(random.integers(count, size=int(random.integers(1, 4 * count))))
    # Captions of the best model there is, some of which it places by more than their text, and some of a worse one.
    own = places[scenes[rows]]
    spread = unit(own + random.standard_normal(own.shape) * random.choice([0.0, 1e-3, 1.0]))
    vectors = np.where(random.random((len(rows), 1)) < 0.5, own, spread)
    texts = [random.choice([None, "", f"scene {scenes[row]}", f"word {row % 3}"]) for row in rows]
    for recall, ceiling in measured(texts, Vectors(rows, vectors), Vectors(np.arange(count), pictures)):
        assert recall <= ceiling + 1e-12
        assert ceiling <= 1 + 1e-12


def test_equal_texts_of_other_vectors_and_unknown_texts_are_no_copies() -> None:
    vectors, _, _ = pairs(6, 1)
    copies = vectors[[0, 0, 0, 0, 4, 5]]
    texts = ["x", "x", None, None, "x", "y"]
    hashes = hash_captions(texts, copies)
    assert len(np.unique(hashes)) == 5
    assert hashes[0] == hashes[1]
    sides = Vectors(np.arange(6), vectors)
    assert [ceiling for _, ceiling in measured([None] * 6, sides, sides)] == [1] * 8
    assert [ceiling for _, ceiling in measured(["the same"] * 6, sides, sides)] == [1] * 8


def test_vectors_have_one_hash_each() -> None:
    images, _, _ = pairs(5000, 1, dimension=12)
    copies = np.concatenate([images, images[:100]])
    assert len(np.unique(hash_vectors(copies))) == 5000
    assert np.array_equal(hash_vectors(copies)[-100:], hash_vectors(images)[:100])
