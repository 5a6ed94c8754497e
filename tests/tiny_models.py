"""Models of transformers with random weights, small enough to be made for a test, in folders as their library saves them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

KINDS = (
    "align",
    "altclip",
    "chinese_clip",
    "clip",
    "flava",
    "groupvit",
    "metaclip_2",
    "siglip",
    "siglip2",
    "vision_text_dual_encoder",
)
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
VOCABULARY = 320
LENGTH = 24
TEXTS = ["a red circle above a blue square", "two dogs run along a beach", "Ünïcödé ☂", "a cat", "a cat", "word " * 60]

_WIDE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_TEXT = {**_WIDE, "vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_VISION = {**_WIDE, "image_size": 32, "patch_size": 8}
_SIDE = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
_SQUARE = {"size": {"height": 32, "width": 32}}


@dataclass(frozen=True)
class TinyModel:
    """A model beside what its library prepares items with, and the folder that holds all three."""

    kind: str
    folder: Path
    network: Any
    processor: Any
    tokenizer: Any


def tiny_model(kind: str, folder: Path) -> TinyModel:
    """Makes a model of one of `KINDS` and saves it."""
    torch.manual_seed(3)
    network = _NETWORKS[kind]().eval()
    processor = _processor(kind)
    tokenizer = byte_pairs(masked=kind not in ("siglip",), left=kind == "siglip2")
    for part in (network, processor, tokenizer):
        part.save_pretrained(folder)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)  # of a class that belongs to the model
    return TinyModel(kind, folder, network, processor, loaded)


def byte_pairs(*, masked: bool = True, left: bool = False) -> Any:
    """A byte-level tokenizer learnt from `TEXTS`, with a token before and one after every text."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=LENGTH,
        model_input_names=["input_ids", "attention_mask"] if masked else ["input_ids"],
        padding_side="left" if left else "right",
    )


def _joint(kind: str, text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None, **more: Any) -> Any:
    """A model whose configuration is one of its text and one of its image tower."""
    prefix = {"clip": "CLIP", "altclip": "AltCLIP", "chinese_clip": "ChineseCLIP", "groupvit": "GroupViT"}
    name = {**prefix, "metaclip_2": "MetaClip2", "siglip": "Siglip", "siglip2": "Siglip2"}[kind]
    config = getattr(transformers, f"{name}Config")
    texts = {**_TEXT, "max_position_embeddings": LENGTH, **(text or {})}
    made = config(text_config=texts, vision_config={**_VISION, **(vision or {})}, **more)
    return getattr(transformers, f"{name}Model")(made)


def _align() -> Any:
    text = {**_TEXT, "max_position_embeddings": LENGTH, "type_vocab_size": 2}
    vision = {"image_size": 32, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 64}
    config = transformers.AlignConfig(text_config=text, vision_config=vision, projection_dim=32)
    network = transformers.AlignModel(config)
    for layer in network.vision_model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)  # or nothing is left of a picture after so many layers
    return network


def _flava() -> Any:
    text = {**_TEXT, "max_position_embeddings": LENGTH}
    config = transformers.FlavaConfig(
        text_config=text,
        image_config=_VISION,
        multimodal_config=_WIDE,
        image_codebook_config={"num_groups": 2, "hidden_size": 8, "vocab_size": 16},
        projection_dim=16,
        hidden_size=32,
    )
    return transformers.FlavaModel(config)


def _dual() -> Any:
    vision = transformers.ViTConfig(**_VISION)
    text = transformers.BertConfig(**_TEXT, max_position_embeddings=LENGTH)
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=16)
    return transformers.VisionTextDualEncoderModel(config)


def _groupvit() -> Any:
    vision = {"depths": [1, 1], "num_group_tokens": [4, 0], "num_output_groups": [4, 2]}
    return _joint("groupvit", vision=vision, projection_dim=16, projection_intermediate_dim=32)


_NETWORKS: dict[str, Any] = {
    "align": _align,
    "altclip": lambda: _joint(
        "altclip",
        text={"max_position_embeddings": LENGTH + 1, "project_dim": 16},
        vision={"projection_dim": 16},
        projection_dim=16,
    ),
    "chinese_clip": lambda: _joint("chinese_clip", projection_dim=16),
    "clip": lambda: _joint("clip", projection_dim=16),
    "flava": _flava,
    "groupvit": _groupvit,
    "metaclip_2": lambda: _joint("metaclip_2", projection_dim=16),
    "siglip": lambda: _joint("siglip"),
    "siglip2": lambda: _joint("siglip2", vision={"num_patches": 16}),
    "vision_text_dual_encoder": _dual,
}


def _processor(kind: str) -> Any:
    match kind:
        case "align":
            return transformers.EfficientNetImageProcessor(**_SQUARE, include_top=True, rescale_offset=False)
        case "siglip":
            return transformers.SiglipImageProcessor(**_SQUARE)
        case "siglip2":
            return transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
        case "flava":
            return transformers.FlavaImageProcessor(**_SQUARE, crop_size=_SQUARE["size"])
        case "chinese_clip":
            return transformers.ChineseCLIPImageProcessor(**_SIDE)
        case "vision_text_dual_encoder":
            return transformers.ViTImageProcessor(**_SQUARE)
        case _:
            return transformers.CLIPImageProcessor(**_SIDE)
