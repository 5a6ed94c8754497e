"""A model of sounds or videos is used as its library's own few lines use it."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings
from clipmill.encoders.adapters.loading import clips_of, preparation_of
from clipmill.encoders.model import ClipModel, load_model
from clipmill.encoders.protocol import Clips
from clipmill.encoders.shipping import ship, unship
from pictures import noisy
from tiny_clips import FRAMES, RATE, tiny_clap, tiny_x_clip
from tiny_models import LENGTH, TEXTS, TinyModel


def sounds() -> list[np.ndarray]:
    """As long as the model hears, much shorter, and hardly anything."""
    noise = np.random.default_rng(3).normal(0, 0.2, RATE).astype(np.float32)
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    return [noise, tone, tone[: RATE // 3] * noise[: RATE // 3], tone[:50]]


def video(seed: int) -> list[np.ndarray]:
    """Pictures (height, width, 3) of a video."""
    return [
        np.array(Image.open(io.BytesIO(noisy(70 + seed, 50))).convert("RGB").rotate(20 * at)) for at in range(FRAMES)
    ]


def loaded(tiny: TinyModel, **settings: object) -> ClipModel:
    return load_model(ModelSettings(model=str(tiny.folder), **settings), device="cpu")


def texts_of(tiny: TinyModel) -> np.ndarray:
    inputs = tiny.tokenizer(TEXTS, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        return torch.nn.functional.normalize(tiny.network.get_text_features(**inputs).pooler_output, dim=-1).numpy()


@pytest.mark.parametrize("fusion", [False, True])
def test_sounds_and_texts_are_those_of_clap(tmp_path: Path, fusion: bool) -> None:
    tiny = tiny_clap(tmp_path, fusion=fusion)
    model = loaded(tiny, batch_size=3)
    preparation = Clips.of(model.encoder).sounds
    assert preparation is not None
    assert (preparation.rate, preparation.seconds) == (RATE, 1.0)
    mine = model.start_sounds(torch.stack([preparation.prepare(sound) for sound in sounds()]))()
    theirs = []
    for sound in sounds():
        inputs = tiny.processor(sound, sampling_rate=RATE, return_tensors="pt")
        inputs["input_features"] = inputs["input_features"].to(torch.float32)
        with torch.no_grad():
            theirs.append(tiny.network.get_audio_features(**inputs).pooler_output.numpy())
    assert (mine * np.concatenate(theirs)).sum(axis=1).min() >= 0.9999
    assert np.linalg.norm(mine[0] - mine[1]) > 1e-3, "different sounds have different vectors"
    assert (model.encode_texts(TEXTS) * texts_of(tiny)).sum(axis=1).min() >= 0.9999
    assert model.identity.logit_scale == pytest.approx(float(tiny.network.logit_scale_a.exp()))


def test_videos_and_texts_are_those_of_x_clip(tmp_path: Path) -> None:
    tiny = tiny_x_clip(tmp_path)
    model = loaded(tiny)
    preparation = Clips.of(model.encoder).videos
    assert preparation is not None
    assert preparation.count == FRAMES
    videos = [video(seed) for seed in range(3)]
    prepared = torch.stack(
        [
            torch.stack([preparation.pictures.prepare(torch.from_numpy(one).permute(2, 0, 1)) for one in pictures])
            for pictures in videos
        ]
    )
    assert tuple(prepared.shape[1:]) == preparation.shape
    mine = model.start_videos(prepared)()
    theirs = []
    for pictures in videos:
        pixels = tiny.processor(images=pictures, return_tensors="pt")["pixel_values"][None]
        with torch.no_grad():
            features = tiny.network.get_video_features(pixel_values=pixels).pooler_output
        theirs.append(torch.nn.functional.normalize(features, dim=-1).numpy())
    assert (mine * np.concatenate(theirs)).sum(axis=1).min() >= 0.9999
    assert np.linalg.norm(mine[0] - mine[2]) > 1e-4, "different videos have different vectors"
    assert (model.encode_texts(TEXTS) * texts_of(tiny)).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("make", [tiny_clap, tiny_x_clip])
def test_how_clips_are_prepared_follows_from_the_identity_alone(tmp_path: Path, make: object) -> None:
    model = loaded(make(tmp_path))  # type: ignore[operator]
    assert clips_of(model.identity) == Clips.of(model.encoder)
    assert preparation_of(model.identity).shape == (1,)  # type: ignore[union-attr]


def test_sounds_are_the_same_after_a_model_travelled_and_near_in_bfloat16(tmp_path: Path) -> None:
    model = loaded(tiny_clap(tmp_path))
    prepared = torch.stack([model.encoder.sounds.prepare(sound) for sound in sounds()])  # type: ignore[attr-defined]
    expected = model.start_sounds(prepared)()
    np.testing.assert_array_equal(
        unship(ship(model), ModelSettings(precision="fp32")).start_sounds(prepared)(), expected
    )
    halved = unship(ship(model), ModelSettings(precision="bf16")).start_sounds(prepared)()
    assert (halved * expected).sum(axis=1).min() > 0.99


def test_more_than_is_heard_at_once_is_never_cut_by_chance(tmp_path: Path) -> None:
    preparation = loaded(tiny_clap(tmp_path)).encoder.sounds  # type: ignore[attr-defined]
    longer = np.concatenate([sounds()[0], sounds()[1]])
    assert bool((preparation.prepare(longer) == preparation.prepare(sounds()[0])).all())


def test_a_model_says_what_it_does_not_encode() -> None:
    model = load_model(ModelSettings(), device="cpu")
    with pytest.raises(UserError, match="encodes no sounds"):
        model.start_sounds(torch.zeros((1, 4), dtype=torch.uint8))
    with pytest.raises(UserError, match="encodes no videos"):
        model.start_videos(torch.zeros((1, 4), dtype=torch.uint8))
    assert Clips.of(model.encoder) == Clips(pictures=model.preprocessing)
