"""The captioning half of CoCa: a decoder that sees the picture says its caption, a token at a time.

Yu et al., "CoCa: Contrastive Captioners are Image-Text Foundation Models" (2022): the contrastive loss plus twice the mean
cross-entropy of the next token. The contrastive half needs the whole batch, this one a picture and its caption, so it is a
pass of its own, in micro-batches of the same size.
"""

from collections.abc import Callable

import torch

from clipmill.core.errors import UserError
from clipmill.encoders.source import ModelSource
from clipmill.train.next_token import NOT_ASKED, Pieces, next_token_backward
from clipmill.train.workers import Workers

WEIGHT = 2.0
"""Of captioning beside contrast (CoCa, section 4.1)."""

Say = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Pictures and token ids (n, length) to the logits of the next token, float32 (n, length − 1, vocabulary), and those tokens,
int64 (n, length − 1)."""


def refuse_without_decoder(source: ModelSource) -> None:
    """Raises UserError for a model that cannot write captions."""
    if "multimodal_cfg" not in source.config:
        raise UserError(
            f"--loss coca trains a decoder that writes captions, and {source.name} has none: name a model that has one "
            "(--model coca_ViT-B-32, or a folder whose open_clip_config.json has a multimodal_cfg), or --loss clip"
        )


def caption_backward(
    say: Say,
    pixels: torch.Tensor,
    tokens: torch.Tensor,
    padding: int,
    micro_batch: int,
    seed: int,
    workers: Workers,
) -> float:
    """Adds the gradient of the captioning loss of a batch to this worker's weights, still to be summed over workers; returns
    the loss: `WEIGHT` times the mean over all workers' tokens that are not ``padding``, in nats.

    ``pixels`` and ``tokens`` (n, length) are a worker's pictures and their captions, ``seed`` decides what is drawn inside.
    """

    def some(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        logits, labels = say(pixels[rows], tokens[rows])
        return logits, labels.masked_fill(labels == padding, NOT_ASKED)

    pieces = Pieces(len(tokens), micro_batch, seed)
    return WEIGHT * next_token_backward(some, pieces, (tokens[:, 1:] != padding).sum(), workers, WEIGHT)
