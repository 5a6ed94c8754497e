"""Models of transformers that write about pictures, with random weights, small enough to be made for a test."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as t

from tiny_models import byte_pairs

SIDE, PATCH = 32, 8
_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
_EXTRA = ["<image>", "<video>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
_EXTRA += ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]


@dataclass(frozen=True)
class TinyGenerator:
    """A model beside its processor, in a folder as the library saves them."""

    kind: str
    folder: Path
    network: Any
    processor: Any


def tokenizer(*, named: bool = False, around: bool = False) -> Any:
    """Byte pairs with tokens for pictures, and where they are ``around`` with those that begin and end a text."""
    made = byte_pairs()
    if not around:
        made._tokenizer.post_processor = None
    made.model_max_length = 512
    made.add_special_tokens({"additional_special_tokens": _EXTRA})
    return t.PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
        extra_special_tokens={"image_token": "<image>"} if named else {},
    )


def _ids(names: Any) -> dict[str, int]:
    return {name: names.convert_tokens_to_ids(name) for name in _EXTRA}


def _text(kind: Callable[..., Any], size: int, **more: Any) -> Any:
    return kind(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=size,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        max_position_embeddings=512,
        **more,
    )


_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
}
_SQUARE = {"size": {"height": SIDE, "width": SIDE}}


def llava(words: Any) -> tuple[Any, Any]:
    """A CLIP tower, a projection, a Llama."""
    ids = _ids(words)
    config = t.LlavaConfig(
        text_config=_text(t.LlamaConfig, len(words)),
        vision_config=t.CLIPVisionConfig(**_VISION),
        image_token_index=ids["<image>"],
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-1,
    )
    pictures = t.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = t.LlavaProcessor(
        image_processor=pictures,
        tokenizer=words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=_TEMPLATE.replace("IMAGE", "<image>"),
    )
    return t.LlavaForConditionalGeneration(config), processor


def _blip_config(words: Any) -> Any:
    return t.BlipConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 32,
            "encoder_hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "bos_token_id": 1,
            "sep_token_id": 2,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config=_VISION,
    )


def blip(words: Any) -> tuple[Any, Any]:
    """A picture's encoder, and a decoder that looks at it."""
    config = _blip_config(words)
    return t.BlipForConditionalGeneration(config), t.BlipProcessor(t.BlipImageProcessor(**_SQUARE), words)


def blip_2(words: Any) -> tuple[Any, Any]:
    """An encoder, queries, and an OPT."""
    config = t.Blip2Config(
        vision_config=_VISION,
        qformer_config={
            "vocab_size": len(words),
            "hidden_size": 32,
            "encoder_hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        text_config=t.OPTConfig(
            vocab_size=len(words),
            hidden_size=32,
            ffn_dim=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            word_embed_proj_dim=32,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        num_query_tokens=4,
        image_token_index=_ids(words)["<image>"],
    )
    processor = t.Blip2Processor(t.BlipImageProcessor(**_SQUARE), words, num_query_tokens=4)
    return t.Blip2ForConditionalGeneration(config), processor


def paligemma(words: Any) -> tuple[Any, Any]:
    """A SigLIP tower, and a Gemma that sees the whole prompt at once."""
    ids = _ids(words)
    config = t.PaliGemmaConfig(
        text_config=_text(t.GemmaConfig, len(words), head_dim=8),
        vision_config=t.SiglipVisionConfig(**_VISION),
        image_token_index=ids["<image>"],
        projection_dim=32,
        hidden_size=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    pictures = t.SiglipImageProcessor(**_SQUARE)
    pictures.image_seq_length = (SIDE // PATCH) ** 2
    return t.PaliGemmaForConditionalGeneration(config), t.PaliGemmaProcessor(pictures, words)


def idefics3(words: Any, kind: str = "Idefics3") -> tuple[Any, Any]:
    """A SigLIP tower whose patches are gathered, and a Llama; SmolVLM is of the same make."""
    ids = _ids(words)
    vision = {**_VISION}
    config = getattr(t, f"{kind}Config")(
        text_config=_text(t.LlamaConfig, len(words)),
        vision_config=vision,
        image_token_id=ids["<image>"],
        scale_factor=2,
        pad_token_id=0,
    )
    pictures = getattr(t, f"{kind}ImageProcessor")(
        do_image_splitting=False,
        size={"longest_edge": SIDE},
        max_image_size={"longest_edge": SIDE},
    )
    options: dict[str, Any] = {"image_seq_len": (SIDE // PATCH // 2) ** 2}
    options["chat_template"] = _TEMPLATE.replace("IMAGE", "<image>")
    if kind == "SmolVLM":
        options["video_processor"] = t.SmolVLMVideoProcessor()
    processor = getattr(t, f"{kind}Processor")(pictures, words, **options)
    return getattr(t, f"{kind}ForConditionalGeneration")(config), processor


def smolvlm(words: Any) -> tuple[Any, Any]:
    """As IDEFICS 3."""
    return idefics3(words, "SmolVLM")


def idefics2(words: Any) -> tuple[Any, Any]:
    """A SigLIP tower with a resampler, and a Mistral."""
    config = t.Idefics2Config(
        text_config=_text(t.MistralConfig, len(words)),
        vision_config=_VISION,
        perceiver_config={
            "hidden_size": 32,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 2,
        },
        image_token_id=_ids(words)["<image>"],
        pad_token_id=0,
    )
    pictures = t.Idefics2ImageProcessor(do_image_splitting=False, size={"shortest_edge": SIDE, "longest_edge": SIDE})
    template = _TEMPLATE.replace("IMAGE", "<image>")
    return t.Idefics2ForConditionalGeneration(config), t.Idefics2Processor(
        pictures, words, image_seq_len=4, chat_template=template
    )


def llava_onevision(words: Any) -> tuple[Any, Any]:
    """A SigLIP tower over tiles, and a Qwen 2."""
    ids = _ids(words)
    config = t.LlavaOnevisionConfig(
        text_config=_text(t.Qwen2Config, len(words)),
        vision_config=t.SiglipVisionConfig(**_VISION),
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
        image_grid_pinpoints=[[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE]],
        vision_feature_layer=-1,
    )
    pictures = t.LlavaOnevisionImageProcessor(
        **_SQUARE, image_grid_pinpoints=[[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE]]
    )
    processor = t.LlavaOnevisionProcessor(
        image_processor=pictures,
        tokenizer=words,
        video_processor=t.LlavaOnevisionVideoProcessor(**_SQUARE),
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=_TEMPLATE.replace("IMAGE", "<image>"),
    )
    return t.LlavaOnevisionForConditionalGeneration(config), processor


def qwen2_vl(words: Any, kind: str = "Qwen2VL") -> tuple[Any, Any]:
    """A tower over as many patches as a picture has, and a Qwen with positions in three dimensions."""
    ids = _ids(words)
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}}
    vision: dict[str, Any] = {"depth": 2, "patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2}
    if kind == "Qwen2VL":
        vision |= {"embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2}
    elif kind == "Qwen2_5_VL":
        vision |= {"hidden_size": 32, "out_hidden_size": 32, "num_heads": 4, "intermediate_size": 48}
        vision |= {"window_size": 32, "fullatt_block_indexes": [1]}
    else:
        vision |= {"hidden_size": 32, "out_hidden_size": 32, "num_heads": 4, "intermediate_size": 48}
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": len(words),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "max_position_embeddings": 512,
        **rope,
    }
    config = getattr(t, f"{kind}Config")(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    pictures = t.Qwen2VLImageProcessor(patch_size=PATCH, merge_size=2, min_pixels=16 * 16, max_pixels=48 * 48)
    videos = (t.Qwen3VLVideoProcessor if kind == "Qwen3VL" else t.Qwen2VLVideoProcessor)(patch_size=PATCH, merge_size=2)
    template = _TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = getattr(t, f"{kind}Processor")(pictures, words, videos, chat_template=template)
    return getattr(t, f"{kind}ForConditionalGeneration")(config), processor


def qwen2_5_vl(words: Any) -> tuple[Any, Any]:
    """As Qwen 2 VL, with windows."""
    return qwen2_vl(words, "Qwen2_5_VL")


def qwen3_vl(words: Any) -> tuple[Any, Any]:
    """As Qwen 2 VL, with features of several depths."""
    return qwen2_vl(words, "Qwen3VL")


def florence2(words: Any) -> tuple[Any, Any]:
    """A DaViT tower, and a BART that encodes the prompt with it."""
    config = t.Florence2Config(
        text_config={
            "vocab_size": len(words),
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
            "is_encoder_decoder": True,
        },
        vision_config={
            "embed_dim": [8, 16],
            "depths": [1, 1],
            "num_heads": [2, 2],
            "num_groups": [2, 2],
            "patch_size": [7, 3],
            "patch_stride": [4, 2],
            "patch_padding": [3, 1],
            "patch_prenorm": [False, True],
            "window_size": 4,
            "projection_dim": 32,
            "max_position_embeddings": 16,
        },
        image_token_id=_ids(words)["<image>"],
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        is_encoder_decoder=True,
    )
    pictures = t.CLIPImageProcessor(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    pictures.image_seq_length = 17
    return t.Florence2ForConditionalGeneration(config), t.Florence2Processor(
        pictures, words, num_additional_image_tokens=1
    )


MAKERS = {
    "blip": blip,
    "blip-2": blip_2,
    "florence2": florence2,
    "idefics2": idefics2,
    "idefics3": idefics3,
    "llava": llava,
    "llava_onevision": llava_onevision,
    "paligemma": paligemma,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen2_vl": qwen2_vl,
    "qwen3_vl": qwen3_vl,
    "smolvlm": smolvlm,
}


def tiny_generator(kind: str, folder: Path) -> TinyGenerator:
    """Makes a model of one of `MAKERS` and saves it. Its words are random, but each picture's are others."""
    torch.manual_seed(3)
    network, processor = MAKERS[kind](tokenizer(named=kind == "florence2", around=kind == "blip"))
    network = network.eval()
    for weight in network.parameters():
        if weight.ndim >= 2:
            torch.nn.init.normal_(weight, std=0.3)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return TinyGenerator(kind, folder, network, processor)


def tiny_matcher(folder: Path) -> TinyGenerator:
    """A BLIP with an image-text matching head, made and saved likewise."""
    torch.manual_seed(3)
    words = tokenizer(around=True)
    network = t.BlipForImageTextRetrieval(_blip_config(words)).eval()
    for weight in network.parameters():
        if weight.ndim >= 2:
            torch.nn.init.normal_(weight, std=0.3)
    processor = t.BlipProcessor(t.BlipImageProcessor(**_SQUARE), words)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return TinyGenerator("blip-itm", folder, network, processor)
