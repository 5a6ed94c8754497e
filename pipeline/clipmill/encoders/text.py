"""The text tower on short captions: no work for the padding that a causal tower cannot see.

Most captions fill a fifth of CLIP's 77 positions. A causal tower that takes its answer at the end-of-text token never
looks past it, so positions after the longest caption of a batch can be left out without changing the result. Towers that
attend both ways or pool over padding (SigLIP, MobileCLIP, CoCa) are left as they are.
"""

from typing import Any

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer

_AGREE = 1e-5
"""Largest difference of unit vectors between a tower on cut and on whole texts: rounding of float32, and no more."""


def ignores_padding(network: torch.nn.Module) -> bool:
    """Whether positions after the end-of-text token can be cut: a causal mask, and the answer taken at that token."""
    if isinstance(network, CLIP):
        return network.attn_mask is not None and network.text_pool_type == "argmax"
    tower = network.text if isinstance(network, CustomTextCLIP) else None
    return (
        isinstance(tower, TextTransformer)
        and tower.attn_mask is not None
        and tower.pool_type == "argmax"
        and tower.cls_emb is None
        and not tower.use_pad_mask
        and not tower.output_tokens
    )


def agrees_when_cut(network: torch.nn.Module, tokens: torch.Tensor) -> bool:
    """Whether these texts, int64 (n, context length) of different lengths, have the same vectors cut and whole.

    What `ignores_padding` concludes from the parts of a tower is put to the test once: a tower may be of another make
    than its class says. A text is cut most when it is alone, so each is encoded alone.
    """
    if not ignores_padding(network):
        return False
    whole = _unit(encode_tokens(network, tokens, cut=False))
    cut = torch.cat([_unit(encode_tokens(network, without_padding(network, text[None]))) for text in tokens])
    return bool((whole - cut).abs().max() <= _AGREE)


def without_padding(network: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Token ids, int64 (n, context length), without the positions after the last end-of-text token, where the tower ignores
    them."""
    return tokens[:, : int(tokens.argmax(dim=-1).max()) + 1] if ignores_padding(network) else tokens


def encode_tokens(network: Any, tokens: torch.Tensor, *, cut: bool = True) -> torch.Tensor:
    """Token ids, int64 (n, length), as features (n, d), not normalised.

    ``length`` may be less than the context length where the tower ignores padding (`ignores_padding`) and ``cut`` is not
    False.
    """
    if not (cut and ignores_padding(network)):
        features: torch.Tensor = network.encode_text(tokens, normalize=False)
        return features
    tower = network if isinstance(network, CLIP) else network.text
    ends, length = tokens.argmax(dim=-1), tokens.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    hidden = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
    hidden = tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length])
    hidden = tower.ln_final(hidden)[torch.arange(len(tokens), device=tokens.device), ends]
    projection = tower.text_projection
    if projection is None:
        result: torch.Tensor = hidden
        return result
    result = projection(hidden) if isinstance(projection, torch.nn.Linear) else hidden @ projection
    return result


def _unit(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features.to(torch.float32), dim=-1)
