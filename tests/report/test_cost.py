"""What embeddings cost, from their manifest."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from clipmill.core.gpus import peak_flops
from clipmill.report.parts.cost import cost_figures
from tests.estimate.manifests import manifest


def figures(model: str, encoded_with: str) -> dict[str, float]:
    made = manifest(10_000, 4.0, {"encode_images": 0.5}, encoded_with=encoded_with, gpus=1.0)
    assert made.model is not None
    told = made.model_copy(update={"model": made.model.model_copy(update={"name": model})})
    embeddings: Any = SimpleNamespace(manifest=told, count=lambda part: 0)
    return {figure.key: cast(float, figure.value) for figure in cost_figures(embeddings)}


def test_the_share_of_a_gpus_peak_is_published_operations_over_what_it_could_have_done() -> None:
    found = figures("ViT-B-32", "cuda bf16 batch 256 on NVIDIA H200")
    assert found["cost.gpu_flops_share"] == pytest.approx(10_000 * 8.82e9 / (0.5 * 989e12))


@pytest.mark.parametrize(
    ("model", "encoded_with"),
    [
        ("ViT-Z-1", "cuda bf16 batch 256 on NVIDIA H200"),
        ("ViT-B-32", "cuda bf16 batch 256 on NVIDIA Z9"),
        ("ViT-B-32", "cuda bf16 batch 256"),
        ("ViT-B-32", "cpu fp32 batch 32"),
    ],
)
def test_it_is_left_out_where_operations_or_gpu_are_not_known(model: str, encoded_with: str) -> None:
    assert "cost.gpu_flops_share" not in figures(model, encoded_with)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("Tesla T4", 65e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L400", None),
        ("", None),
    ],
)
def test_a_gpu_is_known_by_the_name_that_its_driver_gives_it(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak
