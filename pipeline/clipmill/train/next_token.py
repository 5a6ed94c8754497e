"""The loss of a model that writes: how probable it finds each token that comes next."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from clipmill.train.workers import Workers

NOT_ASKED = -100
"""In place of a token that comes next, where the loss does not ask for it."""


@dataclass(frozen=True)
class Pieces:
    """A worker's rows, ``micro_batch`` at a time; ``seed`` decides what is drawn inside a pass."""

    rows: int
    micro_batch: int
    seed: int

    def __iter__(self) -> Iterator[slice]:
        for start in range(0, self.rows, self.micro_batch):
            torch.manual_seed(self.seed + start)
            yield slice(start, min(start + self.micro_batch, self.rows))


def next_token_backward(
    say: Callable[[slice], tuple[torch.Tensor, torch.Tensor]],
    pieces: Pieces,
    asked: torch.Tensor,
    workers: Workers,
    weight: float = 1.0,
) -> float:
    """Adds the gradient of ``weight`` times the mean cross-entropy of all workers' next tokens to this worker's weights, still
    to be summed over workers; returns that mean, in nats.

    ``say`` gives for some rows logits, float32 (n, t, vocabulary), and the tokens that come, int64 (n, t), `NOT_ASKED` where
    none is asked for; ``asked``, a scalar, counts those of all this worker's rows.
    """
    count = asked.to(torch.float64)
    workers.sum([count])
    total = torch.zeros((), dtype=torch.float64, device=asked.device)
    for rows in pieces:
        logits, labels = say(rows)
        nats = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=NOT_ASKED, reduction="sum")
        share = nats / count.to(nats.dtype)
        (weight * share).backward()
        total += share.detach()
    workers.sum([total])
    return float(total)
