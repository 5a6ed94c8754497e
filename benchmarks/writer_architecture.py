"""Makes the folder that the built-in model which writes is trained from: its first weights, its tokenizer, its processor.

    python -m benchmarks.writer_architecture FOLDER

A FastVLM in small: the picture tower of the built-in CLIP, which knows what scenes hold, a projection, and a Llama with byte
pairs that were learned from what is said and asked about rendered scenes. Projection and Llama are drawn by lot from a seed.
A tower that begins with no knowledge does not learn to see through a language model in the time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from clipmill.encoders.names import BUILTIN_FOLDER
from clipmill.scenes.captions import captions
from clipmill.scenes.questions import questions
from clipmill.scenes.scene import scene_of_row
from clipmill.words.styles import STYLES, prompt_of

SIDE, CELL, WIDTH, LAYERS, VOCABULARY = 64, 16, 128, 3, 512
TOWER = {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128), "stem_width": 8, "output_stride": CELL}
"""The built-in CLIP's, in timm's words; the last stage keeps the cells of the one before, of which CLIP has a quarter."""
CHANNELS = 4 * 128
SCENES = 4000
_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<s><image>{% else %}{{ part['text'] }}\n{% endif %}{% endfor %}"
    "{% else %}{{ message['content'][0]['text'] }}</s>{% endif %}{% endfor %}"
)


def texts() -> Iterator[str]:
    """What is said and asked about scenes that models are trained on."""
    yield from (prompt_of(style, instructed=True) for style in STYLES for _ in range(50))
    for row in range(SCENES):
        scene, _ = scene_of_row("train", 0, row)
        yield from captions(scene)
        for asked in questions(scene):
            yield from (asked.question, asked.answer)


def tokenizer() -> Any:
    """Byte pairs, so that every text has tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<image>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts(), trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        model_max_length=512,
    )


def configuration(words: Any) -> Any:
    """Of the network. Weights begin as large as its width lets signals pass: smaller ones cost a third of the training."""
    heads, ends = 4, {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    text = transformers.LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=len(words),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=WIDTH**-0.5,
        **ends,
    )
    vision = transformers.TimmWrapperConfig(
        architecture="resnetaa50d", do_pooling=False, hidden_size=CHANNELS, model_args=TOWER
    )
    return transformers.FastVlmConfig(
        text_config=text,
        vision_config=vision,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // CELL) ** 2,
        tie_word_embeddings=True,
    )


def processor(words: Any) -> Any:
    """Of pictures and words."""
    return transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ),
        tokenizer=words,
        patch_size=CELL,
        vision_feature_select_strategy="full",
        image_token="<image>",
        chat_template=_TEMPLATE,
    )


def tower() -> dict[str, torch.Tensor]:
    """The weights of the built-in CLIP's picture tower, but for its attention pool, float32, by timm's names for them: a stem
    of three convolutions, each with its normalisation, and four stages."""
    stem = {f"{kind}{at}": f"conv1.{3 * (at - 1) + (kind == 'bn')}" for at in (1, 2, 3) for kind in ("conv", "bn")}
    stem |= {"conv3": "conv1.6", "bn3": "bn1"}
    found = {}
    for name, tensor in load_file(BUILTIN_FOLDER / "open_clip_model.safetensors").items():
        part, _, rest = name.removeprefix("visual.").partition(".")
        if not name.startswith("visual.") or part == "attnpool":
            continue
        rest = rest.replace("downsample.1.", "downsample.2.").replace("downsample.0.", "downsample.1.")
        found[f"{stem.get(part, part)}.{rest}"] = tensor.float() if tensor.is_floating_point() else tensor
    return found


def network(words: Any) -> Any:
    """The whole, which sees already and does not speak yet."""
    torch.manual_seed(0)
    made = transformers.AutoModelForImageTextToText.from_config(configuration(words), dtype=torch.float32)
    made.model.vision_tower.timm_model.load_state_dict(tower())
    return made


def write(folder: Path) -> None:
    """The folder, as `clipmill train --loss lm --pretrained` takes it."""
    words = tokenizer()
    processor(words).save_pretrained(folder)
    network(words).save_pretrained(folder)
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    transformers.GenerationConfig(**ends).save_pretrained(folder)


def main() -> None:
    """Writes the folder that is named."""
    write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
