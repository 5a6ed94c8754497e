"""What a model that writes knows of held-out scenes: answers by kind, and captions by what they name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipmill.core.settings import AskSettings
from clipmill.evaluation.texts.cider import Rarity
from clipmill.evaluation.texts.tokens import tokens
from clipmill.scenes.captions import captions as said_of
from clipmill.scenes.questions import one_question
from clipmill.scenes.render import encode, render
from clipmill.scenes.scene import Scene, scene_of_row
from clipmill.source.decode import decode_image
from clipmill.words.loading import find_generator
from clipmill.words.protocol import Decoding, Question
from clipmill.words.styles import prompt_of

if TYPE_CHECKING:
    from clipmill.words.loading import AnyGenerator

_BATCH = 64
_DECODING = Decoding(max_tokens=48)


def figures(folder: Path, rows: int, seed: int, side: int) -> dict[str, float]:
    """Shares of right answers by kind of question, each scene asked one; and of captions that name the main object, colour and
    shape, and all objects."""
    found = find_generator(AskSettings(input="", output="", model=str(folder), question=""))
    model = found.load("cpu", "fp32")
    scenes = [scene_of_row("held-out", seed, row)[0] for row in range(rows)]
    asked = [one_question(scene) for scene in scenes]
    answers = texts(model, seed, side, [one.question for one in asked])
    captions = texts(model, seed, side, [prompt_of("short", instructed=True)] * rows)
    right: dict[str, list[bool]] = defaultdict(list)
    for one, answer in zip(asked, answers, strict=True):
        right[one.kind].append(answer == one.answer)
    named = [named_in(text, scene) for text, scene in zip(captions, scenes, strict=True)]
    shares = {f"answers_{kind}": float(np.mean(of_kind)) for kind, of_kind in sorted(right.items())}
    return {
        **shares,
        "captions_main_object": float(np.mean([main for main, _ in named])),
        "captions_all_objects": float(np.mean([all_there for _, all_there in named])),
        "captions_cider_d": cider_d(captions, scenes),
    }


def cider_d(texts: Sequence[str], scenes: Sequence[Scene]) -> float:
    """CIDEr-D of a text about each scene against all that is said of it."""
    references = [[tokens(one) for one in said_of(scene)] for scene in scenes]
    rarity = Rarity.of(references)
    return float(np.mean([rarity.score(tokens(text), of) for text, of in zip(texts, references, strict=True)]))


def named_in(text: str, scene: Scene) -> tuple[bool, bool]:
    """Whether a caption names the main object by colour and shape, and whether it names all."""
    there = [thing.name in text for thing in scene.things]
    return there[0], all(there)


def texts(model: AnyGenerator, seed: int, side: int, prompts: Sequence[str]) -> list[str]:
    """What the model writes about held-out scenes, greedily."""
    found: list[str] = []
    for start in range(0, len(prompts), _BATCH):
        batch = []
        for row, prompt in enumerate(prompts[start : start + _BATCH], start):
            picture = decode_image(encode(render(*scene_of_row("held-out", seed, row), side)), 10**6)
            batch.append(model.prepare(Question(picture, prompt)))
        found += [said[0].text for said in model.generate(batch, _DECODING, 0)]
    return found
