"""Repeated ids are counted exactly while they are few, and fairly in bounded memory when they are many."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from clipmill.verification.ids import RepeatedIds, hashes_of


def count(ids: list[str], most: int = 1 << 20, batch: int = 1000) -> RepeatedIds:
    counter = RepeatedIds(most)
    for start in range(0, len(ids), batch):
        counter.add(hashes_of(pa.array(ids[start : start + batch], pa.string())))
    return counter


def test_few_ids_are_counted_exactly() -> None:
    counter = count([f"id-{number % 700}" for number in range(3000)])
    assert (counter.exact, counter.repeated) == (True, 2300)


def test_many_ids_are_counted_from_a_share_of_them() -> None:
    counter = count([f"id-{number % 60_000}" for number in range(90_000)], most=4096)
    assert not counter.exact
    assert counter.repeated == pytest.approx(30_000, rel=0.1)
    assert len(counter._hashes) <= 4096


def test_different_strings_have_different_hashes() -> None:
    ids = ["", "\0", "\0\0", "a", "b", "ab", "ba", "aab", "aba", "日本", "x" * 300, "x" * 299 + "y"]
    ids += [f"{number:07d}" for number in range(100_000)]
    assert len(np.unique(hashes_of(pa.array(ids, pa.string())))) == len(ids)


def test_a_hash_depends_on_the_string_alone() -> None:
    whole = hashes_of(pa.array(["a", "", "bcd", "e", ""]))
    assert hashes_of(pa.array(["zz", "bcd", "e", ""]).slice(1)).tolist() == whole[2:].tolist()
    program = (
        "import pyarrow as pa; from clipmill.verification.ids import hashes_of\n"
        "print(int(hashes_of(pa.array(['bcd']))[0]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == int(whole[2])


def test_no_ids() -> None:
    assert hashes_of(pa.array([], pa.string())).shape == (0,)
    assert RepeatedIds().repeated == 0
