"""Faults inside Ray: what can be survived is survived with every row once; what cannot ends the run and is named."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from apart import apart
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import EmbeddingsManifest
from clipmill.encoders.shipping import Shipment
from poison import POISONED_WIDTH, DeadlyPreprocessing, FailingPreprocessing, deadly_shipment, embed_in_small_units
from processes import descendants

pytestmark = pytest.mark.cluster
FILES, ROWS, POISONED = 8, 40, (3, 17)
EVERY_ROW = [(file, row) for file in range(FILES) for row in range(ROWS)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of noise; one picture has another width than all others."""
    folder = tmp_path_factory.mktemp("faults")
    random = np.random.default_rng(0)
    for file in range(FILES):
        images = []
        for row in range(ROWS):
            width = POISONED_WIDTH if (file, row) == POISONED else 64
            buffer = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (48, width, 3), np.uint8)).save(buffer, "PNG")
            images.append(buffer.getvalue())
        captions = [f"picture {row} of {file}" for row in range(ROWS)]
        pq.write_table(pa.table({"image": images, "caption": captions}), folder / f"{file}.parquet", row_group_size=20)
    return folder


@pytest.fixture
def run(source: Path, tmp_path: Path) -> Callable[..., EmbeddingsManifest]:
    """Embeds on a cluster of its own; see `poison.embed_in_small_units` for what can be spoiled."""

    def go(settings: dict[str, Any] | None = None, **spoiled: Any) -> EmbeddingsManifest:
        values = {"input": str(source), "output": str(tmp_path / "out"), **(settings or {})}
        return apart(embed_in_small_units, values, **spoiled)

    return go


def rows_of(folder: Path) -> list[tuple[int, int]]:
    rows = pq.read_table(folder / "out" / "images", columns=["row"]).column("row").to_pylist()
    return [(row >> 32, row & 0xFFFFFFFF) for row in rows]


def test_a_worker_that_dies_twice_is_survived(run: Callable[..., EmbeddingsManifest], tmp_path: Path) -> None:
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    manifest = run(preprocessing=(DeadlyPreprocessing, {"folder": str(deaths), "times": 2}))
    assert len(list(deaths.iterdir())) == 2
    assert rows_of(tmp_path) == EVERY_ROW
    assert manifest.counts.captions == FILES * ROWS


def test_a_picture_that_kills_every_worker_ends_the_run_and_is_named(
    run: Callable[..., EmbeddingsManifest], tmp_path: Path
) -> None:
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    with pytest.raises(RunFailed, match=r"decoding rows 0 to 19 of .*3\.parquet.*died") as raised:
        run(preprocessing=(DeadlyPreprocessing, {"folder": str(deaths), "times": 1000}))
    assert "run the same command again" in str(raised.value)
    assert 2 <= len(list(deaths.iterdir())) <= 10
    assert not (tmp_path / "out").exists()


def test_an_exception_in_a_worker_is_told_with_file_and_rows(run: Callable[..., EmbeddingsManifest]) -> None:
    with pytest.raises(RunFailed, match=r"decoding rows 0 to 19 of .*3\.parquet failed: RuntimeError: a tensor"):
        run(preprocessing=(FailingPreprocessing, {}))


def test_encoders_that_die_while_they_load_the_model_end_the_run(run: Callable[..., EmbeddingsManifest]) -> None:
    with pytest.raises(RunFailed, match=r"encoders died .* while they loaded the model"):
        run(shipment=deadly_shipment())


def test_an_encoder_that_cannot_load_the_model_says_why(run: Callable[..., EmbeddingsManifest]) -> None:
    with pytest.raises(RunFailed, match="UnpicklingError"):
        run(shipment=Shipment(b"not a pickle", {}))


def test_an_object_store_smaller_than_the_work_spills_and_loses_nothing(
    run: Callable[..., EmbeddingsManifest], tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    pictures = []
    for _ in range(60):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (1024, 1024, 3), np.uint8)).save(buffer, "BMP")
        pictures.append(buffer.getvalue())
    pq.write_table(pa.table({"image": pictures}), tmp_path / "large.parquet", row_group_size=20, compression="none")
    manifest = run({"input": str(tmp_path / "large.parquet")}, object_store_bytes=80_000_000)
    assert manifest.counts.images == 60
    assert rows_of(tmp_path) == [(0, row) for row in range(60)]


def test_too_many_rejects_end_the_run_at_once_and_a_higher_limit_continues(
    run: Callable[..., EmbeddingsManifest], tmp_path: Path
) -> None:
    with pytest.raises(RunFailed, match=r"too_many_pixels.*--max-rejects 0") as raised:
        run({"max_image_pixels": 48 * 64, "max_rejects": 0})
    assert not raised.value.work_goes_on
    assert not (tmp_path / "out").exists()
    manifest = run({"max_image_pixels": 48 * 64, "max_rejects": 1})
    assert manifest.counts.rejected_by_reason == {"too_many_pixels": 1}
    assert manifest.runs[-1].rows_reused > 0


def test_a_run_without_progress_ends_and_says_what_it_waits_for(run: Callable[..., EmbeddingsManifest]) -> None:
    with frozen("ray::MapWorker"), pytest.raises(RunFailed, match=r"nothing moved for 15 s .*encoders.*CPUs free"):
        run(stall_timeout=15)


class frozen:
    """Stops, as SIGSTOP does, every process of this title that appears, and ends them at the end."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._done = threading.Event()
        self._stopped: set[int] = set()

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.is_set():
            for process in descendants(self._title):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGSTOP)
                self._stopped.add(process)
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        for process in self._stopped:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
