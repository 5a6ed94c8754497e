"""The metrics are those that the dashboard asks for, and Ray's endpoint has them."""

import json
import re
import socket
import time
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray

from clipmill.core.reporter import Silent
from clipmill.embedding.statistics import ENCODING
from clipmill.embedding.steps import BYTES
from clipmill.engine import metrics
from clipmill.engine.metrics import METRICS, EmbedMetrics, Metered

LISTED = json.loads((Path(__file__).parents[2] / "infra/grafana/metrics.json").read_text(encoding="utf-8"))
COUNTS = {"rows": 30, "images": 20, BYTES: 12_345, ENCODING: 6000, "rejected: missing_image": 3, "rejected: odd": 0}


class Noted:
    """Stands for Ray's metrics: what was set, and what was counted together."""

    values: dict[tuple[str, str], float]

    def __init__(self) -> None:
        self.values = {}

    def module(self) -> Any:
        noted = self

        class Metric:
            def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
                self._name, self._keys = name, tag_keys

            def _place(self, tags: dict[str, str] | None) -> tuple[str, str]:
                assert set(tags or {}) == set(self._keys)
                return self._name, "".join((tags or {}).values())

            def inc(self, value: float, tags: dict[str, str] | None = None) -> None:
                assert value > 0
                noted.values[self._place(tags)] = noted.values.get(self._place(tags), 0) + value

            def set(self, value: float, tags: dict[str, str] | None = None) -> None:
                noted.values[self._place(tags)] = value

        module = ModuleType("metrics")
        module.Counter = module.Gauge = Metric  # type: ignore[attr-defined]
        return module


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    noted = Noted()
    monkeypatch.setattr(metrics, "metrics", noted.module())
    return noted


def test_they_are_exactly_those_that_are_listed() -> None:
    ours = [{"name": one.name, "kind": one.kind, "labels": list(one.labels), "help": one.help} for one in METRICS]
    assert sorted(ours, key=lambda one: str(one["name"])) == sorted(LISTED["metrics"], key=lambda one: str(one["name"]))


def test_counts_add_up_and_a_resumed_run_counts_its_own_rows_only(noted: Noted) -> None:
    run = EmbedMetrics(100, 10, 2)
    run.note(COUNTS)
    run.note({})
    run.note(COUNTS)
    assert noted.values[("clipmill_rows_total", "")] == 60
    assert noted.values[("clipmill_bytes_written_total", "")] == 24_690
    assert noted.values[("clipmill_rejects_total", "missing_image")] == 6
    assert ("clipmill_rejects_total", "odd") not in noted.values
    assert noted.values[("clipmill_stage_progress_ratio", "embed")] == pytest.approx(0.7)


def test_rates_are_those_of_the_last_minute(noted: Noted) -> None:
    run = EmbedMetrics(1000, 0, 2)
    start = time.monotonic()
    for second in range(10, 201, 10):
        run.note(COUNTS if second <= 100 else {}, start + second)
        if second == 100:
            assert noted.values[("clipmill_images_per_second", "")] == pytest.approx(2.0, rel=0.01)
            assert noted.values[("clipmill_gpu_busy_ratio", "")] == pytest.approx(0.3, rel=0.01)
    assert noted.values[("clipmill_images_per_second", "")] == 0.0
    assert noted.values[("clipmill_gpu_busy_ratio", "")] == 0.0


def test_the_endpoint_of_ray_has_them_under_the_listed_names() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _metrics_export_port=port)
    try:
        run, index = EmbedMetrics(100, 10, 2), Metered(Silent())
        run.note(COUNTS)
        index.progress("index", 4, 10, "vectors")
        found = _scraped(f"http://127.0.0.1:{port}/metrics", len(METRICS) + 1)
    finally:
        ray.shutdown()
    names = {re.split(r"[{ ]", line)[0] for line in found}
    assert names == {LISTED["prefix"] + one["name"] for one in LISTED["metrics"]}
    values = {
        line.split("{")[0] + "".join(re.findall(r'(?:stage|reason)="(\w+)"', line)): line.split()[-1] for line in found
    }
    assert float(values["ray_clipmill_rows_total"]) == 30
    assert float(values["ray_clipmill_rejects_totalmissing_image"]) == 3
    assert float(values["ray_clipmill_stage_progress_ratioindex"]) == pytest.approx(0.4)


def _scraped(address: str, lines: int) -> list[str]:
    """The lines of our metrics; the exporter takes some seconds to have them."""
    found: list[str] = []
    deadline = time.monotonic() + 120
    while len(found) < lines and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            text = ""
        found = [line for line in text.splitlines() if line.startswith("ray_clipmill")]
        time.sleep(0.5)
    return found
