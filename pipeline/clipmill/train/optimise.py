"""How weights move: AdamW with decay on matrices alone, a warm-up and a cosine, a bounded temperature, an average."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from clipmill.train.parts import part_of

MAX_LOGIT_SCALE = math.log(100)
"""CLIP's bound: beyond it training becomes unstable (Radford et al. 2021, section 2.5)."""

_BETAS = (0.9, 0.98)
_EPSILON = 1e-6
_MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Rates:
    """Peak learning rates. ``parts`` are factors by part: image, text, temperature; 1 where a part is not named."""

    peak: float
    parts: Mapping[str, float]

    def of(self, part: str) -> float:
        """The peak of one part."""
        return self.peak * self.parts.get(part, 1.0)


def make_optimiser(network: torch.nn.Module, rates: Rates, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trained weights, a group per part and kind. Gains, biases and the temperature, which have fewer than
    two axes, do not decay. A group's ``peak`` is its highest learning rate."""
    groups: dict[tuple[str, bool], list[torch.nn.Parameter]] = {}
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            groups.setdefault((part_of(name), weight.ndim >= 2), []).append(weight)
    return torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": weight_decay if decays else 0.0, "peak": rates.of(part)}
            for (part, decays), weights in groups.items()
        ],
        lr=rates.peak,
        betas=_BETAS,
        eps=_EPSILON,
    )


def learning_rate_at(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """The rate of one step (from 0): a straight rise over the warm-up, then half a cosine down to nearly 0."""
    warmup_steps = min(warmup_steps, steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps))) / 2


def trained(optimiser: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """The weights that an optimiser moves, in its order."""
    return [weight for group in optimiser.param_groups for weight in group["params"]]


def clip_gradients(weights: Sequence[torch.nn.Parameter]) -> float:
    """Shortens the gradient where it is longer than 1; returns the length that it had."""
    return float(torch.nn.utils.clip_grad_norm_(weights, _MAX_GRADIENT_NORM))


def move(network: torch.nn.Module, optimiser: torch.optim.Optimizer, share: float) -> None:
    """One step down the gradient, at this share of the peak rates."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share
    optimiser.step()
    scale = getattr(network, "logit_scale", None)
    if isinstance(scale, torch.Tensor):
        with torch.no_grad():
            scale.clamp_(max=MAX_LOGIT_SCALE)


class Average:
    """An exponential moving average of weights: steadier than any one step's."""

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        self._decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def update(self, network: torch.nn.Module) -> None:
        """After a step. What is no floating-point number is taken as it is."""
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.weights[name].lerp_(tensor.detach(), 1 - self._decay)
            else:
                self.weights[name].copy_(tensor)
