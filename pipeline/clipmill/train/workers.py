"""The workers of a training run: what they tell each other, whether there is one or there are many.

Every worker holds the whole network and works on its own part of each batch. A vector that one of them computed counts
in the loss of all, so vectors are gathered, and gradients are summed.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist

_BUCKET_ELEMENTS = 16 << 20
"""Tensors are summed in runs of so many elements (64 MiB of float32): few calls, and no copy of a whole network."""


class Workers(Protocol):
    """One worker's view of all of them."""

    @property
    def rank(self) -> int:
        """Which one this is, from 0."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def gather(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """The rows (n, …) of every worker, in the order of ranks; each may have another n. No gradient flows back."""
        ...

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces each tensor by its sum over all workers."""
        ...

    def tell(self, value: Any) -> list[Any]:
        """What each worker told, in the order of ranks: small things that are no tensors."""
        ...


class Alone:
    """The only worker."""

    rank = 0
    count = 1

    def gather(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """The rows themselves."""
        return [rows]

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Leaves the tensors as they are."""

    def tell(self, value: Any) -> list[Any]:
        """The value itself."""
        return [value]


class Group:
    """The workers of torch's default process group, which has to be there."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.count = dist.get_world_size()

    def gather(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Gathers as many rows of each worker as the largest has, and cuts what was added."""
        counts = self.tell(len(rows))
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(found, padded)
        return [part[:count] for part, count in zip(found, counts, strict=True)]

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Sums runs of tensors of one type together."""
        for run in _runs(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in run])
            dist.all_reduce(flat)
            for tensor, summed in zip(run, flat.split([tensor.numel() for tensor in run]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def tell(self, value: Any) -> list[Any]:
        """Exchanges pickled values."""
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found


def _runs(tensors: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """The tensors in their order, cut where the type changes or a run becomes too large."""
    runs: list[list[torch.Tensor]] = []
    size = 0
    for tensor in tensors:
        if not runs or runs[-1][0].dtype != tensor.dtype or size + tensor.numel() > _BUCKET_ELEMENTS:
            runs.append([])
            size = 0
        runs[-1].append(tensor)
        size += tensor.numel()
    return runs
