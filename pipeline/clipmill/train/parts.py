"""The parts of a network: image tower, text tower, temperature; which of them are trained, and whether whole."""

from typing import Any, Literal

import torch

from clipmill.core.errors import UserError

Part = Literal["image", "text", "temperature"]
_NOT_ADAPTED = ("head", "out_proj")
_START_BIAS = -10.0
"""SigLIP's: at first nearly no pair is one (Zhai et al. 2023, section 3.1)."""


def part_of(name: str) -> Part:
    """Which part a weight belongs to, by its name in open_clip's networks, or in those of transformers that write."""
    if name in ("logit_scale", "logit_bias"):
        return "temperature"
    return "image" if name.startswith("visual.") or "vision_" in name else "text"


def freeze(network: torch.nn.Module, part: Literal["none", "image", "text"]) -> None:
    """Leaves one tower as it is, and lets the other learn to match it (Zhai et al., "LiT: Zero-Shot Transfer with
    Locked-image text Tuning", 2022)."""
    for name, weight in network.named_parameters():
        if part_of(name) == part:
            weight.requires_grad_(False)


def set_modes(network: torch.nn.Module) -> None:
    """Training mode, except for modules all of whose weights are frozen: their statistics are not to move either."""
    network.train()
    for module in network.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


def add_bias(network: torch.nn.Module) -> None:
    """Gives the network the bias that the sigmoid loss needs, where it has none."""
    if getattr(network, "logit_bias", None) is None:
        network.logit_bias = torch.nn.Parameter(torch.tensor(_START_BIAS))


def begin_decoder(network: Any) -> None:
    """Draws the projection of a CoCa's decoder, which open_clip leaves as memory was: its own way of doing so fails."""
    decoder = getattr(network, "text_decoder", None)
    projection = getattr(decoder, "text_projection", None)
    if isinstance(projection, torch.nn.Parameter):
        torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)


def add_adapters(network: torch.nn.Module, rank: int) -> Any:
    """Freezes the towers and adds low-rank updates to their matrices (Hu et al., "LoRA", 2021), by `peft`.

    Returns the wrapper whose ``merge_and_unload`` gives the network back with the updates added to its weights. Raises
    UserError where peft is not installed, or the network has nothing to adapt.
    """
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError as error:
        raise UserError(f"--lora needs peft ({error}): pip install 'clipmill[train]'") from None
    adapted = [name for name, module in network.named_modules() if _can_be_adapted(name, module)]
    if not adapted:
        raise UserError("--lora: this network has no linear layers or attention to adapt; train it without")
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=adapted, lora_dropout=0.0)
    wrapped = LoraModel(network, config, "default")
    for name, weight in network.named_parameters():
        weight.requires_grad_("lora_" in name or part_of(name) == "temperature")
    return wrapped


def _can_be_adapted(name: str, module: torch.nn.Module) -> bool:
    kinds = (torch.nn.Linear, torch.nn.MultiheadAttention)
    return isinstance(module, kinds) and name.rpartition(".")[2] not in _NOT_ADAPTED


def running_statistics(network: torch.nn.Module) -> list[torch.Tensor]:
    """What batch normalisation remembers of the batches that it saw."""
    found: list[torch.Tensor] = []
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.training:
            kept = (module.running_mean, module.running_var, module.num_batches_tracked)
            found.extend(buffer for buffer in kept if buffer is not None)
    return found


def interpolated(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Weights between two networks: ``share`` 0 is the start, 1 the end (Wortsman et al., "Robust fine-tuning of zero-shot
    models", 2022). What is no floating-point number is that of the end."""
    return {
        name: torch.lerp(start[name].to(tensor), tensor, share) if tensor.is_floating_point() else tensor
        for name, tensor in end.items()
    }
