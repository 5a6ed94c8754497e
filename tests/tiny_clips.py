"""Models of sounds and of videos with random weights, in folders as transformers saves them."""

from pathlib import Path
from typing import Any

import torch
import transformers

from tiny_models import LENGTH, VOCABULARY, TinyModel, byte_pairs

RATE, SECONDS, FRAMES = 16_000, 1, 4
_WIDE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def tiny_clap(folder: Path, *, fusion: bool = False) -> TinyModel:
    """A model of sounds that hears a second at a time."""
    torch.manual_seed(5)
    text = {**_WIDE, "vocab_size": VOCABULARY, "max_position_embeddings": LENGTH + 2, "pad_token_id": 1}
    audio: dict[str, Any] = {
        "spec_size": 128,
        "num_mel_bins": 64,
        "patch_size": 4,
        "patch_stride": (4, 4),
        "window_size": 4,
        "hidden_size": 32,
        "patch_embeds_hidden_size": 16,
        "depths": (1, 1),
        "num_attention_heads": (2, 2),
        "num_hidden_layers": 2,
        "enable_fusion": fusion,
        "enable_patch_fusion": fusion,
        "fusion_type": "aff_2d" if fusion else None,
    }
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=16)
    network = transformers.ClapModel(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)  # or nothing is left of a sound
    extractor = transformers.ClapFeatureExtractor(
        sampling_rate=RATE,
        max_length_s=SECONDS,
        hop_length=160,
        fft_window_size=400,
        frequency_max=7_000,
        truncation="fusion" if fusion else "rand_trunc",
        return_attention_mask=False,
    )
    tokenizer = byte_pairs()
    return _saved("clap", folder, network, extractor, tokenizer)


def tiny_x_clip(folder: Path) -> TinyModel:
    """A model of videos of four pictures."""
    torch.manual_seed(5)
    text = {**_WIDE, "vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "eos_token_id": 2, "bos_token_id": 1}
    vision = {**_WIDE, "image_size": 32, "patch_size": 8, "num_frames": FRAMES}
    vision |= {"mit_hidden_size": 16, "mit_intermediate_size": 32, "mit_num_hidden_layers": 1}
    vision |= {"mit_num_attention_heads": 2}
    config = transformers.XCLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    network = transformers.XCLIPModel(config).eval()
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return _saved("x_clip", folder, network, processor, byte_pairs())


def _saved(kind: str, folder: Path, network: Any, processor: Any, tokenizer: Any) -> TinyModel:
    for part in (network, processor, tokenizer):
        part.save_pretrained(folder)
    return TinyModel(kind, folder, network, processor, transformers.AutoTokenizer.from_pretrained(folder))
