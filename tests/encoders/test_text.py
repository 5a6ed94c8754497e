"""Captions without their padding: the same vectors where a tower cannot see it, and whole texts everywhere else."""

import numpy as np
import open_clip
import pytest
import torch

from clipmill.encoders.text import agrees_when_cut, encode_tokens, ignores_padding, without_padding
from tests.encoders.test_shipping import untrained

TEXTS = ["", "a cat", "two dogs on a bed, in the sun", "Ünïcödé ☂ " * 4, "word " * 200]
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
VISION = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}


def tower(kind: type[torch.nn.Module] = open_clip.CustomTextCLIP, **text: object) -> torch.nn.Module:
    torch.manual_seed(0)
    network = kind(embed_dim=32, vision_cfg=VISION, text_cfg={**TEXT, **text})
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
def test_cut_texts_have_the_vectors_of_whole_ones(kind: type[torch.nn.Module]) -> None:
    network = tower(kind)
    tokens = open_clip.tokenize(TEXTS)
    whole = network.encode_text(tokens, normalize=True)  # type: ignore[operator]
    for rows in ([0], [1], [1, 2], [0, 1, 2, 3], [4]):
        cut = torch.nn.functional.normalize(encode_tokens(network, without_padding(network, tokens[rows])), dim=-1)
        np.testing.assert_allclose(cut, whole[rows], rtol=0, atol=1e-6)
    assert agrees_when_cut(network, tokens)


def test_only_as_many_positions_as_the_longest_text_are_computed() -> None:
    network, seen = tower(), []
    network.text.transformer.register_forward_hook(lambda module, given, made: seen.append(given[0].shape[1]))  # type: ignore[union-attr,operator]
    encode_tokens(network, without_padding(network, open_clip.tokenize(["a cat", "a small cat"])))
    assert seen == [5]


@pytest.mark.parametrize(
    "text",
    [
        {"no_causal_mask": True},
        {"pool_type": "last"},
        {"embed_cls": True},
    ],
)
def test_towers_that_may_see_padding_are_left_whole(text: dict[str, object]) -> None:
    network = tower(**text)
    assert not ignores_padding(network)
    assert not agrees_when_cut(network, open_clip.tokenize(TEXTS[:2]))


def test_a_tower_that_is_not_what_its_class_says_is_found_out() -> None:
    network = tower()
    tokens = open_clip.tokenize(TEXTS[1:3])

    def see_the_end(module: torch.nn.Module, given: tuple[torch.Tensor], made: torch.Tensor) -> torch.Tensor:
        return made + made[:, -1:]

    network.text.transformer.register_forward_hook(see_the_end)  # type: ignore[union-attr,arg-type]
    assert ignores_padding(network)
    assert not agrees_when_cut(network, tokens)


def test_coca_is_left_whole() -> None:
    assert not ignores_padding(untrained("coca_base").network)
