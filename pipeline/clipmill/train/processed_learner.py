"""What all models of transformers share that learn: where they are, how they compute, and what weights go in and out."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from clipmill.core.settings import TrainSettings
from clipmill.encoders.adapters.prepared import ProcessorPreparation
from clipmill.storage import Location
from clipmill.train.learner import Weights
from clipmill.train.parts import set_modes
from clipmill.train.processed import Processed


@dataclass(frozen=True)
class ProcessedLearner:
    """A network on one device, learning as its settings say; ``half``: in bfloat16."""

    network: Any
    source: Processed
    device: torch.device
    half: bool
    settings: TrainSettings

    @property
    def name(self) -> str:
        """What the model is called in records."""
        return self.source.name

    @property
    def pictures(self) -> ProcessorPreparation:
        """The image processor's own preparation."""
        return self.source.pictures

    def learning(self) -> None:
        """Puts the network into training mode, but for what is frozen."""
        set_modes(self.network)

    def autocast(self) -> AbstractContextManager[object]:
        """The number format of a pass through the network."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half)

    def trained(self) -> Weights:
        """All weights of the network."""
        weights: Weights = self.network.state_dict()
        return weights

    def whole(self) -> Weights:
        """The weights of the model, on the CPU, as a copy."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.trained().items()}

    def fill(self, weights: Weights) -> None:
        """Takes over weights such as `whole` gives."""
        mine = self.trained()
        with torch.no_grad():
            for name, tensor in weights.items():
                mine[name].copy_(tensor)

    def measures(self) -> dict[str, float]:
        """Nothing beside the loss."""
        return {}

    def write(self, folder: Location, weights: Weights) -> None:
        """Model and processor, as transformers loads them from a folder."""
        self.source.write(folder, self.network, weights)


def computes_in_half(settings: TrainSettings, device: torch.device) -> bool:
    """Whether passes through the network are in bfloat16."""
    return settings.precision == "bf16" or (settings.precision == "auto" and device.type == "cuda")
