"""A plan stays within the memory given, says why, and counts bytes as FAISS stores them."""

import re
from pathlib import Path

import faiss
import numpy as np
import pytest
from click.testing import CliRunner

from clipmill.core.errors import UserError
from clipmill.index.build.cost import build_seconds, build_seconds_of
from clipmill.index.build.factory import empty_index
from clipmill.index.build.footprint import add_shard, ivf_fast_scan_footprint, measured_footprint
from clipmill.index.build.plan import lists_for, plan_index, subquantizers_for
from clipmill_jobs.index import command
from clustered import write_embeddings

GIB = 1 << 30


def filled(factory: str, n: int, dimension: int) -> tuple[object, int]:
    """An index of random vectors, and the bytes of its file before any was added."""
    faiss.omp_set_num_threads(1)
    vectors = np.random.default_rng(0).standard_normal((n, dimension)).astype(np.float32)
    index = empty_index(factory, dimension)
    index.train(vectors)
    empty = faiss.serialize_index(index).size
    index.add(vectors)
    return index, empty


@pytest.mark.parametrize(
    ("factory", "dimension", "table"),
    [("IVF16,PQ8x4fsr", 16, 0), ("IVF32,PQ7x4fsr", 21, 0), ("IVF16,SQ8", 16, 8 * 16)],
)
def test_codes_and_ids_are_counted_to_the_byte(factory: str, dimension: int, table: int) -> None:
    """Plain lists are written with a table of their sizes, which an empty index lacks."""
    index, empty = filled(factory, 10_000, dimension)
    counted = measured_footprint(index)
    assert counted.codes + counted.ids == faiss.serialize_index(index).size - empty - table


@pytest.mark.parametrize(("nlist", "m", "dimension"), [(16, 8, 16), (64, 16, 64), (32, 7, 21)])
def test_centroids_and_codebooks_are_the_empty_index_but_for_its_header(nlist: int, m: int, dimension: int) -> None:
    index, empty = filled(f"IVF{nlist},PQ{m}x4fsr", 4000, dimension)
    counted = measured_footprint(index)
    header = empty - counted.centroids - counted.codebooks
    assert 0 < header < 400 + 16 * nlist


@pytest.mark.parametrize("shards", [1, 4])
def test_what_is_planned_bounds_what_is_built(shards: int) -> None:
    index, _ = filled("IVF64,PQ16x4fsr", 5000, 32)
    planned = ivf_fast_scan_footprint(5000 * shards, 32, 64, 16, shards)
    built = measured_footprint(index)
    assert planned.codes >= shards * built.codes
    assert planned.codes <= 1.5 * shards * built.codes
    assert planned.ids == shards * built.ids
    assert (planned.centroids, planned.codebooks) == (built.centroids, built.codebooks)


def test_a_rotation_before_the_lists_is_counted_in_every_shard() -> None:
    index, _ = filled("PCAR8,IVF16,PQ4x4fsr", 3000, 32)
    planned = ivf_fast_scan_footprint(3 * 3000, 8, 16, 4, 3, rotated_from=32)
    one = measured_footprint(index)
    three = add_shard(add_shard(one, one), one)
    assert planned.rotation == three.rotation == 3 * 4 * (32 * 8 + 8 + 32)
    assert (planned.ids, planned.centroids, planned.codebooks) == (three.ids, three.centroids, three.codebooks)
    assert planned.codes >= three.codes


def test_an_exact_index_is_counted_as_its_vectors() -> None:
    index, _ = filled("Flat", 300, 24)
    assert measured_footprint(index).total == 300 * 24 * 4


@pytest.mark.parametrize("n", [1, 2, 623, 20_000])
def test_few_vectors_get_exact_search(n: int) -> None:
    plan = plan_index(n, 512, 4 * GIB, 0.95)
    assert plan.exact
    assert plan.training_rows == 0
    assert plan.shards == 1


def test_many_vectors_get_codes_that_are_trained_on_a_sample() -> None:
    plan = plan_index(1_000_000, 512, 4 * GIB, 0.95)
    assert plan.factory == "PCAR256,IVF2048,PQ128x4fsr"
    assert plan.training_rows == 64 * 2048
    assert plan.chosen.footprint is not None
    assert plan.chosen.footprint.total <= 4 * GIB


def test_less_memory_gets_coarser_codes() -> None:
    whole = plan_index(1_000_000, 512, 200_000_000, 0.95)
    tight = plan_index(1_000_000, 512, 60_000_000, 0.95)
    assert whole.factory == "PCAR256,IVF2048,PQ128x4fsr"
    assert tight.factory == "PCAR256,IVF2048,PQ64x4fsr"
    assert "memory" in tight.why


def test_memory_that_nothing_fits_in_names_the_least_that_would_do() -> None:
    with pytest.raises(UserError, match="give --memory") as caught:
        plan_index(1_000_000, 512, 1_000_000, 0.95)
    least = int(str(caught.value).split("give --memory ")[1].split()[0])
    assert plan_index(1_000_000, 512, least, 0.95).factory
    with pytest.raises(UserError):
        plan_index(1_000_000, 512, least - 1, 0.95)


def test_a_recall_of_one_is_promised_by_exact_search_where_it_fits() -> None:
    assert plan_index(100_000, 512, GIB, 1.0).exact
    assert not plan_index(100_000, 512, GIB, 0.95).exact


@pytest.mark.parametrize("dimension", [7, 13, 30, 512, 513, 768])
def test_subquantizers_divide_the_dimension(dimension: int) -> None:
    for m in subquantizers_for(dimension):
        assert dimension % m == 0
        empty_index(f"IVF16,PQ{m}x4fsr", dimension)


@pytest.mark.parametrize("n", [1, 100, 1000, 10**6, 10**10])
def test_lists_are_never_too_many_to_train(n: int) -> None:
    assert 1 <= lists_for(n) <= max(1, n // 39)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("Nonsense", "could not be parsed by FAISS"),
        ("IVF99999999999999999,Flat", "could not be parsed by FAISS"),
        ("IVF0,Flat", "at least one list"),
        ("PQ0", "M must be > 0"),
        ("IVF16,PQ7x4fsr", "16 dimensions"),
        ("IDMap2,Flat", "position"),
        ("IDMap,IVF16,Flat", "position"),
        ("Flat,RFlat", "re-ranked"),
        ("ITQ8,LSH", "inner product"),
        ("IVF64,Flat", "at least 64"),
    ],
)
def test_a_factory_that_cannot_be_is_refused_with_the_reason(factory: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        plan_index(50, 16, GIB, 0.95, factory=factory)
    assert not any(word in str(caught.value) for word in ("faiss::", ".cpp", "C++"))


def test_a_factory_that_is_given_is_used() -> None:
    plan = plan_index(5000, 16, GIB, 0.95, factory="OPQ8_16,IVF16,PQ8", shards=3)
    assert (plan.factory, plan.shards) == ("OPQ8_16,IVF16,PQ8", 3)
    assert plan.training_rows == 5000


@pytest.mark.parametrize(
    ("n", "dimension", "nlist", "m", "training_rows", "measured"),
    [
        (60_000, 512, 512, 256, 60_000, 7.8),
        (200_000, 512, 1024, 256, 65_536, 18.3),
        (100_000, 256, 512, 128, 65_536, 4.8),
    ],
)
def test_core_seconds_are_those_that_builds_were_measured_to_take(
    n: int, dimension: int, nlist: int, m: int, training_rows: int, measured: float
) -> None:
    estimate = build_seconds(n, dimension, nlist=nlist, m=m, bits=4, training_rows=training_rows)
    assert estimate == pytest.approx(measured, rel=0.15)


def test_core_seconds_grow_with_what_is_done() -> None:
    base = {"nlist": 2048, "m": 128, "bits": 4, "training_rows": 131_072}
    least = build_seconds(1_000_000, 512, **base)
    assert build_seconds(1_000_000, 512) < least
    for more in ({"nlist": 4096}, {"m": 256}, {"bits": 8}, {"training_rows": 262_144}, {"iterations": 20}):
        assert build_seconds(1_000_000, 512, **{**base, **more}) > least
    assert build_seconds(2_000_000, 512, **base) > 1.3 * least
    assert build_seconds(1_000_000, 768, **base) > least


def test_every_candidate_says_what_its_build_takes() -> None:
    plan = plan_index(1_000_000, 512, 4 * GIB, 0.95)
    chosen = next(candidate for candidate in plan.considered if "IVF2048,PQ128" in candidate.factory)
    expected = build_seconds(1_000_000, 256, nlist=2048, m=128, bits=4, training_rows=64 * 2048, rotated_from=512)
    assert expected > build_seconds(1_000_000, 256, nlist=2048, m=128, bits=4, training_rows=64 * 2048)
    assert plan.chosen.build_seconds == chosen.build_seconds == expected
    assert all(candidate.build_seconds for candidate in plan.considered)


@pytest.mark.parametrize(
    ("factory", "counted"),
    [
        ("Flat", {}),
        ("SQ8", {}),
        ("IVF64,Flat", {"nlist": 64}),
        ("IVF64,SQ8", {"nlist": 64}),
        ("IVF64,PQ8", {"nlist": 64, "m": 8, "bits": 8}),
        ("IVF64,PQ4x4fsr", {"nlist": 64, "m": 4, "bits": 4}),
        ("OPQ8_16,IVF64,PQ8", None),
        ("IVF64_HNSW8,PQ8", None),
        ("HNSW8", None),
    ],
)
def test_of_a_factory_that_is_given_what_is_known_is_counted(factory: str, counted: dict[str, int] | None) -> None:
    found = build_seconds_of(empty_index(factory, 16), 5000, 5000)
    assert found == (
        None if counted is None else build_seconds(5000, 16, training_rows=5000 * bool(counted), **counted)
    )


def test_an_explanation_says_what_building_takes_in_words(tmp_path: Path) -> None:
    rows = np.zeros((30_000, 16), np.float16)
    rows[:, 0] = 1
    folder = write_embeddings(tmp_path / "embeddings", rows, rows[:10])
    arguments = ["--embeddings", str(folder), "--output", str(tmp_path / "index"), "--explain"]
    auto, given = (
        CliRunner().invoke(command, [*arguments, "--factory", factory]) for factory in ("auto", "OPQ8_16,IVF16,PQ8")
    )
    assert auto.exit_code == given.exit_code == 0, auto.output + given.output
    assert re.search(r"^→ Flat +1,920,000 bytes  about       1 core-seconds  exact search", auto.stdout, re.MULTILINE)
    assert "exact search and tuning come on top" in auto.stdout
    assert "build not estimated  given by --factory" in given.stdout
