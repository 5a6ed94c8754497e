"""A figure has one key, a definition that is data, and is read back from reports of before there were keys."""

import math
import re
import subprocess
import sys
from typing import get_args

import pytest
import yaml

from clipmill.core.manifests import Interval
from clipmill.evaluation.figures import METRICS, Figure, Unit, metric
from clipmill.evaluation.retrieval.measures import FAMILIES

KEYS = [f"{direction}.{key}" for direction in ("t2i", "i2t") for family in FAMILIES for key in family.metrics]


def test_a_figure_carries_everything_of_its_metric() -> None:
    figure = metric("t2i.recall@10").figure(Interval(value=0.5, low=0.4, high=0.6, n=7))
    assert (figure.key, figure.part, figure.metric) == ("t2i.recall@10", "t2i", "recall@10")
    assert (figure.value, figure.low, figure.high, figure.n, figure.higher_is_better) == (0.5, 0.4, 0.6, 7, True)
    assert Figure.model_validate_json(figure.model_dump_json()) == figure
    unbounded = metric("t2i.recall@10").figure(Interval(value=0.5, low=-math.inf, high=math.inf, n=1))
    assert (unbounded.low, unbounded.high, unbounded.n) == (None, None, 1)


def test_definitions_survive_optimisation() -> None:
    """``python -OO`` strips docstrings, and no definition is one."""
    code = f"from clipmill.evaluation.figures import metric\nfor key in {KEYS}: print(metric(key).definition)"
    told = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [metric(key).definition for key in KEYS]


def test_every_metric_has_what_a_figure_needs() -> None:
    for key, entry in yaml.safe_load(METRICS.read_text(encoding="utf-8")).items():
        assert set(entry) == {"title", "unit", "better", "definition"}, key
        assert entry["unit"] in get_args(Unit), key
        assert entry["better"] in ("higher", "lower", "neither"), key
        assert re.fullmatch(r"\S.{30,}\.|\S.{30,}\)\.", entry["definition"]), key


def test_a_key_fills_the_places_of_its_metric() -> None:
    assert [metric(f"index.{k}_recall@{k}", queries="captions").title for k in (1, 10)] == [
        "1-recall@1",
        "10-recall@10",
    ]
    loss = metric("alignment.info_nce_tau_0.07", pairs=1000)
    assert (loss.title, "1,000 pairs at temperature 0.07" in loss.definition) == ("InfoNCE at τ = 0.07", True)
    for unknown in ("t2i.precision", "index.10_recall@5", "recall@10"):
        with pytest.raises(KeyError, match=r"metrics\.yaml has no"):
            metric(unknown)


@pytest.mark.parametrize(
    ("name", "unit", "key", "higher_is_better"),
    [
        ("t2i_recall@10", "proportion", "t2i.recall@10", True),
        ("i2t_median_rank", "rank", "i2t.median_rank", False),
        ("t2i_1k_recall@5", "proportion", "t2i.1k_recall@5", True),
        ("acc1", "proportion", "zero-shot.acc1", True),
        ("acc1_change", "proportion", "zero-shot.acc1_change", True),
        ("mean_per_class_recall", "proportion", "zero-shot.mean_per_class_recall", True),
        ("calibration_error", "proportion", "zero-shot.calibration_error", False),
        ("template_mean_acc1", "proportion", "zero-shot.template_mean_acc1", True),
        ("linear_probe_mean_per_class_recall", "proportion", "probe.linear_probe_mean_per_class_recall", True),
        ("few_shot_16_acc1", "proportion", "probe.few_shot_16_acc1", True),
        ("zero_shot_on_test_acc1", "proportion", "probe.zero_shot_on_test_acc1", True),
        ("10_recall@10", "proportion", "index.10_recall@10", True),
        ("latency_p99", "milliseconds", "index.latency_p99", False),
        ("bytes_per_vector", "bytes", "index.bytes_per_vector", False),
        ("less_recall@5", "proportion", "index.less_recall@5", True),
        ("bytes_per_stored_vector", "bytes", "cost.bytes_per_stored_vector", False),
        ("images_per_second", "per second", "cost.images_per_second", True),
        ("info_nce_tau_0.07", "nats", "alignment.info_nce_tau_0.07", False),
        ("clip_score", "cosine", "alignment.clip_score", True),
        ("effective_rank_images", "ratio", "space.effective_rank_images", True),
        ("cosine", "cosine", "robustness.cosine", True),
    ],
)
def test_a_figure_from_before_there_were_keys_gets_the_key_of_today(
    name: str, unit: str, key: str, higher_is_better: bool | None
) -> None:
    old = {"name": name, "title": "T", "value": 1.5, "unit": unit, "definition": "D."}
    figure = Figure.model_validate(old)
    assert (figure.key, figure.name, figure.higher_is_better) == (key, name, higher_is_better)
    assert figure.model_dump(mode="json", include=set(old)) == old
