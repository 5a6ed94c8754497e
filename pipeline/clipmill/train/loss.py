"""The contrastive loss: every image finds its own text among all texts of the batch, and every text its image.

InfoNCE as in van den Oord et al., "Representation Learning with Contrastive Predictive Coding" (2018), made symmetric as
in Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021).
"""

import torch
from torch.nn import functional as F


def match_probabilities(images: torch.Tensor, texts: torch.Tensor, temperature: float) -> torch.Tensor:
    """P(text j | image i), float (images, texts), rows summing to one, from unit vectors of shape (n, d)."""
    return torch.softmax(images @ texts.T / temperature, dim=1)


def info_nce(
    images: torch.Tensor,
    texts: torch.Tensor,
    scale: torch.Tensor | float,
    negatives: torch.Tensor | None = None,
    also_true: torch.Tensor | None = None,
) -> torch.Tensor:
    """The mean of the two cross-entropies, image to text and text to image; a scalar.

    ``images`` and ``texts`` are unit vectors (n, d), a pair to a row; ``scale`` is the inverse temperature.
    ``negatives`` (m, d) are further texts that belong to no image: candidates for every image, asked of none.
    ``also_true`` (n, n + m), bool: texts, then negatives, that are true of an image without being its pair. Those are
    left out of the comparison, because pushing them away would be wrong; the pairs themselves are never left out.
    """
    count = len(images)
    candidates = texts if negatives is None else torch.cat([texts, negatives])
    logits = scale * images @ candidates.T
    if also_true is not None:
        own = torch.eye(count, len(candidates), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(also_true & ~own, float("-inf"))
    pairs = torch.arange(count, device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits[:, :count].T, pairs)) / 2
