"""The end of a run says what limited it, how busy the encoders were, and how far their vectors are from float32."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from clipmill.core.settings import ModelSettings
from clipmill.embedding.limits import limited_by, limits_of
from clipmill.embedding.parity import compare_with_fp32, parity_of
from clipmill.embedding.statistics import Statistics
from clipmill.encoders.model import load_model


@pytest.mark.parametrize(
    ("seconds", "stage"),
    [
        ({"encode_images": 150, "encode_captions": 20, "decode": 30}, "encoding"),
        ({"encode_images": 60, "decode": 90}, "decoding"),
        ({"encode_images": 60, "read": 90}, "reading"),
        ({"encode_images": 60, "copy": 90}, "copying"),
        ({"encode_images": 60, "write": 50, "compact": 40}, "writing"),
        ({"encode_images": 20, "decode": 39}, "start-up"),
        ({}, "nothing: all rows were done before"),
    ],
)
def test_the_stage_that_took_longest_limits_a_run(seconds: dict[str, float], stage: str) -> None:
    assert limited_by(Counter(seconds), 100.0, 2) == stage


def test_encoders_are_busy_for_their_share_of_the_time_between_first_and_last_picture() -> None:
    first = Statistics(seconds=Counter(encode_images=8.0), encoding_from=1000.0, encoding_until=1009.0)
    last = Statistics(
        seconds=Counter(encode_images=6.0, encode_captions=4.0), encoding_from=1002.0, encoding_until=1012.0
    )
    first.add(last)
    limits = limits_of(first, 20.0, 2, gpus=False, precisions={"fp32"})
    assert limits.encoder_busy == pytest.approx(18 / 24)


def test_a_run_limited_by_decoding_beside_gpus_is_told_what_else_can_decode() -> None:
    run = Statistics(seconds=Counter(encode_images=20.0, decode=300.0))
    assert "--decode gpu" in limits_of(run, 100.0, 2, gpus=True, precisions={"bf16"}).advice
    assert "--decode" not in limits_of(run, 100.0, 2, gpus=False, precisions={"bf16"}).advice
    assert "--decode cpu" in limits_of(run, 100.0, 2, gpus=True, precisions={"bf16"}, decodes=True).advice


def test_a_run_limited_by_encoding_in_fp32_is_told_of_faster_precisions() -> None:
    run = Statistics(seconds=Counter(encode_images=190.0))
    assert "--precision int8" in limits_of(run, 100.0, 2, gpus=False, precisions={"fp32"}).advice
    assert "--precision" not in limits_of(run, 100.0, 2, gpus=False, precisions={"bf16"}).advice
    assert "--precision bf16" in limits_of(run, 100.0, 2, gpus=True, precisions={"fp32"}).advice


def test_extremes_survive_sums_and_json_in_any_order() -> None:
    units = [
        Statistics(compared=2, cosines=1.9, least_cosine=0.9, encoding_from=5.0, encoding_until=6.0),
        Statistics(),
        Statistics(compared=1, cosines=1.0, least_cosine=1.0, encoding_from=2.0, encoding_until=3.0),
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        total = Statistics()
        for index in order:
            total.add(Statistics.from_dict(json.loads(json.dumps(vars(units[index])))))
        assert (total.encoding_from, total.encoding_until) == (2.0, 6.0)
        assert parity_of(total) == {"images": 3, "minimum_cosine": 0.9, "mean_cosine": pytest.approx(2.9 / 3, abs=1e-6)}
    assert parity_of(Statistics()) == {}


def test_parity_is_the_cosine_with_float32_of_a_few_pictures() -> None:
    model = replace(load_model(ModelSettings(), device="cpu"), precision="bf16")
    size = model.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, *size), np.uint8)
    values = [None, *(picture.tobytes() for picture in pixels)]
    decoded = pa.table({"pixels": pa.array(values, pa.binary(3 * size[0] * size[1]))})
    statistics = Statistics()
    compare_with_fp32(model, decoded, 7, statistics)
    exact = replace(model, precision="fp32").encode_images(pixels)
    expected = (model.encode_images(pixels) * exact).sum(axis=1)
    found = parity_of(statistics)
    assert found["images"] == 3
    assert found["minimum_cosine"] == pytest.approx(expected.min(), abs=2e-6)
    assert found["mean_cosine"] == pytest.approx(expected.mean(), abs=2e-6)
    assert found["minimum_cosine"] < 1
