"""Questions that were prepared one by one as one batch: prompts filled up on one side, pictures to the largest."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from clipmill.words.protocol import Prepared

BY_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""Inputs with a number a token of the prompt."""


def joined(batch: Sequence[Prepared], filler: int, *, left: bool) -> dict[str, torch.Tensor]:
    """The inputs of a batch. Prompts are filled up with ``filler`` on their left or right, all else with zeros behind."""
    found = {}
    for name in batch[0].inputs:
        tensors = [one.inputs[name] for one in batch]
        value = filler if name == "input_ids" else 0
        if name in BY_TOKEN:
            longest = max(tensor.shape[1] for tensor in tensors)
            tensors = [_filled(tensor, longest, value, left=left) for tensor in tensors]
        elif len({tensor.shape[1:] for tensor in tensors}) > 1:
            tensors = _to_the_largest(tensors)
        found[name] = torch.cat(tensors)
    return found


def _filled(tokens: torch.Tensor, length: int, value: int, *, left: bool) -> torch.Tensor:
    missing = length - tokens.shape[1]
    return F.pad(tokens, (missing, 0) if left else (0, missing), value=value)


def _to_the_largest(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    found = []
    for tensor in tensors:
        room = [(0, most - has) for most, has in zip(shape, tensor.shape[1:], strict=True)]
        found.append(F.pad(tensor, [side for pair in reversed(room) for side in pair]))
    return found


def groups(lengths: Sequence[int], most: int, *, exact: bool) -> list[list[int]]:
    """Places of questions by batches of at most ``most``, those with prompts of like length together; with ``exact`` of one
    length."""
    order = sorted(range(len(lengths)), key=lambda at: (lengths[at], at))
    found: list[list[int]] = []
    for at in order:
        same = found and (not exact or lengths[found[-1][0]] == lengths[at])
        if not same or len(found[-1]) == most:
            found.append([])
        found[-1].append(at)
    return found
