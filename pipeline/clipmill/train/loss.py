"""The contrastive losses, each as a sum over rows, so that workers can share the rows of a batch.

`clip`: every image finds its own text among all texts of the batch, and every text its image. InfoNCE as in van den Oord
et al., "Representation Learning with Contrastive Predictive Coding" (2018), made symmetric as in Radford et al., "Learning
Transferable Visual Models From Natural Language Supervision" (2021).

`siglip`: every image and text of the batch are a pair or they are not, each question on its own. Zhai et al., "Sigmoid
Loss for Language Image Pre-Training" (2023).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F


def match_probabilities(images: torch.Tensor, texts: torch.Tensor, temperature: float) -> torch.Tensor:
    """P(text j | image i), float (images, texts), rows summing to one, from unit vectors of shape (n, d)."""
    return torch.softmax(images @ texts.T / temperature, dim=1)


@dataclass(frozen=True)
class Candidates:
    """All unit vectors of a batch, of every worker: image i and text i are a pair.

    ``images`` (n, d), ``texts`` (n, d), and ``negatives`` (m, d): texts that are no image's caption, candidates for every
    image and asked of none. ``scale`` is the inverse temperature, ``bias`` is added to every logit (None: nothing is).
    """

    images: torch.Tensor
    texts: torch.Tensor
    negatives: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None = None

    @property
    def count(self) -> int:
        """Pairs in the batch."""
        return len(self.images)

    def logits(self, one: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Scaled products of two sets of vectors."""
        products = self.scale * one @ others.T
        return products if self.bias is None else products + self.bias


@dataclass(frozen=True)
class AlsoTrue:
    """Texts that are true of an image without being its pair, for the rows that a loss is asked about.

    ``of_images`` (r, n + m), bool: texts, then negatives, that are true of these images; ``of_texts`` (r, n), bool: images
    that these texts are true of. The pairs themselves may be marked or not.
    """

    of_images: torch.Tensor
    of_texts: torch.Tensor


Loss = Callable[[Candidates, slice, AlsoTrue], torch.Tensor]
"""The share that some rows have in the loss of a whole batch, a scalar: shares of all rows sum to the loss."""


def clip_loss(all: Candidates, rows: slice, also_true: AlsoTrue) -> torch.Tensor:
    """The mean of the two cross-entropies, image to text and text to image.

    Texts that are also true of an image are left out of the comparison: pushing them away would be wrong.
    """
    pairs = torch.arange(all.count, device=all.images.device)[rows]
    texts = torch.cat([all.texts, all.negatives])
    to_texts = _without(all.logits(all.images[rows], texts), also_true.of_images, pairs)
    to_images = _without(all.logits(all.texts[rows], all.images), also_true.of_texts, pairs)
    both = F.cross_entropy(to_texts, pairs, reduction="sum") + F.cross_entropy(to_images, pairs, reduction="sum")
    return both / (2 * all.count)


def siglip_loss(all: Candidates, rows: slice, also_true: AlsoTrue) -> torch.Tensor:
    """Minus the log probability of the right answer about every image and text, summed, per image.

    What is also true of an image is asked neither way.
    """
    pairs = torch.arange(all.count, device=all.images.device)[rows]
    logits = all.logits(all.images[rows], torch.cat([all.texts, all.negatives]))
    is_pair = torch.zeros_like(logits).scatter_(1, pairs[:, None], 1.0)
    asked = ~also_true.of_images | is_pair.bool()
    return -(F.logsigmoid((2 * is_pair - 1) * logits) * asked).sum() / all.count


LOSSES: dict[str, Loss] = {"clip": clip_loss, "siglip": siglip_loss, "coca": clip_loss}
"""The contrastive part of each ``--loss``; that of captions is `clipmill.train.captioning`."""


def _without(logits: torch.Tensor, left_out: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Logits (r, n) without what is left out, but for each row's own pair."""
    own = torch.zeros_like(left_out).scatter_(1, pairs[:, None], True)
    return logits.masked_fill(left_out & ~own, float("-inf"))
