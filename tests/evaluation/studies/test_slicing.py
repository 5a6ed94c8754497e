"""Every image is in one slice, whatever the column holds."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from captioned import pairs, write_captioned
from clipmill.core.errors import UserError
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.studies.slicing import Slicing, check_columns, read_slicing, slice_values

HOSTILE = "<script>alert(1)</script>\x00\u202e"


def sliced(values: list, of: pa.DataType | None = None, pieces: int = 3) -> Slicing:
    step = len(values) // pieces + 1
    chunks = [pa.array(values[start : start + step], of) for start in range(0, len(values), step)]
    return slice_values("c", pa.chunked_array(chunks, of))


def names(found: Slicing) -> list[tuple[str, str]]:
    return [(name.kind, name.text) for name in found.names]


def test_values_are_slices_and_null_is_one_of_them() -> None:
    found = sliced(["b", None, "a", "", "null", HOSTILE, "b"], pa.large_string())
    assert names(found) == [
        ("value", ""),
        ("value", HOSTILE),
        ("value", "a"),
        ("value", "b"),
        ("value", "null"),
        ("null", ""),
    ]
    assert found.numbers.tolist() == [3, 5, 2, 0, 4, 1, 3]


def test_of_many_values_the_rare_ones_go_together() -> None:
    values = [f"v{number:03d}" for number in range(80) for _ in range(80 - number)]
    found = sliced(values, pa.large_string())
    assert len(found.names) == 50
    assert names(found)[:2] == [("value", "v000"), ("value", "v001")]
    assert names(found)[-1] == ("other", "31 other values")
    assert np.sum(found.numbers == 49) == sum(80 - number for number in range(49, 80))


def test_few_numbers_are_values_in_rising_order() -> None:
    found = sliced([2010, 2009, 2010, None, 10], pa.int16())
    assert names(found) == [("value", "10"), ("value", "2009"), ("value", "2010"), ("null", "")]
    assert found.numbers.tolist() == [2, 1, 2, 3, 0]


def test_many_numbers_are_cut_into_bins_of_about_equally_many_images() -> None:
    values = np.random.default_rng(0).permutation(1000).tolist()
    found = sliced([float(value) for value in values] + [None, float("nan")])
    assert names(found) == [
        ("range", "0 … 199"),
        ("range", "200 … 399"),
        ("range", "400 … 599"),
        ("range", "600 … 799"),
        ("range", "800 … 999"),
        ("null", ""),
    ]
    assert found.numbers[:-2].tolist() == [value // 200 for value in values]
    assert found.numbers[-2:].tolist() == [5, 5]


def test_a_value_that_fills_several_bins_stays_in_one() -> None:
    found = sliced([0] * 700 + list(range(1, 101)), pa.int64())
    assert names(found)[0] == ("range", "0 … 0")
    assert np.sum(found.numbers == 0) == 700
    assert sorted(set(found.numbers.tolist())) == list(range(len(found.names)))


@pytest.mark.parametrize(
    "values", [[date(2020, 1, 1 + number) for number in range(30)], [Decimal(number) for number in range(30)]]
)
def test_times_and_decimals_are_binned_too(values: list) -> None:
    from clipmill.evaluation.studies.slicing import _plain

    found = slice_values("c", pa.chunked_array([_plain(pa.array(values), "c")]))
    assert np.bincount(found.numbers).tolist() == [6] * 5
    assert {name.kind for name in found.names} == {"range"}


def test_a_column_of_nothing_is_one_slice() -> None:
    assert names(sliced([None, None], pa.large_string())) == [("null", "")]
    assert names(sliced([None, float("nan")], pa.float64())) == [("null", "")]


def test_a_dataset_is_sliced_by_a_column_it_kept_and_no_other(tmp_path: Path) -> None:
    images, captions, rows = pairs(9, 1)
    labels = ["x", "y", None] * 3
    dataset = Embeddings.open(write_captioned(tmp_path / "e", images, captions, rows, labels=labels))
    found = read_slicing(dataset, "label")
    assert found.numbers.tolist() == [0, 1, 2] * 3
    check_columns(dataset, ("label",))
    with pytest.raises(UserError, match=r"--slice-by year: .* it has label"):
        check_columns(dataset, ("label", "year"))
