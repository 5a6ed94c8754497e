"""What the bytes of a stored vector stand for."""

import numpy as np
import pytest

from clipmill.index.stored import Coding, ranges_of

VECTORS = np.random.default_rng(0).standard_normal((3000, 24)) * np.r_[np.full(20, 0.03), 0.4, 0.2, 0.1, 0.0]
STORED = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)).astype(np.float16)


def test_half_floats_are_stored_as_they_are() -> None:
    coding = Coding(24)
    assert coding.dtype == "<f2"
    np.testing.assert_array_equal(coding.encode(STORED), STORED)
    np.testing.assert_array_equal(coding.decode(STORED), STORED.astype(np.float32))


def test_a_byte_is_within_half_a_step_of_its_component() -> None:
    coding = Coding(24, ranges_of(STORED))
    assert coding.ranges is not None
    codes = coding.encode(STORED)
    assert (coding.dtype, codes.dtype, codes.shape) == ("|u1", np.uint8, STORED.shape)
    low, width = coding.ranges
    meant = low + (codes.astype(np.float64) + 0.5) / 255 * width
    np.testing.assert_allclose(coding.decode(codes), meant, atol=1e-6)
    step = width / 255
    assert (np.abs(meant - STORED.astype(np.float64)) <= 0.5 * step + 1e-6).all()


def test_ranges_hold_a_sample_with_room_beside_it() -> None:
    low, width = ranges_of(STORED[:500])
    least, most = STORED[:500].min(axis=0).astype(np.float32), STORED[:500].max(axis=0).astype(np.float32)
    assert (low[:23] < least[:23]).all()
    assert (low[:23] + width[:23] > most[:23]).all()
    np.testing.assert_allclose(width[:23], 1.1 * (most - least)[:23], rtol=1e-4)


def test_what_lies_further_out_is_the_end_of_the_range() -> None:
    coding = Coding(24, ranges_of(STORED[:100]))
    outside = STORED[:1].copy()
    outside[0, :2] = 3, -3
    assert coding.encode(outside)[0, :2].tolist() == [255, 0]


@pytest.mark.parametrize("ranges", [None, ranges_of(STORED)])
def test_an_empty_index_takes_what_is_stored(ranges: np.ndarray | None) -> None:
    coding = Coding(24, ranges)
    index = coding.empty_index()
    index.add_sa_codes(np.ascontiguousarray(coding.encode(STORED)).view(np.uint8))
    scores, _ = index.search(STORED[:3].astype(np.float32), 1)
    expected = (STORED[:3].astype(np.float32) @ coding.decode(coding.encode(STORED)).T).max(axis=1)
    np.testing.assert_allclose(scores[:, 0], expected, atol=1e-5)
