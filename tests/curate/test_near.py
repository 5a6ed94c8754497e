"""Near-duplicates: every pair that brute force finds, and no other, whatever the dimension and the threshold."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from clipmill.curate import near
from clipmill.curate.groups import groups_of, kept_of
from clipmill.curate.near import Pairs, Tile, near_pairs, rotation_of
from clustered import image_and_caption_vectors, unit


def found_in(stored: np.ndarray, threshold: float, tile_rows: int, device: torch.device | None = None) -> Pairs:
    rotation = rotation_of(stored[: len(stored) // 2])
    tiles = [Tile.of(start, stored[start : start + tile_rows], rotation) for start in range(0, len(stored), tile_rows)]
    parts = [near_pairs(one, other, threshold, device) for number, one in enumerate(tiles) for other in tiles[number:]]
    return Pairs.join(parts)


def brute_force(stored: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    whole = unit(stored.astype(np.float64))
    return {(int(a), int(b)) for a, b in np.argwhere(np.triu(whole @ whole.T >= threshold, 1))}


@pytest.mark.parametrize(("dimension", "threshold"), [(16, 0.97), (128, 0.9), (256, 0.8), (256, 0.6), (100, -1.0)])
def test_all_pairs_of_brute_force_are_found_and_no_other(dimension: int, threshold: float) -> None:
    n = 1500 if threshold > 0 else 60
    stored, _ = image_and_caption_vectors(n, 1, dimension, seed=dimension)
    pairs = found_in(stored, threshold, tile_rows=400)
    expected = brute_force(stored, threshold)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    edge = brute_force(stored, threshold - 1e-5) - brute_force(stored, threshold + 1e-5)
    assert found ^ expected <= edge
    assert len(found) == len(pairs)
    assert expected
    whole = unit(stored.astype(np.float64))
    np.testing.assert_allclose(pairs.cosine, np.sum(whole[pairs.first] * whole[pairs.second], axis=1), atol=1e-5)


@pytest.mark.parametrize(("dimension", "threshold"), [(16, 0.97), (256, 0.8), (256, 0.6), (100, -1.0)])
def test_torch_finds_the_same_pairs_with_the_same_cosines(dimension: int, threshold: float) -> None:
    stored, _ = image_and_caption_vectors(1500 if threshold > 0 else 60, 1, dimension, seed=dimension)
    stored[100:180] = stored[3]  # more than are compared one by one
    here, there = (found_in(stored, threshold, 400, device) for device in (None, torch.device("cpu")))
    assert len(here) > 0
    cosines = [
        {
            (first, second): cosine
            for first, second, cosine in zip(*map(np.ndarray.tolist, vars(pairs).values()), strict=True)
        }
        for pairs in (here, there)
    ]
    edge = brute_force(stored, threshold - 1e-5) - brute_force(stored, threshold + 1e-5)
    assert cosines[0].keys() ^ cosines[1].keys() <= edge
    assert all(cosines[0][pair] == cosines[1][pair] for pair in cosines[0].keys() & cosines[1].keys())


def test_duplicates_planted_at_known_cosines_are_found_at_every_threshold_below(beside: Callable) -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((3000, 256)))
    planted = {0.999: (5, 2900), 0.98: (700, 701), 0.95: (1500, 1), 0.9: (2999, 0)}
    for seed, (cosine, (original, copy)) in enumerate(planted.items()):
        vectors[copy] = beside(vectors[original], cosine, seed)
    stored = vectors.astype(np.float16)
    for threshold in (0.89, 0.94, 0.97, 0.99):
        pairs = found_in(stored, threshold, tile_rows=1000)
        expected = {tuple(sorted(pair)) for cosine, pair in planted.items() if cosine > threshold}
        assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected
    assert pairs.cosine == pytest.approx([0.999], abs=1e-3)


def test_a_vector_of_any_length_is_compared_by_its_direction() -> None:
    stored = np.zeros((3, 8), np.float16)
    stored[0, 0], stored[1, 0], stored[2, 1] = 0.5, 1, 1
    pairs = found_in(stored, 1.0, tile_rows=2)
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.cosine.tolist()) == ([0], [1], [1.0])


def test_very_many_equal_vectors_are_one_group_without_a_pair_for_each_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_MANY_ALIKE", 20)
    stored, _ = image_and_caption_vectors(900, 1, 128, seed=1)
    alike = np.arange(0, 900, 3)
    stored[alike] = stored[0]
    pairs = found_in(stored, 0.99, tile_rows=300)
    members, groups = groups_of(pairs.first, pairs.second)
    assert set(alike) <= set(members.tolist())
    assert len(set(groups[np.isin(members, alike)].tolist())) == 1
    assert len(pairs) < 3 * len(alike)


def test_groups_are_what_chains_of_pairs_connect() -> None:
    rng = np.random.default_rng(3)
    first, second = np.sort(rng.integers(0, 400, (250, 2)), axis=1)[:, :].T
    distinct = first != second
    first, second = first[distinct], second[distinct]
    members, groups = groups_of(first, second)
    parent = {node: node for node in (*first.tolist(), *second.tolist())}

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        parent[max(root(a), root(b))] = min(root(a), root(b))
    assert members.tolist() == sorted(parent)
    roots = [root(node) for node in members.tolist()]
    numbers = {lowest: number for number, lowest in enumerate(sorted(set(roots)))}
    assert groups.tolist() == [numbers[lowest] for lowest in roots]


def test_a_long_chain_is_one_group() -> None:
    _, groups = groups_of(np.arange(0, 5000), np.arange(1, 5001))
    assert (groups == 0).all()
    assert groups_of(np.empty(0, np.int64), np.empty(0, np.int64))[0].size == 0


def test_the_greatest_worth_is_kept_the_first_of_equals_and_nothing_unknown_before_something_known() -> None:
    groups = np.array([0, 0, 0, 1, 1, 2, 2])
    worth = np.array([1.0, 3.0, 3.0, np.nan, -5.0, np.nan, np.nan])
    assert kept_of(groups, worth).tolist() == [False, True, False, False, True, True, False]
