"""The configuration of a CoCa that is small enough to be made, or trained, for a test."""

from typing import Any

COCA: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "attn_pooler_queries": 4,
            "output_tokens": True,
        },
        "text_cfg": {
            "context_length": 36,
            "vocab_size": 4514,
            "width": 32,
            "heads": 2,
            "layers": 1,
            "embed_cls": True,
            "output_tokens": True,
        },
        "multimodal_cfg": {"context_length": 36, "vocab_size": 4514, "width": 32, "heads": 2, "layers": 1},
        "custom_text": True,
    },
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
    "tokenizer_merges": 4000,
}
