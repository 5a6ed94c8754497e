"""What is kept between two starts reads back exactly, and nothing is computed twice."""

import itertools
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipmill.core.manifests import Interval
from clipmill.evaluation.classification.zero_shot import ZeroShot
from clipmill.evaluation.fidelity import Fidelity
from clipmill.evaluation.results import HistogramData
from clipmill.evaluation.retrieval.alignment import Alignment
from clipmill.evaluation.retrieval.ceiling import Ceiling
from clipmill.evaluation.retrieval.contrastive import Loss
from clipmill.evaluation.retrieval.examples import Example
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.retrieval.retrieval import Direction, Retrieval
from clipmill.stage.checkpoints import CheckpointFolder, load, no_checkpoints, save
from clipmill.storage import resolve

RANDOM = np.random.default_rng(0)
INTERVAL = Interval(value=1 / 3, low=0.1 + 0.2, high=2 / 3, n=7)
HISTOGRAM = HistogramData(name="h", edges=[0.1, 1 / 3, 0.5], counts=[1 << 60, 3], mean=1e-300, n=9)
COUNTS = RANDOM.integers(1 << 62, size=5)
CASES: list[tuple[Any, Any]] = [
    (Retrieval, Retrieval("t2i", 3, 4, 0, 1, 0, {1: 0.1, 10: 1 / 3}, {"recall@1": INTERVAL})),
    (Ranks, Ranks(COUNTS, COUNTS, RANDOM.random(5), *[COUNTS] * 5, 12)),
    (
        Alignment,
        Alignment(
            HISTOGRAM, HISTOGRAM, (Loss(0.07, 3, INTERVAL, INTERVAL),), COUNTS, COUNTS, np.array([-np.inf, np.nan])
        ),
    ),
    (list[Example], [Example("best", 1, 2, 3.5, 0.1, COUNTS, RANDOM.random(5, np.float32))]),
    (dict[Direction, Ceiling], {"t2i": Ceiling(3, {1: 0.5, 5: 2.0}, 0, 1)}),
    (
        ZeroShot,
        ZeroShot(
            ("cat", "naïve \u2028"),
            COUNTS,
            RANDOM.random(5),
            RANDOM.random(5),
            (("a", "b", 3),),
            0,
            RANDOM.random((2, 4), np.float32),
            {"x": INTERVAL},
        ),
    ),
    (Fidelity, Fidelity(10, 3, "captions", "images", 99, 29, 30, 3, RANDOM.random(3), {})),
    (float | None, None),
    (float | None, 0.1),
    (tuple[int, str], (1, "one")),
]


def equal(one: Any, other: Any) -> bool:
    """Of the same types and bits, also where NaN is not equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if is_dataclass(one):
        return all(equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(equal, one.values(), other.values()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.mark.parametrize(("kind", "value"), CASES)
def test_it_reads_back_exactly(kind: Any, value: Any, tmp_path: Path) -> None:
    checkpoint = CheckpointFolder(resolve(tmp_path))
    assert checkpoint("it", kind, lambda: value) is value
    assert equal(CheckpointFolder(resolve(tmp_path))("it", kind, lambda: pytest.fail("computed again")), value)


def test_what_is_missing_cut_short_or_of_another_kind_is_computed(tmp_path: Path) -> None:
    place = resolve(tmp_path / "it.npz")
    assert load(place, Ceiling) is None
    save(place, Ceiling(3, {1: 0.5}, 0, 1))
    assert load(place, Ceiling) == Ceiling(3, {1: 0.5}, 0, 1)
    assert load(place, Ranks) is None
    whole = (tmp_path / "it.npz").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "it.npz").write_bytes(whole[:length])
        assert load(place, Ceiling) is None


def test_a_failed_computation_keeps_nothing(tmp_path: Path) -> None:
    checkpoint = CheckpointFolder(resolve(tmp_path))

    def fail() -> float:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        checkpoint("it", float, fail)
    assert checkpoint("it", float, lambda: 2.0) == 2.0


def test_what_is_not_data_is_refused_before_it_is_written(tmp_path: Path) -> None:
    @dataclass
    class Holding:
        thing: object

    for thing in (object(), np.array([object()]), {1, 2}):
        with pytest.raises((TypeError, ValueError)):
            save(resolve(tmp_path / "it.npz"), Holding(thing))
    assert list(tmp_path.iterdir()) == []


def test_the_time_that_was_saved_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 5)
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    first = CheckpointFolder(resolve(tmp_path))
    first("it", float, lambda: 1.0)
    assert first.seconds_saved == 0
    second = CheckpointFolder(resolve(tmp_path))
    second("it", float, lambda: 1.0)
    assert second.seconds_saved == 5


def test_nothing_is_kept_where_nothing_should_be() -> None:
    numbers = iter([1, 2])
    assert [no_checkpoints("it", int, lambda: next(numbers)) for _ in range(2)] == [1, 2]
