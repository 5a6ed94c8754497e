"""What is measured of a model in training on held-out data, and what follows from it: which weights are the best."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from clipmill.train.checkpoint import Best, History
from clipmill.train.learner import Examined, Learner, Weights
from clipmill.train.parts import interpolated
from clipmill.train.rows import Source, examples
from clipmill.train.validate import is_better

SOME_IMAGES = 1000
"""Of a validation in the midst of a run."""
MANY_IMAGES = 5000
"""Of the last one."""


@dataclass(frozen=True)
class Examiner:
    """Validates the network as it is at the moment, records it in the history, and tells."""

    learner: Learner
    held_out: Source
    pool: ThreadPoolExecutor
    history: History
    tell: Callable[[int, Examined], None]

    def validate(self, step: int, limit: int = SOME_IMAGES, **marks: Any) -> Examined:
        """What the network knows of the first ``limit`` held-out images. ``marks`` go into the record beside it."""
        learner = self.learner
        learner.network.eval()
        with torch.inference_mode():
            found = learner.validate(examples(self.held_out, self.pool, limit), self.held_out.templates)
        self.history.validations.append({"step": step, **marks, **found.as_dict()})
        self.tell(step, found)
        return found

    def last(self, step: int) -> None:
        """The validations that end a run: of as many images as those before, and of more where there are more."""
        self.validate(step)
        if self.held_out.rows > SOME_IMAGES:
            self.validate(step, MANY_IMAGES)

    def better(self, best: Best | None, found: Examined, step: int) -> Best:
        """The best validation with this one counted. It is better only where that is no chance."""
        if best is None or is_better(found.hits, best.hits):
            weights = {name: tensor.detach().cpu().clone() for name, tensor in self.learner.trained().items()}
            return Best(step, weights, found.hits)
        return Best(best.step, best.weights, best.hits, best.waited + 1)

    def mixed(self, start: Weights, end: Weights, span: tuple[float, float, float], step: int) -> Weights:
        """The mixture of starting and trained weights with the highest score."""
        first, last, width = span
        shares = [min(last, first + width * number) for number in range(math.floor((last - first) / width + 1e-9) + 1)]
        best, most = end, -1.0
        for share in shares:
            mixture = interpolated(start, end, share)
            self.learner.fill(mixture)
            found = self.validate(step, share=round(share, 4))
            if found.score > most:
                best, most, self.history.share = mixture, found.score, round(share, 4)
        return best
