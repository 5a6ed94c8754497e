"""Complete linkage: groups of which every two rows are a pair, as merging the nearest two groups again and again makes them."""

from itertools import combinations

import numpy as np
import pytest

from clipmill.curate.groups import complete_groups_of
from clipmill.curate.near import Pairs


def linked_by_hand(cosines: dict[tuple[int, int], float]) -> set[frozenset[int]]:
    """Merges the two groups whose least cosine is greatest, while there are two of which every row is a pair with every
    other."""
    groups = [{row} for row in sorted({row for pair in cosines for row in pair})]
    while True:
        best = None
        for one, other in combinations(groups, 2):
            between = [cosines.get((min(a, b), max(a, b)), -2) for a in one for b in other]
            if min(between) > -2 and (best is None or min(between) > best[0]):
                best = (min(between), one, other)
        if best is None:
            return {frozenset(group) for group in groups if len(group) > 1}
        _, one, other = best
        groups = [group for group in groups if group is not one and group is not other] + [one | other]


def pairs_of(cosines: dict[tuple[int, int], float]) -> Pairs:
    keys = sorted(cosines)
    first, second = np.array(keys, np.int64).reshape(-1, 2).T
    return Pairs(first, second, np.array([cosines[key] for key in keys], np.float32))


def as_sets(members: np.ndarray, groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(members[groups == group].tolist()) for group in np.unique(groups)}


@pytest.mark.parametrize("seed", range(12))
def test_groups_are_those_of_merging_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cosines = {
        (a, b): float(rng.uniform(0.95, 1))
        for a, b in combinations(range(0, 36, 2), 2)
        if rng.random() < 0.35 + seed / 20
    }
    members, groups = complete_groups_of(pairs_of(cosines), Pairs.join([]))
    assert as_sets(members, groups) == linked_by_hand(cosines)
    assert (np.diff(members) > 0).all()
    assert [int(members[groups == group].min()) for group in range(groups.max() + 1)] == sorted(
        int(members[groups == group].min()) for group in np.unique(groups)
    )


def test_rows_at_the_ends_of_a_chain_are_apart() -> None:
    chain = {(0, 1): 0.97, (1, 2): 0.99, (2, 3): 0.98}
    assert as_sets(*complete_groups_of(pairs_of(chain), Pairs.join([]))) == {frozenset({1, 2})}


def test_rows_with_the_vector_of_another_go_where_it_goes() -> None:
    alike = pairs_of({(4, 6): 1.0, (6, 7): 1.0, (10, 12): 1.0})  # 4 stands for 6 and 7, 10 for 12
    pairs = pairs_of({(2, 4): 0.97, (4, 6): 1.0, (4, 8): 0.96, (6, 7): 1.0, (10, 12): 1.0})
    assert as_sets(*complete_groups_of(pairs, alike)) == {frozenset({2, 4, 6, 7}), frozenset({10, 12})}


def test_no_pair_makes_no_group() -> None:
    members, groups = complete_groups_of(Pairs.join([]), Pairs.join([]))
    assert (members.size, groups.size) == (0, 0)
