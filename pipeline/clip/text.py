"""The text tower on short captions: no work for the padding that a causal tower cannot see.

Most captions fill a fifth of CLIP's 77 positions. A causal tower that takes its answer at the end-of-text token never
looks past it, so positions after the longest caption of a batch can be left out without changing the result. Towers that
attend both ways or pool over padding (SigLIP, MobileCLIP) are left as they are.
"""

from typing import Any

import torch
from open_clip.model import CLIP


def ignores_padding(network: torch.nn.Module) -> bool:
    """Whether positions after the end-of-text token can be cut: a causal mask, and the answer taken at that token."""
    return isinstance(network, CLIP) and network.attn_mask is not None and network.text_pool_type == "argmax"


def encode_tokens(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Token ids, int64 (n, context length), as features (n, d), not normalised."""
    if not ignores_padding(network):
        features: torch.Tensor = network.encode_text(tokens, normalize=False)
        return features
    ends = tokens.argmax(dim=-1)
    length = int(ends.max()) + 1
    dtype = network.transformer.get_cast_dtype()
    hidden = network.token_embedding(tokens[:, :length]).to(dtype) + network.positional_embedding[:length].to(dtype)
    hidden = network.transformer(hidden, attn_mask=network.attn_mask[:length, :length])
    hidden = network.ln_final(hidden)[torch.arange(len(tokens), device=tokens.device), ends]
    projection = network.text_projection
    if projection is None:
        return hidden
    return projection(hidden) if isinstance(projection, torch.nn.Linear) else hidden @ projection
