"""The gradient of the loss of one batch, which may be larger than a worker's memory and lie on several workers.

    vectors of my part  ->  gather those of all  ->  my rows of the loss  ->  its gradient by vectors, summed over workers
    ->  back through my network  ->  gradients of weights, summed over workers

The loss needs the vectors of the whole batch and no more of it, so a network sees its part in micro-batches: first for
vectors without a graph, then, once it is known which way each vector should move, again with one (Gao et al., "Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup", 2021). The result is the gradient of the whole batch at once.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from clipmill.train.loss import AlsoTrue, Candidates, Loss
from clipmill.train.truth import Truth
from clipmill.train.workers import Workers

_ROWS = 1024
"""Rows of the loss at a time: at most so many times the batch of logits are in memory."""

Encode = Callable[[torch.Tensor], torch.Tensor]
"""Inputs of a tower (n, …) to unit vectors, float32 (n, d)."""


@dataclass(frozen=True)
class Tower:
    """One tower of a network with a worker's inputs of this batch, encoded ``micro_batch`` of them at a time.

    ``seed`` decides what is drawn at random inside the tower (dropout), alike both times that a micro-batch passes.
    """

    encode: Encode
    inputs: torch.Tensor
    micro_batch: int
    seed: int

    @property
    def is_whole(self) -> bool:
        """Whether all inputs pass at once, so that the graph of the first pass can be kept."""
        return len(self.inputs) <= self.micro_batch

    def pieces(self) -> Iterator[torch.Tensor]:
        """The micro-batches, each with its own random numbers begun."""
        for start in range(0, len(self.inputs), self.micro_batch):
            torch.manual_seed(self.seed + start)
            yield self.inputs[start : start + self.micro_batch]


def backward(
    images: Tower,
    texts: Tower,
    pairs: int,
    truth: Truth,
    loss: Loss,
    scale: Callable[[], torch.Tensor],
    bias: torch.Tensor | None,
    workers: Workers,
    buffers: Sequence[torch.Tensor] = (),
) -> float:
    """Adds the gradient of the batch's loss to this worker's weights, still to be summed over workers; returns the loss.

    ``texts`` are the captions of the ``pairs`` images and then their negatives. ``scale`` computes the inverse temperature.
    ``buffers`` are statistics that a pass updates (batch normalisation): the second pass leaves them alone.
    """
    found = [_vectors(images), _vectors(texts)]
    mine = [vectors.detach() for vectors in found]
    parts = [workers.gather(rows) for rows in (mine[0], mine[1][:pairs], mine[1][pairs:])]
    leaves = [torch.cat(part).requires_grad_() for part in parts]
    first = sum(len(part) for part in parts[0][: workers.rank])
    value = _of_rows(leaves, range(first, first + pairs), truth, loss, scale, bias)
    workers.sum([value, *(_gradient(leaf) for leaf in leaves)])
    own = [
        _gradient(leaf).split([len(one) for one in part])[workers.rank]
        for leaf, part in zip(leaves, parts, strict=True)
    ]
    kept = [buffer.clone() for buffer in buffers]
    _pass_back(images, found[0], own[0])
    _pass_back(texts, found[1], torch.cat(own[1:]))
    for buffer, before in zip(buffers, kept, strict=True):
        buffer.copy_(before)
    return float(value)


def sum_gradients(weights: Sequence[torch.nn.Parameter], workers: Workers) -> None:
    """Replaces the gradient of every weight by its sum over all workers, which is that of the whole batch."""
    workers.sum([weight.grad for weight in weights if weight.grad is not None])


def _vectors(tower: Tower) -> torch.Tensor:
    with contextlib.nullcontext() if tower.is_whole else torch.no_grad():
        return torch.cat([tower.encode(piece) for piece in tower.pieces()])


def _of_rows(
    leaves: Sequence[torch.Tensor],
    rows: range,
    truth: Truth,
    loss: Loss,
    scale: Callable[[], torch.Tensor],
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """This worker's share of the loss, a scalar; its gradient is added to the leaves."""
    images, texts, negatives = leaves
    total = images.new_zeros(())
    for start in range(rows.start, rows.stop, _ROWS):
        some = slice(start, min(start + _ROWS, rows.stop))
        also_true = AlsoTrue(*(table.to(images.device) for table in truth.rows(some)))
        share = loss(Candidates(images, texts, negatives, scale(), bias), some, also_true)
        share.backward()
        total += share.detach()
    return total


def _gradient(leaf: torch.Tensor) -> torch.Tensor:
    if leaf.grad is None:
        leaf.grad = torch.zeros_like(leaf)
    return leaf.grad


def _pass_back(tower: Tower, vectors: torch.Tensor, gradient: torch.Tensor) -> None:
    if not any_trained(vectors) and tower.is_whole:
        return
    if tower.is_whole:
        vectors.backward(gradient)
        return
    for piece, wanted in zip(tower.pieces(), gradient.split(tower.micro_batch), strict=True):
        again = tower.encode(piece)
        if not any_trained(again):
            return
        again.backward(wanted)


def any_trained(vectors: torch.Tensor) -> bool:
    """Whether a weight that is trained had a part in these vectors: a frozen tower has none."""
    return vectors.requires_grad
