"""The gradient of one step of two towers, whatever the loss is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from clipmill.core.settings import TrainSettings
from clipmill.train.batches import Batch
from clipmill.train.captioning import caption_backward
from clipmill.train.gradient import Tower, backward
from clipmill.train.loss import LOSSES
from clipmill.train.truth import Part, Truth
from clipmill.train.workers import Workers

if TYPE_CHECKING:
    from clipmill.train.towers import Towers


def step_backward(
    learner: Towers,
    settings: TrainSettings,
    step: int,
    batch: Batch,
    parts: Sequence[Part],
    workers: Workers,
    statistics: Sequence[torch.Tensor],
) -> float:
    """Adds the gradient of a step (from 0) to this worker's weights, still to be summed over workers; returns the loss.

    ``batch`` is this worker's part, ``parts`` what is known of those of all; ``statistics`` are as in `backward`.
    """
    pixels, texts = learner.pixels(batch.pixels), learner.tokens([*batch.texts, *batch.negatives])
    size = settings.micro_batch or max(len(texts), len(pixels))
    seed = (settings.seed * 1_000_003 + step) * 1_009 + workers.rank
    loss = backward(
        Tower(learner.encode_pixels, pixels, size, seed),
        Tower(learner.encode_tokens, texts, size, seed),
        len(batch.texts),
        Truth(parts),
        LOSSES[settings.loss],
        learner.scale,
        learner.bias,
        workers,
        statistics,
    )
    if settings.loss == "coca":
        captions = texts[: len(batch.texts)]
        loss += caption_backward(learner.say, pixels, captions, learner.padding, size, seed, workers)
    return loss
