"""What a model costs is published, or counted where it is our own."""

import pytest

from clipmill.core.errors import UserError
from clipmill.estimate.models import cost_of_model


def test_a_published_model_without_its_weights() -> None:
    cost = cost_of_model("ViT-L-14")
    assert (cost.dimension, cost.image_size) == (768, (224, 224))
    # 24 blocks, each of 12·1024² multiply-adds a token and 2·257·1024 for attention, over 257 tokens
    blocks = 24 * 257 * (12 * 1024**2 + 2 * 257 * 1024) * 2 / 1e9
    assert cost.image_gflops == pytest.approx(blocks, rel=0.05)


def test_the_builtin_model_is_counted() -> None:
    cost = cost_of_model(None)
    assert cost == cost_of_model("builtin")
    assert cost.image_gflops is not None
    assert cost.text_gflops is not None
    assert 0.001 < cost.image_gflops < 1
    assert 0.001 < cost.text_gflops < 1


def test_a_model_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UserError, match="not a model that open_clip knows"):
        cost_of_model("ViT-Z-99")
