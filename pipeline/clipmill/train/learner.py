"""What a run asks of whatever learns: towers that match pictures and texts, or a model that writes about pictures."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch

from clipmill.encoders.protocol import Preparation
from clipmill.storage import Location
from clipmill.train.batches import Batch
from clipmill.train.rows import Example
from clipmill.train.truth import Part
from clipmill.train.workers import Workers

Weights = dict[str, torch.Tensor]


class Examined(Protocol):
    """What a validation found. ``hits``: for each image how much of what was asked about it was right, 0 to 1."""

    @property
    def hits(self) -> list[float]: ...

    @property
    def score(self) -> float:
        """What a better model has more of."""
        ...

    def as_dict(self) -> dict[str, float | int | None]:
        """The figures by their names, for people and records."""
        ...


class Learner(Protocol):
    """A network that learns, on one device."""

    @property
    def network(self) -> torch.nn.Module: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def name(self) -> str:
        """What the model is called in records."""
        ...

    @property
    def pictures(self) -> Preparation:
        """How pictures are prepared for it."""
        ...

    def learning(self) -> None:
        """Puts the network into training mode, but for what is frozen."""
        ...

    def backward(
        self, step: int, batch: Batch, parts: Sequence[Part], workers: Workers, statistics: Sequence[torch.Tensor]
    ) -> float:
        """Adds the gradient of a step (from 0) to this worker's weights, still to be summed over workers; returns the loss
        in nats. ``batch`` is this worker's part, ``parts`` what is known of those of all; ``statistics`` are what a pass
        updates (batch normalisation)."""
        ...

    def validate(self, examples: Iterable[Example], templates: Sequence[str]) -> Examined:
        """What the network, in evaluation mode, knows of held-out examples. ``templates`` make captions of labels."""
        ...

    def trained(self) -> Weights:
        """All weights and statistics of the network as it is trained."""
        ...

    def whole(self) -> Weights:
        """The weights under the names of the architecture, on the CPU."""
        ...

    def fill(self, weights: Weights) -> None:
        """Takes over weights such as `whole` gives."""
        ...

    def measures(self) -> dict[str, float]:
        """What is recorded of the network itself beside its loss."""
        ...

    def write(self, folder: Location, weights: Weights) -> None:
        """The model with these weights, as it is loaded from a folder."""
        ...
