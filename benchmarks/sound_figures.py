"""What a model that hears knows of how held-out scenes sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clipmill.core.settings import ModelSettings
from clipmill.encoders.model import ClipModel, load_model
from clipmill.encoders.protocol import SoundEncoder
from clipmill.scenes.captions import WORDINGS, captions
from clipmill.scenes.render import encode, render
from clipmill.scenes.scene import Scene, scene_of_row
from clipmill.scenes.sounds import HEARD_WORDINGS, SOUND_WORDINGS, render_sound, sound_captions
from clipmill.source.decode import decode_image
from clipmill.train.validate import ranks


def figures(folder: Path, rows: int, seed: int, side: int) -> dict[str, float]:
    """Retrieval of sounds by each kind of caption and back, of pictures by theirs, and between pictures and sounds."""
    model = load_model(ModelSettings(pretrained=str(folder)), "cpu")
    encoder = model.encoder
    assert isinstance(encoder, SoundEncoder)
    scenes: list[Scene] = []
    pictures, sounds = [], []
    for row in range(rows):
        scene, random = scene_of_row("held-out", seed, row)
        scenes.append(scene)
        pictures.append(model.preprocessing.prepare(decode_image(encode(render(scene, random, side)), 10**6)))
        sounds.append(encoder.sounds.prepare(render_sound(scene, random)))
    seen = np.concatenate([model.encode_images(torch.stack(some)) for some in _parts(pictures)])
    heard = np.concatenate([model.start_sounds(torch.stack(some))() for some in _parts(sounds)])
    found: dict[str, float] = {}
    kinds = {"of_sounds": range(HEARD_WORDINGS), "of_things": range(HEARD_WORDINGS, SOUND_WORDINGS)}
    for kind, wordings in kinds.items():
        texts = [sound_captions(scene)[at] for scene in scenes for at in wordings]
        found |= both_ways(model, "a", heard, texts, len(wordings), f"_{kind}")
    found |= both_ways(model, "i", seen, [text for scene in scenes for text in captions(scene)], WORDINGS, "")
    i2a, a2i = ranks(heard, seen, np.arange(rows))
    for name, positions in (("i2a", i2a), ("a2i", a2i)):
        found |= {f"{name}_r@{k}": float((positions < k).mean()) for k in (1, 10)}
    return found


def both_ways(
    model: ClipModel, item: str, vectors: NDArray[np.float32], texts: list[str], each: int, kind: str
) -> dict[str, float]:
    """Recall of items, float32 (n, d), by ``each`` texts of theirs, and of the texts by the items."""
    t2x, x2t = ranks(vectors, model.encode_texts(texts), np.repeat(np.arange(len(vectors)), each))
    found = {f"t2{item}{kind}_r@{k}": float((t2x < k).mean()) for k in (1, 10)}
    return found | {f"{item}2t{kind}_r@1": float((x2t < 1).mean())}


def _parts(items: list[torch.Tensor], size: int = 256) -> list[list[torch.Tensor]]:
    return [items[at : at + size] for at in range(0, len(items), size)]
