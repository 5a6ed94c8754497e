"""Planning: which index, from the number of vectors, their dimension and the memory there is. A pure function."""

from dataclasses import dataclass

from clipmill.core.errors import UserError
from clipmill.index.build.cost import build_seconds, build_seconds_of
from clipmill.index.build.factory import empty_index, nlist_of, training_floor
from clipmill.index.build.footprint import Footprint, flat_footprint, ivf_fast_scan_footprint

EXACT_COMPONENTS = 20_000 * 512
"""Up to so many vector components exact search takes about a millisecond on one core: nothing is gained by less."""
SHARD_ROWS = 1 << 20
TRAINING_ROWS_PER_LIST = 64
"""FAISS asks for 39 and stops gaining at 256; most of training's time is proportional to it."""
MAX_LISTS = 65_536
ROTATED_DIMENSION = 256
"""From so many dimensions on, CLIP vectors lie nearly in half of them: codes of the same bytes are twice as fine there."""


@dataclass(frozen=True)
class Candidate:
    """One index that was considered. ``footprint`` bounds what search keeps resident, ``build_seconds`` estimates the
    core-seconds of training and adding; None where they are not known."""

    factory: str
    nlist: int
    footprint: Footprint | None
    build_seconds: float | None
    remark: str

    @property
    def exact(self) -> bool:
        return self.factory == "Flat"


@dataclass(frozen=True)
class Plan:
    """The index to build. ``training_rows`` is 0 where nothing is trained; ``why`` says in words why this one; ``directions``
    are those of a projection that is learned from queries, 0 where what comes before the lists is the factory's."""

    chosen: Candidate
    shards: int
    training_rows: int
    why: str
    considered: tuple[Candidate, ...]
    directions: int = 0

    @property
    def factory(self) -> str:
        return self.chosen.factory

    @property
    def exact(self) -> bool:
        return self.chosen.exact


def plan_index(
    n: int,
    dimension: int,
    memory: int,
    target_recall: float,
    *,
    factory: str = "auto",
    shards: int | None = None,
) -> Plan:
    """The index for ``n`` vectors whose search is to stay within ``memory`` bytes.

    Raises UserError when no index is small enough, naming the least memory that one needs, and for a ``factory``
    that cannot be built.
    """
    if n < 1:
        raise ValueError("an index needs at least one vector")
    cut = min(shards or -(-n // SHARD_ROWS), n)
    if factory != "auto":
        return _given(factory, n, dimension, cut)
    seconds = build_seconds(n, dimension)
    exact = Candidate("Flat", 0, flat_footprint(n, dimension), seconds, "exact search over float32 vectors")
    coded = _coded(n, dimension, cut)
    considered = (exact, *coded)
    fitting = [candidate for candidate in coded if _bytes(candidate) <= memory]
    small = n * dimension <= EXACT_COMPONENTS
    if _bytes(exact) <= memory and (small or target_recall >= 1 or not fitting):
        why = (
            f"{n} vectors of {dimension} dimensions are few enough to compare a query with every one"
            if small
            else "only exact search can promise a recall of 1, and it fits in --memory"
        )
        return Plan(exact, cut, 0, why, considered)
    if not fitting:
        least = min(considered, key=_bytes)
        raise UserError(
            f"--memory: {memory} bytes are too few for {n} vectors of {dimension} dimensions: the smallest index, "
            f"{least.factory}, keeps {_bytes(least)} bytes resident; give --memory {_bytes(least)} or more"
        )
    chosen = fitting[0]
    why = "compact codes searched list by list: a fraction of the memory and time of exact search"
    if chosen is not coded[0]:
        why = f"the finest codes that fit in --memory; {coded[0].factory} would keep {_bytes(coded[0])} bytes resident"
    directions = dimension // 2 if dimension >= ROTATED_DIMENSION else 0
    return Plan(chosen, cut, training_rows_for(n, chosen.nlist), why, considered, directions)


def _given(factory: str, n: int, dimension: int, shards: int) -> Plan:
    index = empty_index(factory, dimension)
    if not index.is_trained and n < training_floor(index):
        raise UserError(
            f"--factory {factory} needs at least {training_floor(index)} vectors to train, and there are {n}; leave it "
            "out to have one chosen"
        )
    nlist = nlist_of(index)
    footprint = flat_footprint(n, dimension) if factory == "Flat" else None
    training_rows = 0 if index.is_trained else training_rows_for(n, nlist)
    chosen = Candidate(factory, nlist, footprint, build_seconds_of(index, n, training_rows), "given by --factory")
    return Plan(chosen, shards, training_rows, "given by --factory, whatever --memory is", (chosen,))


def plan_foreign(factory: str, nlist: int) -> Plan:
    """The plan of an index that is there already, made elsewhere: one shard, and nothing to train."""
    chosen = Candidate(factory, nlist, None, None, "given by --foreign")
    return Plan(chosen, 1, 0, "given by --foreign, whatever --memory is", (chosen,))


def training_rows_for(n: int, nlist: int) -> int:
    """Vectors to train an index of so many lists on."""
    return min(n, max(TRAINING_ROWS_PER_LIST * nlist, 65_536))


def _bytes(candidate: Candidate) -> int:
    assert candidate.footprint is not None
    return candidate.footprint.total


def lists_for(n: int) -> int:
    """Inverted lists for ``n`` vectors: the power of two nearest to 2·√n, with 39 vectors or more in each."""
    lists = 1
    while lists * lists * 2 <= 4 * n and lists < MAX_LISTS:
        lists *= 2
    while lists > 1 and lists * 39 > n:
        lists //= 2
    return lists


def subquantizers_for(dimension: int) -> list[int]:
    """Numbers of sub-quantizers that divide the dimension, from two components each to sixteen; else one each."""
    fitting = [dimension // width for width in range(2, 17) if dimension % width == 0]
    return fitting or [dimension]


def _coded(n: int, dimension: int, shards: int) -> list[Candidate]:
    """Candidates in order of preference: finer codes first, then fewer lists, whose centroids take memory as well."""
    candidates = []
    rotated = dimension >= ROTATED_DIMENSION
    inner = dimension // 2 if rotated else dimension
    lists = lists_for(n)
    while lists >= 16:
        for m in subquantizers_for(inner):
            footprint = ivf_fast_scan_footprint(n, inner, lists, m, shards, dimension if rotated else None)
            training_rows = training_rows_for(n, lists)
            seconds = build_seconds(
                n,
                inner,
                nlist=lists,
                m=m,
                bits=4,
                training_rows=training_rows,
                rotated_from=dimension if rotated else 0,
            )
            factory = f"IVF{lists},PQ{m}x4fsr"
            remark = f"{lists} lists, {m} sub-quantizers of 4 bits on the residual"
            if rotated:
                factory, remark = f"PCAR{inner},{factory}", f"{remark} in the {inner} longest directions"
            candidates.append(Candidate(factory, lists, footprint, seconds, remark))
        lists //= 4
    return candidates
