"""Values as people write them."""

import pytest

from clipmill.core.values import parse_bytes, parse_count, parse_count_or_all, size_text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5000", 5000),
        ("500k", 500_000),
        ("10M", 10**7),
        ("2.5B", 25 * 10**8),
        ("1T", 10**12),
        ("5e9", 5 * 10**9),
        ("1_000", 1000),
    ],
)
def test_a_number_of_rows_may_have_a_letter(text: str, count: int) -> None:
    assert parse_count(text) == count
    assert parse_count(count) == count
    assert parse_count(float(count)) == count


@pytest.mark.parametrize(
    "text", ["", "many", "-5", "1.5", "10Q", "1e-3", "nan", float("nan"), float("inf"), True, None]
)
def test_what_is_no_number_of_rows_is_named_with_what_is_understood(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a whole number; .*10M"):
        parse_count(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "size"), [("24MB", 24 * 10**6), ("4GiB", 4 << 30), ("512", 512), ("1.5kB", None)])
def test_sizes_have_units(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(ValueError, match="24MB or 4GiB"):
            parse_bytes(text)
    else:
        assert parse_bytes(text) == size
        assert parse_bytes(size_text(size)) == size


def test_a_size_is_told_in_the_largest_unit_that_is_whole() -> None:
    assert [size_text(size) for size in (4 << 30, 24 * 10**6, 7, 1500)] == ["4GiB", "24MB", "7", "1500"]


@pytest.mark.parametrize(("text", "value"), [("all", "all"), ("5000", 5000), ("100k", 100_000), (7, 7), (None, None)])
def test_a_number_of_rows_or_all(text: object, value: object) -> None:
    assert parse_count_or_all(text) == value


@pytest.mark.parametrize("text", ["many", "1.5", "", "-3"])
def test_what_is_neither_a_number_nor_all_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="nor the word all"):
        parse_count_or_all(text)
