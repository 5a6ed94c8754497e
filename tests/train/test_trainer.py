"""A run learns, stops and goes on as if it had not stopped, and leaves a model that open_clip loads."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file

from clipmill import storage
from clipmill.core.errors import OutputDiffers, RunFailed
from clipmill.core.settings import ModelSettings, TrainSettings
from clipmill.encoders.model import load_model
from clipmill.scenes.render import encode, render
from clipmill.scenes.scene import scene_of_row
from clipmill.stage.stage import Made
from clipmill.stage.status import work_towards
from clipmill.train import trainer
from clipmill.train.checkpoint import ModelRecord
from clipmill.train.run import train as train_stage
from clipmill.train.run import train_here
from clipmill.train.trainer import Step, Told
from clipmill_jobs.train import command


def settings(scenes: str, output: Path, **options: Any) -> TrainSettings:
    values = {"steps": 6, "batch_size": 16, "warmup_steps": 2, "learning_rate": 2e-3, **options}
    return TrainSettings(input=scenes, output=str(output), **values)


def train(chosen: TrainSettings, step: Callable[[Step], Any] = print) -> Made[ModelRecord]:
    """Trains in this process on the CPU."""
    told = Told(step, lambda step, found: None)
    return train_stage(chosen, lambda work: train_here(chosen, work, told, "cpu"))


def learn(chosen: TrainSettings) -> list[Step]:
    steps: list[Step] = []
    train(chosen, steps.append)
    return steps


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


@pytest.fixture(scope="module")
def finished(scenes: str, held_out: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Step]]:
    """A run of 24 steps over 96 scenes, and what it reported."""
    output = tmp_path_factory.mktemp("finished") / "model"
    chosen = settings(scenes, output, steps=24, batch_size=24, validation=held_out, validate_every=12)
    return output, learn(chosen)


def test_the_loss_falls(finished: tuple[Path, list[Step]]) -> None:
    losses = [step.loss for step in finished[1]]
    assert len(losses) == 24
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_the_record_tells_what_was_done(finished: tuple[Path, list[Step]]) -> None:
    output, steps = finished
    record = json.loads((output / "training.json").read_text())
    assert record["configuration"]["steps"] == 24
    assert record["rows"] == 96
    last = record["losses"][-1]
    assert (last["step"], last["loss"]) == (24, round(steps[-1].loss, 4))
    assert last["gradient_norm"] == round(steps[-1].gradient_norm, 4)
    assert last["logit_scale"] == pytest.approx(record["logit_scale"], abs=0.01)
    assert [entry["step"] for entry in record["validations"]] == [12, 24]
    assert {"t2i_r@1", "i2t_r@1", "negative_accuracy"} <= set(record["validations"][-1])
    assert record["logit_scale"] <= 100.0001
    assert sorted(path.name for path in output.iterdir()) == [
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "training.json",
    ]
    assert [path.name for path in output.parent.iterdir()] == ["model"]


def test_open_clip_loads_the_result_and_encodes_as_we_do(finished: tuple[Path, list[Step]]) -> None:
    output, _ = finished
    theirs, transform = open_clip.create_model_from_pretrained(f"local-dir:{output}")
    theirs.eval()
    ours = load_model(ModelSettings(pretrained=str(output)), "cpu")
    scene, random = scene_of_row("held-out", 5, 5)
    image = Image.open(io.BytesIO(encode(render(scene, random, 64))))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    with torch.inference_mode():
        expected = theirs.encode_image(transform(image)[None], normalize=True)[0].numpy()
    assert float(ours.encode_images(ours.preprocessing.prepare(pixels)[None])[0] @ expected) > 0.9999
    again = load_model(ModelSettings(pretrained=str(output / "open_clip_model.safetensors")), "cpu")
    assert again.identity.weights_sha256 == ours.identity.weights_sha256


class Stopped(Exception):
    pass


def test_a_stopped_run_ends_with_the_weights_it_would_have_had(
    scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    learn(settings(scenes, tmp_path / "straight", steps=6))
    halved = settings(scenes, tmp_path / "halved", steps=6)

    def stop(step: Step) -> None:
        if step.step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train(halved, stop)
    assert not (tmp_path / "halved").exists()
    rest = learn(halved)
    assert [step.step for step in rest] == [3, 4, 5, 6]
    straight, continued = weights_of(tmp_path / "straight"), weights_of(tmp_path / "halved")
    assert straight.keys() == continued.keys()
    for name, tensor in straight.items():
        torch.testing.assert_close(continued[name], tensor, rtol=0, atol=1e-6)


def test_the_same_settings_give_the_same_weights_and_another_seed_does_not(scenes: str, tmp_path: Path) -> None:
    outputs = {"a": 1, "b": 1, "c": 2}
    for name, seed in outputs.items():
        learn(settings(scenes, tmp_path / name, steps=3, seed=seed))
    a, b, c = (weights_of(tmp_path / name) for name in outputs)
    assert all(torch.allclose(a[name], b[name], rtol=0, atol=1e-6) for name in a)
    assert not torch.allclose(a["text_projection"], c["text_projection"])


def test_training_goes_on_from_given_weights(finished: tuple[Path, list[Step]], scenes: str, tmp_path: Path) -> None:
    """With a rate of nearly nothing, the weights stay those that were given."""
    output, _ = finished
    learn(settings(scenes, tmp_path / "tuned", steps=2, pretrained=str(output), learning_rate=1e-12, weight_decay=0))
    before, after = weights_of(output), weights_of(tmp_path / "tuned")
    torch.testing.assert_close(after["text_projection"], before["text_projection"])
    config = "open_clip_config.json"
    assert json.loads((output / config).read_text()) == json.loads((tmp_path / "tuned" / config).read_text())


def test_a_model_of_open_clip_is_trained_by_name(scenes: str, tmp_path: Path) -> None:
    learn(settings(scenes, tmp_path / "vit", model="ViT-S-32-alt", steps=1, batch_size=2))
    config = json.loads((tmp_path / "vit" / "open_clip_config.json").read_text())
    assert config["model_cfg"] == open_clip.get_model_config("ViT-S-32-alt")
    assert "tokenizer_merges" not in config
    assert load_model(ModelSettings(pretrained=str(tmp_path / "vit")), "cpu").identity.dimension == 256


def test_half_precision_halves_the_file(finished: tuple[Path, list[Step]], scenes: str, tmp_path: Path) -> None:
    learn(settings(scenes, tmp_path / "half", steps=1, weights_precision="fp16"))
    full, half = (
        (folder / "open_clip_model.safetensors").stat().st_size for folder in (finished[0], tmp_path / "half")
    )
    assert 0.45 < half / full < 0.55


def test_a_loss_that_is_no_number_ends_the_run(scenes: str, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="learning-rate"):
        learn(settings(scenes, tmp_path / "model", steps=20, learning_rate=1e30, warmup_steps=0))


def test_other_settings_do_not_touch_what_is_there(
    scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    output = tmp_path / "model"
    learn(settings(scenes, output, steps=1))
    before = (output / "open_clip_model.safetensors").read_bytes()
    assert train(settings(scenes, output, steps=1)).already
    with pytest.raises(OutputDiffers, match="steps: was 1, now 2"):
        train(settings(scenes, output, steps=2))

    def stop(step: Step) -> None:
        if step.step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(settings(scenes, output, steps=2, overwrite=True), stop)
    assert (output / "open_clip_model.safetensors").read_bytes() == before
    other = settings(scenes, output, steps=3, seed=4)
    with pytest.raises(OutputDiffers, match="is already complete, but with a difference"):
        train(other)
    learn(other.model_copy(update={"overwrite": True}))
    assert json.loads((output / "training.json").read_text())["configuration"]["steps"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_unfinished_training_of_other_settings_is_refused_and_told(
    scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    output = tmp_path / "model"

    def stop(step: Step) -> None:
        if step.step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(settings(scenes, output, steps=3), stop)
    (found,) = work_towards(storage.resolve(output))
    assert (found.stage, found.running, found.doing) == ("train", False, "training, from a checkpoint: 1 done")
    with pytest.raises(OutputDiffers, match=r"an unfinished run .* had other settings \(steps: 3, now 4\)"):
        train(settings(scenes, output, steps=4))
    assert [step.step for step in learn(settings(scenes, output, steps=3))] == [2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def test_the_command_trains_shows_progress_and_is_content_when_done(scenes: str, held_out: str, tmp_path: Path) -> None:
    arguments = ["--input", scenes, "--validation", held_out, "--output", str(tmp_path / "model")]
    arguments += ["--steps", "2", "--batch-size", "8", "--json"]
    first = run(*arguments)
    assert first.exit_code == 0
    assert "step 2/2  loss" in first.stderr
    assert "validation: images 24" in first.stderr
    assert json.loads(first.stdout)["configuration"]["batch_size"] == 8
    again = run(*arguments)
    assert again.exit_code == 0
    assert "already complete" in again.stderr


def test_mistakes_are_one_sentence(scenes: str, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "model")]
    for arguments, words in (
        (["--input", str(tmp_path / "nowhere")], "nowhere"),
        (["--input", scenes, "--model", "ViT-B-33"], "ViT-B-33"),
        (["--input", scenes, "--batch-size", "1"], "--batch-size"),
        (["--input", scenes, "--pretrained", str(tmp_path / "nowhere.pt")], "nowhere.pt"),
    ):
        result = run(*arguments, *output)
        assert result.exit_code == 2, result.stderr
        assert words in result.stderr
        assert "Traceback" not in result.stderr


def test_the_record_names_places_as_the_user_did(scenes: str, tmp_path: Path) -> None:
    """Workers may be given others for the same; the same command again is then still the same."""
    chosen = settings(scenes, tmp_path / "model", steps=1)
    elsewhere = chosen.model_copy(update={"input": f"{scenes}/../{Path(scenes).name}"})
    told = Told(print, lambda step, found: None)
    made = train_stage(chosen, lambda work: train_here(elsewhere, work, told, "cpu"))
    assert made.manifest.configuration["input"] == scenes
    assert train(chosen).already
