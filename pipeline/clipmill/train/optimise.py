"""How weights move: AdamW with decay on matrices alone, a warm-up and a cosine, a bounded temperature."""

import math
from collections.abc import Iterable

import torch

MAX_LOGIT_SCALE = math.log(100)
"""CLIP's bound: beyond it training becomes unstable (Radford et al. 2021, section 2.5)."""

_BETAS = (0.9, 0.98)
_EPSILON = 1e-6
_MAX_GRADIENT_NORM = 1.0


def make_optimiser(network: torch.nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trainable weights. Gains, biases and the temperature, which have fewer than two axes, do not decay."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=_BETAS, eps=_EPSILON)


def learning_rate_at(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """The rate of one step (from 0): a straight rise over the warm-up, then half a cosine down to nearly 0."""
    warmup_steps = min(warmup_steps, steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps))) / 2


def move(network: torch.nn.Module, optimiser: torch.optim.Optimizer, loss: torch.Tensor, learning_rate: float) -> None:
    """One step down the gradient of the loss."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(_weights(optimiser), _MAX_GRADIENT_NORM)
    optimiser.step()
    with torch.no_grad():
        network.logit_scale.clamp_(max=MAX_LOGIT_SCALE)  # type: ignore[operator]


def _weights(optimiser: torch.optim.Optimizer) -> Iterable[torch.Tensor]:
    return (weight for group in optimiser.param_groups for weight in group["params"])
