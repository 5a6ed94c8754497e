"""What verify keeps in memory does not grow with the rows of a dataset."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clustered import write_embeddings
from wholesome import unit

ROWS_PER_FILE = 4000
SMALL, LARGE = 20_000, 200_000
PEAKS = """
import functools, json, sys, tracemalloc
import pyarrow
from clipmill.core.reporter import Silent
from clipmill.verification import embeddings
from clipmill.verification import ids
from clipmill.verification.dataset import verify

embeddings.RepeatedIds = functools.partial(ids.RepeatedIds, 1 << 12)

tracemalloc.start()
findings = verify(sys.argv[1], quick=False, reporter=Silent())
assert findings.whole, findings.faults
arrow = pyarrow.default_memory_pool().max_memory()
print(json.dumps({"rows": findings.checked["rows"], "python": tracemalloc.get_traced_memory()[1], "arrow": arrow}))
"""


def peaks(folder: Path, rows: int) -> dict[str, int]:
    folder.mkdir()
    source = folder / "source.parquet"
    pq.write_table(pa.table({"x": pa.nulls(rows, pa.int8())}), source)
    vectors = np.tile(unit(np.random.default_rng(0).standard_normal((ROWS_PER_FILE, 4))), (rows // ROWS_PER_FILE, 1))
    dataset = write_embeddings(folder / "data", vectors, vectors, files=rows // ROWS_PER_FILE, source=source)
    done = subprocess.run([sys.executable, "-c", PEAKS, str(dataset)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("rows") == rows
    return found


@pytest.mark.parametrize("allocator", ["python", "arrow"])
def test_ten_times_the_rows_take_no_more_memory(allocator: str, peaks_by_rows: dict[int, dict[str, int]]) -> None:
    """What would be kept of each row, its number and the hash of its id, comes to 4 MB more at the least."""
    small, large = peaks_by_rows[SMALL][allocator], peaks_by_rows[LARGE][allocator]
    assert large < small + 1_500_000


@pytest.fixture(scope="module")
def peaks_by_rows(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, int]]:
    folder = tmp_path_factory.mktemp("memory")
    return {rows: peaks(folder / str(rows), rows) for rows in (SMALL, LARGE)}
