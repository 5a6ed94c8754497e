"""The numbers that a network computes with: float32 as it was trained, bfloat16, or 8-bit integers.

bf16 halves every number: several times as fast where a processor multiplies matrices of it (AMX, AVX512-BF16, tensor
cores), several times slower where it has to be emulated. int8 quantises the weights of the image tower's linear layers
once and their inputs as they come; it is for processors without bf16. Captions stay float32 with it: in text towers the
rounding showed too much (cosines of .997). Both move vectors a little, which is measured with every run that uses them.
"""

import copy
import warnings
from typing import TypeGuard

import torch
from open_clip.modified_resnet import AttentionPool2d
from open_clip.transformer import ResidualAttentionBlock

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings

_ENGINES = ("onednn", "x86", "fbgemm", "qnnpack")
"""Of dynamic quantisation, the fastest first."""
_WORTH_BF16 = 20_000_000
"""Parameters below which a CPU gains nothing from bf16: the products of a small network are too small for it."""


def choose_precision(settings: ModelSettings, device: torch.device, network: torch.nn.Module) -> str:
    """bf16 on a GPU that computes with it, and for all but small networks on such a processor; else fp32, unless the
    settings say otherwise.

    Raises UserError for int8 on a GPU, where it is slower than bf16 and not built.
    """
    if settings.precision == "int8" and device.type != "cpu":
        raise UserError("--precision int8 is for CPUs; on a GPU leave --precision out, or say bf16")
    if settings.precision != "auto":
        return settings.precision
    small = device.type == "cpu" and sum(weight.numel() for weight in network.parameters()) < _WORTH_BF16
    return "bf16" if has_bf16(device) and not small else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether matrix products of bfloat16 are computed by the hardware."""
    if device.type == "cuda":
        result: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return result
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("amx_bf16") or known.get("avx512_bf16"))


def at_precision(network: torch.nn.Module, precision: str) -> torch.nn.Module:
    """The float32 network itself for fp32, else a copy of it at ``precision`` (bf16 or int8) on the same device."""
    if precision == "fp32":
        return network
    made = copy.deepcopy(network)
    causal = _causal_blocks(made)
    for block in made.modules():
        if isinstance(block, ResidualAttentionBlock) and _is_plain(block.attn):
            block.attn = _SelfAttention(block.attn, causal=block in causal)
    if precision == "bf16":
        return made.to(torch.bfloat16)
    _quantise(made.get_submodule("visual"))
    return made


def in_bfloat16(network: torch.nn.Module) -> torch.nn.Module:
    """A copy of a float32 network of any library."""
    return copy.deepcopy(network).to(torch.bfloat16)


def _causal_blocks(network: torch.nn.Module) -> set[torch.nn.Module]:
    """The blocks whose tower masks just what comes later."""
    found: set[torch.nn.Module] = set()
    for tower in network.modules():
        mask, transformer = getattr(tower, "attn_mask", None), getattr(tower, "transformer", None)
        if isinstance(mask, torch.Tensor) and isinstance(transformer, torch.nn.Module):
            later = torch.full_like(mask, float("-inf")).triu_(1)
            if mask.dim() == 2 and torch.equal(mask, later):
                found.update(transformer.modules())
    return found


def _quantise(tower: torch.nn.Module) -> None:
    supported = torch.backends.quantized.supported_engines
    torch.backends.quantized.engine = next(engine for engine in _ENGINES if engine in supported)
    fused = {
        f"{name}.{child}"
        for name, pool in tower.named_modules()
        if isinstance(pool, AttentionPool2d)
        for child, _ in pool.named_children()
    }  # used by their weights, not called
    layers = {name for name, layer in tower.named_modules() if type(layer) is torch.nn.Linear} - fused
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to move this to another package one day
        torch.ao.quantization.quantize_dynamic(tower, layers, dtype=torch.qint8, inplace=True)
    for layer in tower.modules():
        if isinstance(layer, torch.ao.nn.quantized.dynamic.Linear):
            vars(layer)["int8_original_dtype"] = torch.float32  # where open_clip looks for the type of activations


def _is_plain(attention: object) -> TypeGuard[torch.nn.MultiheadAttention]:
    """Whether this is torch's attention in the form that `_SelfAttention` computes."""
    return (
        isinstance(attention, torch.nn.MultiheadAttention)
        and attention.in_proj_weight is not None
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and attention.batch_first
        and not attention.add_zero_attn
    )


class _SelfAttention(torch.nn.Module):
    """torch's MultiheadAttention of a sequence with itself, in linear layers that can be quantised, and that are fast in
    bf16: torch's own hides its weights in a fused call, which copies them for every batch of that type.

    ``causal``: masks of two dimensions hide just what comes later, which a GPU computes fastest when it is told so.
    """

    def __init__(self, attention: torch.nn.MultiheadAttention, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.heads = attention.num_heads
        width = attention.embed_dim
        self.inputs = torch.nn.Linear(width, 3 * width)
        self.outputs = torch.nn.Linear(width, width)
        self.inputs.weight, self.inputs.bias = attention.in_proj_weight, attention.in_proj_bias
        self.outputs.weight, self.outputs.bias = attention.out_proj.weight, attention.out_proj.bias

    def forward(
        self, query: torch.Tensor, *_: object, attn_mask: torch.Tensor | None = None, need_weights: bool = False
    ) -> tuple[torch.Tensor, None]:
        rows, length, width = query.shape
        parts = self.inputs(query).view(rows, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind(0)
        causal = self.causal and attn_mask is not None and attn_mask.dim() == 2
        if causal:
            attn_mask = None
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.view(rows, self.heads, length, length)
        attend = torch.nn.functional.scaled_dot_product_attention
        mixed = attend(queries, keys, values, attn_mask=attn_mask, is_causal=causal)
        return self.outputs(mixed.transpose(1, 2).reshape(rows, length, width)), None
