"""Texts encoded without torch have the tokens and the vectors that open_clip gives them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clipmill.core.settings import ModelSettings
from clipmill.encoders.byte_pairs import BytePairs
from clipmill.encoders.light import light_texts
from clipmill.encoders.model import load_model

TEXTS = [
    "two green triangles",
    "A  small\tyellow STAR, and (a large) blue circle!",
    "l'été à Paris & Köln: 日本語 😀 naïve café — it's 1,234.5",
    "&lt;b&gt; &amp;amp; <start_of_text> here <end_of_text> there",
    "word " * 200,
    "antidisestablishmentarianism" * 3,
    "!!! ??? ---",
    "x",
]


@pytest.mark.parametrize(("merges", "length"), [(None, 77), (4000, 36)])
def test_tokens_are_those_of_open_clip(merges: int | None, length: int) -> None:
    if merges is None:
        theirs = open_clip.SimpleTokenizer(context_length=length)
    else:
        from clipmill.encoders.tokenizer import cut_tokenizer

        theirs = cut_tokenizer(merges, length)
    ours = BytePairs(merges, length)
    for text in TEXTS:
        expected = theirs([text])[0]
        end = int(expected.argmax())
        assert ours.tokens(text).tolist() == expected[: end + 1].tolist(), text


def test_vectors_of_the_builtin_model_are_the_same() -> None:
    model = load_model(ModelSettings(), device="cpu")
    light = light_texts(model.identity)
    assert light is not None
    assert np.abs(light.encode_texts(TEXTS) - model.encode_texts(TEXTS)).max() < 2e-6


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_vectors_of_a_folder_are_the_same(tmp_path: Path, quick_gelu: bool) -> None:
    torch.manual_seed(0)
    config = {
        "embed_dim": 48,
        "quick_gelu": quick_gelu,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    network = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        tmp_path / "open_clip_model.safetensors",
    )
    model = load_model(ModelSettings(pretrained=f"local-dir:{tmp_path}"), device="cpu")
    light = light_texts(model.identity)
    assert light is not None
    assert np.abs(light.encode_texts(TEXTS) - model.encode_texts(TEXTS)).max() < 2e-6
    changed = model.identity.model_copy(update={"weights_sha256": "0" * 64})
    assert light_texts(changed) is None
    config["text_cfg"]["pool_type"] = "last"
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    assert light_texts(model.identity) is None


def test_a_query_of_words_does_not_import_torch() -> None:
    document = load_model(ModelSettings(), device="cpu").identity.model_dump_json()
    lines = (
        "import sys",
        "from clipmill.core.manifests import ModelIdentity",
        "from clipmill.encoders.query import QueryEncoder",
        f"identity = ModelIdentity.model_validate_json({document!r})",
        "print(QueryEncoder(identity, None, None).encode_texts(['a star']).shape, 'torch' in sys.modules)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 192) False"
