"""The queries that a report lists: as many as it may, the hardest among them, and of every group some."""

import numpy as np

from clipmill.evaluation.hardest import hardest
from clipmill.evaluation.outcomes import Outcomes


def outcome(ranks: np.ndarray) -> Outcomes:
    return Outcomes("t2i", np.arange(len(ranks)), {1: (ranks == 1).astype(float)}, ranks.astype(float))


def test_few_are_all_listed() -> None:
    assert hardest(outcome(np.arange(1, 31)), [], most=30).tolist() == list(range(30))


def test_a_half_are_the_hardest_and_the_others_are_drawn() -> None:
    ranks = np.random.default_rng(0).permutation(5000) + 1
    chosen = hardest(outcome(ranks), [], seed=1, most=100)
    assert len(chosen) == len(set(chosen.tolist())) == 100
    worst = set(np.argsort(-ranks)[:40].tolist())
    assert worst <= set(chosen.tolist())
    assert 40 <= np.sum(ranks[chosen] <= 4900) <= 50
    assert chosen.tolist() != hardest(outcome(ranks), [], seed=2, most=100).tolist()


def test_every_group_has_its_hardest_there() -> None:
    rng = np.random.default_rng(3)
    ranks, groups, other = rng.permutation(4000) + 1, np.repeat(np.arange(20), 200), rng.integers(0, 5, 4000)
    ranks[groups == 7] = 1 + np.arange(200) // 100  # a group without a hard query
    chosen = set(hardest(outcome(ranks), [groups, other], most=160).tolist())
    assert len(chosen) == 160
    for grouping in (groups, other):
        for group in np.unique(grouping):
            inside = np.flatnonzero(grouping == group)
            assert ranks[inside].max() in ranks[[at for at in inside.tolist() if at in chosen]]


def test_without_ranks_a_miss_is_hard() -> None:
    hits = np.ones(1000)
    hits[[17, 400, 999]] = 0
    classified = Outcomes("zero-shot", np.arange(1000), {1: hits}, truth=np.zeros(1000, np.int64), classes=("a",))
    assert {17, 400, 999} <= set(hardest(classified, [], most=20).tolist())
