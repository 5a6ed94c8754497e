"""The kinds of index that are tried one after the other until one reaches the target: each finds more than the one before, and
takes more memory or time to search."""

from clipmill.index.build.cost import build_seconds
from clipmill.index.build.footprint import Footprint, flat_footprint, ivf_fast_scan_footprint
from clipmill.index.build.plan import Candidate, Plan, plan_index, training_rows_for


def plans_for(n: int, dimension: int, memory: int, target_recall: float, shards: int | None = None) -> tuple[Plan, ...]:
    """The plan for ``n`` vectors, and those that follow where it misses the target and ``memory`` bytes allow them; the same
    shards in all. Raises UserError as `plan_index` does."""
    first = plan_index(n, dimension, memory, target_recall, shards=shards)
    if first.exact:
        return (first,)
    finer = [_all_directions(first, n, dimension)] if first.directions else []
    finer += [_eight_bits(first, n, dimension), _exact(n, dimension)]
    return first, *(
        Plan(candidate, first.shards, _training_rows(n, candidate), candidate.remark, first.considered)
        for candidate in finer
        if candidate.footprint is not None and candidate.footprint.total <= memory
    )


def _training_rows(n: int, candidate: Candidate) -> int:
    return 0 if candidate.exact else training_rows_for(n, candidate.nlist)


def _all_directions(first: Plan, n: int, dimension: int) -> Candidate:
    lists, m = first.chosen.nlist, dimension // 2
    return Candidate(
        f"IVF{lists},PQ{m}x4fsr",
        lists,
        ivf_fast_scan_footprint(n, dimension, lists, m, first.shards),
        build_seconds(n, dimension, nlist=lists, m=m, bits=4, training_rows=training_rows_for(n, lists)),
        "codes of all directions",
    )


def _eight_bits(first: Plan, n: int, dimension: int) -> Candidate:
    lists = first.chosen.nlist
    return Candidate(
        f"IVF{lists},SQ8",
        lists,
        Footprint(codes=n * dimension, ids=8 * n, centroids=4 * lists * dimension, codebooks=8 * dimension),
        build_seconds(n, dimension, nlist=lists, training_rows=training_rows_for(n, lists)),
        "a byte for each component",
    )


def _exact(n: int, dimension: int) -> Candidate:
    return Candidate("Flat", 0, flat_footprint(n, dimension), build_seconds(n, dimension), "exact search")
