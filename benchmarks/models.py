"""Makes a built-in model from its recipe, measures it, and says where it differs from what the recipe says it reaches.

    python -m benchmarks.models [--recipe pipeline/clipmill/encoders/builtin/recipe.yaml] [--work out/models] [--install]
    python -m benchmarks.models --recipe pipeline/clipmill/encoders/builtin_sound/recipe.yaml --work out/sound [--install]
    python -m benchmarks.models --recipe pipeline/clipmill/words/builtin/recipe.yaml --work out/writer [--install]

A recipe names scenes to render, trainings in their order, and figures on scenes that no training saw. It ends with 1 where a
figure is off by more than .01. `--install` puts the model, and the figures measured, in the place of what is there. The second
recipe is that of the model that hears, the third that of the model that writes, whose first training begins with the folder
that benchmarks.writer_architecture makes.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from benchmarks.sound_figures import figures as sound_figures
from benchmarks.writer_architecture import write as write_architecture
from benchmarks.writer_figures import figures as writer_figures
from clipmill.core.settings import ModelSettings
from clipmill.encoders.model import ClipModel, load_model
from clipmill.encoders.names import BUILTIN_FOLDER
from clipmill.scenes.captions import WORDINGS, caption, captions, exchanged, mirrored
from clipmill.scenes.render import encode, render
from clipmill.scenes.scene import Scene, scene_of_row
from clipmill.scenes.vocabulary import NAMES
from clipmill.source.decode import decode_image
from clipmill.train.validate import ranks

TOLERANCE = 0.01
_PLACES = ("input", "validation", "pretrained", "model")
"""Options that may name a sample or a training of the recipe, or a folder beside it."""
MODEL_FILES = ("open_clip_config.json", "open_clip_model.safetensors")
WRITER_FILES = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
START = "start"
"""What the recipe of a model that writes calls the folder that it begins with."""


def make(recipe: Mapping[str, Any], work: Path, beside: Path) -> Path:
    """Renders and trains what the recipe says; what is there already is kept. Returns the folder of the last training."""
    for name, options in recipe["samples"].items():
        clipmill("sample", work / name, options, work, beside)
    last = work
    if is_writer(recipe) and not (work / START).is_dir():
        write_architecture(work / START)
    for name, options in recipe["trainings"].items():
        last = work / name
        clipmill("train", last, options, work, beside)
    return last


def is_writer(recipe: Mapping[str, Any]) -> bool:
    """Whether the model is one that writes."""
    return any(options.get("loss") == "lm" for options in recipe["trainings"].values())


def hears(recipe: Mapping[str, Any]) -> bool:
    """Whether the model is one that hears."""
    return any("audio_column" in options for options in recipe["trainings"].values())


def clipmill(command: str, output: Path, options: Mapping[str, Any], work: Path, beside: Path) -> None:
    """One command; options that name a sample, a training or a folder beside the recipe become places."""
    line = [sys.executable, "-m", "clipmill_jobs", command, "--output", str(output)]
    for name, value in options.items():
        places = (work, beside) if name in _PLACES else ()
        known = [place / str(value) for place in places if (place / str(value)).exists()]
        line += [f"--{name.replace('_', '-')}", str(known[0] if known else value)]
    print(" ".join(line[2:]), flush=True)
    done = subprocess.run(line, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if done.returncode:
        raise SystemExit(f"clipmill {command} ended with {done.returncode}")


def figures(folder: Path, rows: int, seed: int, side: int) -> dict[str, float]:
    """What a model knows of held-out scenes: retrieval, the name of the main object, and captions false in one respect."""
    model = load_model(ModelSettings(pretrained=str(folder)), "cpu")
    scenes = [scene_of_row("held-out", seed, row)[0] for row in range(rows)]
    images = np.concatenate([vectors(model, seed, range(at, min(at + 256, rows)), side) for at in range(0, rows, 256)])
    texts = [text for scene in scenes for text in captions(scene)]
    t2i, i2t = ranks(images, model.encode_texts(texts), np.repeat(np.arange(rows), WORDINGS))
    found = {f"t2i_r@{k}": float((t2i < k).mean()) for k in (1, 10)} | {"i2t_r@1": float((i2t < 1).mean())}
    prompts = model.encode_texts([f"a photo of a {name}" for name in NAMES])
    named = (images @ prompts.T).argmax(axis=1)
    found["acc1"] = float(np.mean(named == [NAMES.index(scene.main.name) for scene in scenes]))
    for field in ("colour", "shape", "size"):
        found[f"exchanged_{field}s"] = told(
            model, images, scenes, lambda scene, field=field: exchanged(scene, 0, field)
        )
    for sides in (("left", "right"), ("above", "below")):
        across = [scene if any(side in sides for side, _ in scene.others) else None for scene in scenes]
        found[f"exchanged_{sides[0]}_{sides[1]}"] = told(model, images, across, mirrored)
    return found


def vectors(model: ClipModel, seed: int, rows: range, side: int) -> NDArray[np.float32]:
    """Unit vectors of held-out scenes, float32 (rows, d)."""
    pictures = (encode(render(*scene_of_row("held-out", seed, row), side)) for row in rows)
    return model.encode_images(
        torch.stack([model.preprocessing.prepare(decode_image(data, 10**6)) for data in pictures])
    )


def told(
    model: ClipModel, images: NDArray[np.float32], scenes: list[Scene | None] | list[Scene], altered: Any
) -> float:
    """Share of scenes with two objects whose caption scores higher than that of the altered scene, over all wordings."""
    pairs = [
        (row, text, false)
        for row, scene in enumerate(scenes)
        if scene is not None and len(scene.others) == 1
        for text, false in ((caption(scene, at), caption(altered(scene), at)) for at in range(WORDINGS))
        if text != false
    ]
    pictures = images[[row for row, _, _ in pairs]]
    true, wrong = (model.encode_texts([pair[at] for pair in pairs]) for at in (1, 2))
    return float(((true * pictures).sum(axis=1) > (wrong * pictures).sum(axis=1)).mean())


def main() -> int:
    """Makes, measures, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=BUILTIN_FOLDER / "recipe.yaml")
    parser.add_argument("--work", type=Path, default=Path("out/models"))
    parser.add_argument("--measure", type=Path, help="Only measure the model in this folder.")
    parser.add_argument("--install", action="store_true")
    options = parser.parse_args()
    recipe = yaml.safe_load(options.recipe.read_text())
    options.work.mkdir(parents=True, exist_ok=True)
    folder = options.measure or make(recipe, options.work, options.recipe.parent)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    measure = writer_figures if is_writer(recipe) else sound_figures if hears(recipe) else figures
    found = measure(folder, **recipe["measured_on"])
    off = []
    for name, value in found.items():
        said = recipe["figures"].get(name)
        off += [name] if said is None or abs(value - said) > TOLERANCE else []
        print(f"{name:24} {value:.4f}  the recipe says {'nothing' if said is None else f'{said:.4f}'}")
    print(f"CPU minutes: {(used.ru_utime + used.ru_stime) / 60:.1f}")
    if options.install:
        for name in WRITER_FILES if is_writer(recipe) else MODEL_FILES:
            shutil.copyfile(folder / name, options.recipe.parent / name)
        recipe["figures"] = {name: round(value, 4) for name, value in found.items()}
        options.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
        return 0
    print("every figure is as the recipe says" if not off else f"off by more than {TOLERANCE}: {', '.join(off)}")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
