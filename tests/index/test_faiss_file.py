"""A FAISS file that names sizes beyond its own is refused before memory is taken, wherever it is read."""

import struct
import threading
from pathlib import Path

import faiss
import numpy as np
import pytest

from clipmill.index.build.factory import from_bytes, to_bytes
from clipmill.index.faiss_file import limits, read_index


@pytest.fixture
def index() -> faiss.Index:
    made = faiss.IndexFlatIP(8)
    made.add(np.arange(80, dtype=np.float32).reshape(10, 8))
    return made


def claiming(data: bytes, items: int) -> bytes:
    """The same file, whose vectors are said to be so many numbers."""
    at = len(data) - 10 * 8 * 4 - 8
    assert struct.unpack_from("<Q", data, at) == (80,)
    return data[:at] + struct.pack("<Q", items) + data[at + 8 :]


@pytest.mark.parametrize("items", [1 << 28, 1 << 33, 1 << 37])
def test_sizes_beyond_that_of_the_file_are_refused(tmp_path: Path, index: faiss.Index, items: int) -> None:
    whole = to_bytes(index).tobytes()
    (tmp_path / "good.faiss").write_bytes(whole)
    assert read_index(str(tmp_path / "good.faiss")).ntotal == 10
    assert from_bytes(np.frombuffer(whole, np.uint8)).ntotal == 10
    bomb = claiming(whole, items)
    (tmp_path / "bomb.faiss").write_bytes(bomb)
    with pytest.raises(RuntimeError, match="limit"):
        read_index(str(tmp_path / "bomb.faiss"))
    with pytest.raises(RuntimeError, match="limit"):
        from_bytes(np.frombuffer(bomb, np.uint8))


def test_files_read_at_the_same_time_have_the_largest_of_their_limits() -> None:
    usual = faiss.get_deserialization_vector_byte_limit()
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with limits(10 << 30):
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    with limits(1000):
        assert faiss.get_deserialization_vector_byte_limit() > 10 << 30
    done.set()
    thread.join()
    with limits(1000):
        assert 1000 < faiss.get_deserialization_vector_byte_limit() < 2 << 20
    assert faiss.get_deserialization_vector_byte_limit() == usual


def test_an_empty_index_of_many_lists_is_read_whatever_tables_could_be_made_of_it(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((4096, 64)).astype(np.float32)
    index = faiss.index_factory(64, "IVF1024,PQ32x4fsr", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    faiss.write_index(index, str(tmp_path / "trained.faiss"))
    assert read_index(str(tmp_path / "trained.faiss")).nlist == 1024
