"""A model of sentence-transformers is used as its library's own few lines use it."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings
from clipmill.encoders.adapters.loading import clips_of
from clipmill.encoders.model import load_model
from clipmill.encoders.protocol import Clips, SoundEncoder
from clipmill.encoders.shipping import ship, unship
from clipmill.source.decode import decode_image
from pictures import noisy
from tiny_clips import RATE, tiny_clap
from tiny_models import LENGTH, TEXTS, VOCABULARY, byte_pairs, tiny_model

PROMPTS = {"query": "query: ", "document": "passage: "}


@pytest.fixture(scope="module")
def texts_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT, mean pooling, a dense layer of 24, prompts."""
    folder = tmp_path_factory.mktemp("texts")
    config = transformers.BertConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=VOCABULARY,
        max_position_embeddings=LENGTH,
        pad_token_id=0,
    )
    transformers.BertModel(config).save_pretrained(folder / "bert")
    byte_pairs().save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert")), Pooling(32, pooling_mode="mean"), Dense(32, 24), Normalize()]
    SentenceTransformer(modules=modules, prompts=PROMPTS, device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP, as sentence-transformers makes a model of it."""
    folder = tmp_path_factory.mktemp("both")
    tiny_model("clip", folder / "clip")
    SentenceTransformer(str(folder / "clip"), device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="module", params=[False, True], ids=["cut", "fused"])
def hearing(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """CLAP, as sentence-transformers makes a model of it, and a dense layer."""
    folder = tmp_path_factory.mktemp("hearing")
    tiny_clap(folder / "clap", fusion=request.param)
    modules = [*SentenceTransformer(str(folder / "clap"), device="cpu"), Dense(16, 12), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"


def own(folder: Path) -> Any:
    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize("name", ["texts_alone", "both"])
def test_texts_are_those_of_encode_document_and_queries_of_encode_query(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    model = load_model(ModelSettings(model=str(folder), batch_size=2), device="cpu")
    for mine, theirs in (
        (model.encode_texts(TEXTS), own(folder).encode_document(TEXTS, normalize_embeddings=True)),
        (model.encode_queries(TEXTS), own(folder).encode_query(TEXTS, normalize_embeddings=True)),
    ):
        assert (mine * theirs).sum(axis=1).min() >= 0.9999


def test_a_prompt_makes_a_difference(texts_alone: Path) -> None:
    model = load_model(ModelSettings(model=str(texts_alone)), device="cpu")
    assert np.abs(model.encode_texts(["a cat"]) - model.encode_queries(["a cat"])).max() > 1e-3
    assert model.identity.preprocessing["prompts"] == PROMPTS
    assert model.encoder.modalities == ("text",)


def test_pictures_are_those_of_encode(both: Path) -> None:
    model = load_model(ModelSettings(model=str(both)), device="cpu")
    files = [noisy(90, 60), noisy(40, 120), noisy(64, 64)]
    mine = [model.encode_images(model.preprocessing.prepare(decode_image(file, 10**9))[None])[0] for file in files]
    pictures: list[Any] = [Image.open(stream) for stream in map(io.BytesIO, files)]
    theirs = own(both).encode(pictures, normalize_embeddings=True)
    assert (np.stack(mine) * theirs).sum(axis=1).min() >= 0.9999


def test_sounds_are_those_of_encode(hearing: Path) -> None:
    model = load_model(ModelSettings(model=str(hearing), batch_size=2), device="cpu")
    assert model.encoder.modalities == ("text", "audio")
    preparation = Clips.of(model.encoder).sounds
    assert preparation is not None
    assert clips_of(model.identity) == Clips(sounds=preparation)
    random = np.random.default_rng(3)
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    sounds = [tone, random.normal(0, 0.2, RATE).astype(np.float32), tone[: RATE // 3], tone[:50]]
    mine = model.start_sounds(torch.stack([preparation.prepare(sound) for sound in sounds]))()
    theirs = [own(hearing).encode([{"array": sound, "sampling_rate": RATE}])[0] for sound in sounds]
    np.testing.assert_allclose(mine, np.stack(theirs), atol=1e-5)
    assert np.abs(mine[0] - mine[1]).max() > 1e-3  # sounds are told apart
    texts = own(hearing).encode_document(TEXTS, normalize_embeddings=True)
    assert (model.encode_texts(TEXTS) * texts).sum(axis=1).min() >= 0.9999


def test_a_model_that_hears_travels(hearing: Path) -> None:
    model = load_model(ModelSettings(model=str(hearing)), device="cpu")
    arrived = unship(ship(model), ModelSettings(precision="fp32"))
    encoder = arrived.encoder
    assert isinstance(encoder, SoundEncoder)
    sound = encoder.sounds.prepare(np.random.default_rng(1).normal(0, 0.2, RATE).astype(np.float32))[None]
    np.testing.assert_array_equal(arrived.start_sounds(sound)(), model.start_sounds(sound)())


@pytest.mark.parametrize("name", ["texts_alone", "both"])
def test_models_that_do_not_hear_are_given_no_sounds(name: str, request: pytest.FixtureRequest) -> None:
    model = load_model(ModelSettings(model=str(request.getfixturevalue(name))), device="cpu")
    assert not isinstance(model.encoder, SoundEncoder)
    assert "audio" not in model.identity.preprocessing


@pytest.mark.parametrize("name", ["texts_alone", "both"])
def test_a_model_that_travelled_is_the_same(name: str, request: pytest.FixtureRequest) -> None:
    model = load_model(ModelSettings(model=str(request.getfixturevalue(name))), device="cpu")
    arrived = unship(ship(model), ModelSettings(precision="fp32"))
    np.testing.assert_array_equal(arrived.encode_texts(TEXTS), model.encode_texts(TEXTS))


def test_code_is_not_executed_unless_it_is_trusted(texts_alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(texts_alone, folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules[-1]["type"] = "subprocess.Popen"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match="--trust-remote-code"):
        load_model(ModelSettings(model=str(folder)))


def test_weights_that_are_a_pickle_are_refused(texts_alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(texts_alone, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        load_model(ModelSettings(model=str(folder)))
