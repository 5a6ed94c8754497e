"""Prompts learned from labelled images: the words before a class's name become free vectors, all else stays as it is.

    "a photo of a skirt"  ->  [v1] [v2] [v3] [v4] "skirt"

Zhou et al., "Learning to Prompt for Vision-Language Models" (CoOp, 2022), with one context for all classes that begins as the
words of a plain prompt: so the first step is zero-shot classification. Images are not encoded again; the text tower is
passed once a step, for all classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from clipmill.encoders.text import encode_tokens
from clipmill.evaluation.classification.probe import Examples, Step

CONTEXT = 4
"""Learned vectors, in the places of "a photo of a"."""
STEPS, CHECKS = 200, 10
_BATCH = 256
_RATE, _MOMENTUM = 0.002, 0.9
_PROMPT = "a photo of a {}"


@dataclass(frozen=True)
class PromptTower:
    """A text tower whose first words can be replaced by vectors; float32, on its device, none of its weights trained. Vectors
    of classes keep their first ``dimension`` components."""

    network: torch.nn.Module
    embedding: torch.nn.Module
    tokenizer: Callable[[list[str]], torch.Tensor]
    device: torch.device
    logit_scale: float
    dimension: int

    @staticmethod
    def of(
        network: torch.nn.Module, tokenizer: Any, device: torch.device, logit_scale: float | None, dimension: int
    ) -> "PromptTower | None":
        """None for a network whose words cannot be replaced, or that has no temperature to train with."""
        tower = getattr(network, "text", network)
        embedding = getattr(tower, "token_embedding", None)
        if not isinstance(embedding, torch.nn.Embedding) or logit_scale is None:
            return None
        network.requires_grad_(False).eval()
        return PromptTower(network, embedding, tokenizer, device, logit_scale, dimension)

    def tokens(self, names: Sequence[str]) -> torch.Tensor:
        """Token ids of the plain prompts of some classes, int64 (c, length)."""
        return self.tokenizer([_PROMPT.format(name) for name in names]).to(self.device)

    def words(self, tokens: torch.Tensor) -> torch.Tensor:
        """The vectors that the context begins as, float32 (`CONTEXT`, width)."""
        words: torch.Tensor = self.embedding(tokens[0, 1 : 1 + CONTEXT])
        return words.detach().float()

    def classes(self, tokens: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Unit vectors of the classes, float32 (c, d), with a context in the place of their first words."""

        def put(module: torch.nn.Module, given: Any, words: torch.Tensor) -> torch.Tensor:
            own = context.to(words.dtype).expand(len(words), -1, -1)
            return torch.cat([words[:, :1], own, words[:, 1 + CONTEXT :]], dim=1)

        hook = self.embedding.register_forward_hook(put)
        try:
            return F.normalize(encode_tokens(self.network, tokens)[:, : self.dimension].float(), dim=-1)
        finally:
            hook.remove()


def learn_prompts(
    tower: PromptTower,
    names: Sequence[str],
    train: Examples,
    validation: Examples,
    seed: int,
    step: Step = lambda done: None,
) -> NDArray[np.float32]:
    """One unit vector per class, float32 (c, d), of the context that did best in validation of those after every tenth part
    of the steps, and before the first. Images are unit vectors; classes are numbered as ``names`` are.

    ``step`` is called with the steps just done, `STEPS` in all.
    """
    tokens, random = tower.tokens(names), torch.Generator().manual_seed(seed)
    context = torch.nn.Parameter(tower.words(tokens))
    optimiser = torch.optim.SGD([context], lr=_RATE, momentum=_MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    images, truth = _tensors(train, tower.device)
    best, vectors = -1.0, np.empty((0, 0), np.float32)
    for done in range(STEPS + 1):
        if done % (STEPS // CHECKS) == 0:
            with torch.inference_mode():
                now = tower.classes(tokens, context).cpu().numpy()
            right = float(np.mean((validation.vectors @ now.T).argmax(axis=1) == validation.classes))
            if right > best:
                best, vectors = right, now
        if done == STEPS:
            break
        some = torch.randint(len(images), (min(_BATCH, len(images)),), generator=random).to(tower.device)
        logits = tower.logit_scale * images[some] @ tower.classes(tokens, context).T
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(logits, truth[some]).backward()
        optimiser.step()
        schedule.step()
        step(1)
    return vectors


def _tensors(examples: Examples, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(examples.vectors).to(device), torch.from_numpy(examples.classes).to(device)
