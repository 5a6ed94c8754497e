"""Fine-tuning moves what it is asked to move, and saves what was found to be best."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, ModelSettings, TrainSettings
from clipmill.encoders.model import load_model
from clipmill.runs.stages import train_stage
from clipmill.train import examiner
from clipmill.train.inputs import check
from clipmill.train.parts import interpolated, part_of
from clipmill.train.towers import make_towers

SMALL = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 36, "vocab_size": 4514, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
    "tokenizer_merges": 4000,
}
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def given(scenes: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("architecture")
    (folder / "open_clip_config.json").write_text(json.dumps(SMALL))
    return {
        "input": scenes,
        "model": str(folder),
        "steps": 3,
        "batch_size": 12,
        "warmup_steps": 0,
        "learning_rate": 3e-3,
    }


@pytest.fixture
def train(given: dict[str, Any], tmp_path: Path) -> Train:
    def run(name: str, **options: Any) -> Path:
        values = {**given, **options}
        if "pretrained" in values:
            values.pop("model")
        settings = TrainSettings(output=str(tmp_path / name), **values)
        train_stage(settings, ClusterSettings(device="cpu"), Silent())
        return tmp_path / name

    return run


@pytest.fixture(scope="module")
def start(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights to start from."""
    output = tmp_path_factory.mktemp("start") / "model"
    train_stage(TrainSettings(output=str(output), **given), ClusterSettings(device="cpu"), Silent())
    return output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


def moved(before: Path, after: Path) -> set[str]:
    """Names of the weights that differ."""
    one, other = weights(before), weights(after)
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return found


@pytest.mark.parametrize("frozen", ["image", "text"])
def test_a_frozen_tower_stays_as_it_is(train: Train, start: Path, frozen: str) -> None:
    parts = {part_of(name) for name in moved(start, train("tuned", pretrained=str(start), freeze=frozen))}
    assert parts == {"image", "text", "temperature"} - {frozen}


def test_parts_with_a_rate_of_nothing_stay(train: Train, start: Path) -> None:
    tuned = train("tuned", pretrained=str(start), image_rate=0.0, temperature_rate=0.0)
    assert {part_of(name) for name in moved(start, tuned)} == {"text"}


def test_low_rank_updates_change_matrices_by_their_rank_and_nothing_else(train: Train, start: Path) -> None:
    tuned = train("tuned", pretrained=str(start), lora=2)
    before, after = weights(start), weights(tuned)
    changed = moved(start, tuned) - {"logit_scale"}
    assert any(name.startswith("visual.") for name in changed)
    for name in changed:
        assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) <= 2 * (3 if "in_proj" in name else 1)
    assert record(tuned)["trained_parameters"] < 0.2 * record(tuned)["parameters"]
    assert record(tuned)["parameters"] == record(start)["parameters"]
    assert load_model(ModelSettings(pretrained=str(tuned)), "cpu").identity.dimension == 16


def test_low_rank_updates_leave_a_frozen_tower(train: Train, start: Path) -> None:
    tuned = train("tuned", pretrained=str(start), lora=2, freeze="image")
    assert {part_of(name) for name in moved(start, tuned)} == {"text", "temperature"}


def test_the_averaged_weights_are_saved(train: Train, start: Path) -> None:
    """Against the average of what runs of one and two steps leave."""
    rates = {"pretrained": str(start), "weight_decay": 0.0, "steps": 2, "warmup_steps": 2}
    last = weights(train("last", **rates))
    averaged = weights(train("averaged", average=0.5, **rates))
    first = weights(start)
    name = "text_projection"
    between = (averaged[name] - first[name]).norm() / (last[name] - first[name]).norm()
    assert 0.3 < float(between) < 0.9


def test_mixtures_are_measured_and_the_best_is_saved(train: Train, start: Path, held_out: str) -> None:
    options = {"pretrained": str(start), "validation": held_out, "learning_rate": 0.05}
    whole = weights(train("whole", **options))
    tuned = train("mixed", interpolate="0:1:.25", **options)
    measured = [entry for entry in record(tuned)["validations"] if "share" in entry]
    assert [entry["share"] for entry in measured] == [0, 0.25, 0.5, 0.75, 1]
    rates = [entry["t2i_r@1"] + entry["i2t_r@1"] for entry in measured]
    share = record(tuned)["share"]
    assert share == measured[rates.index(max(rates))]["share"]
    expected = interpolated(weights(start), whole, share)
    for name, tensor in weights(tuned).items():
        torch.testing.assert_close(tensor, expected[name])
    last = record(tuned)["validations"][-1]
    assert (last["t2i_r@1"], last["i2t_r@1"]) == pytest.approx(
        tuple(measured[rates.index(max(rates))][key] for key in ("t2i_r@1", "i2t_r@1"))
    )


def test_a_run_ends_where_it_gets_no_better_and_keeps_the_best(
    train: Train, start: Path, held_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner, "is_better", lambda now, before: False)
    options = {"pretrained": str(start), "validation": held_out, "validate_every": 2}
    tuned = train("stopped", steps=20, stop_after=2, **options)
    assert record(tuned)["steps_done"] == 6
    assert [entry["step"] for entry in record(tuned)["validations"]] == [2, 4, 6, 6]
    last, first = record(tuned)["validations"][-1], record(tuned)["validations"][0]
    assert {**last, "step": 2} == first


def test_the_sigmoid_loss_trains_a_bias_that_is_saved(train: Train) -> None:
    tuned = train("siglip", loss="siglip")
    model = load_model(ModelSettings(pretrained=str(tuned)), "cpu")
    assert model.identity.logit_bias == pytest.approx(float(weights(tuned)["logit_bias"]))
    assert model.identity.logit_bias != -10.0


def test_fine_tuning_with_a_loss_of_its_own_adds_the_bias(train: Train, start: Path) -> None:
    assert moved_to(train("siglip", pretrained=str(start), loss="siglip")) == {"logit_bias"}


def moved_to(folder: Path) -> set[str]:
    """Weights that the model has and one of the plain architecture has not."""
    return weights(folder).keys() - make_learner_names(folder)


def make_learner_names(folder: Path) -> set[str]:
    config = json.loads((folder / "open_clip_config.json").read_text())
    assert config["model_cfg"].pop("init_logit_bias") == -10.0
    plain = folder.parent / "plain"
    plain.mkdir()
    (plain / "open_clip_config.json").write_text(json.dumps(config))
    learner = make_towers(TrainSettings(input="x", output="y", model=str(plain)), torch.device("cpu"))
    return set(learner.whole())


def test_activations_may_be_computed_again(train: Train) -> None:
    plain, again = weights(train("plain")), weights(train("again", checkpoint_activations=True))
    for name, tensor in plain.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=1e-5)


def test_how_the_network_passes_follows_from_the_settings(given: dict[str, Any]) -> None:
    """Activations are kept or not, and passes are in float32 or bf16; vectors are float32 all the same."""
    pixels = torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = {}
    for precision, again in (("auto", False), ("bf16", True)):
        options = {**given, "output": "x", "precision": precision, "checkpoint_activations": again}
        learner = make_towers(TrainSettings(**options), torch.device("cpu"))
        assert learner.network.visual.transformer.grad_checkpointing is again
        found[precision] = learner.encode_pixels(pixels).detach()
        assert found[precision].dtype == torch.float32
    difference = float((found["auto"] - found["bf16"]).abs().max())
    assert 1e-5 < difference < 0.05


def test_micro_batches_end_with_nearly_the_same_weights(train: Train) -> None:
    plain, parts = weights(train("plain", steps=1)), weights(train("parts", steps=1, micro_batch=5))
    for name, tensor in plain.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"interpolate": "0:1:.5"}, "--interpolate needs held-out images"),
        ({"stop_after": 2}, "--stop-after needs held-out images"),
        ({"lora": 4}, "--lora starts from weights"),
        ({"compare_on": ("elsewhere",)}, "--compare-on is told in a report"),
        ({"label_column": "lable"}, "--label-column lable: .* has no such column; there are id, image"),
        (
            {"model": "transformers:google/siglip2"},
            "is a model of transformers, and clipmill train trains those of open_clip",
        ),
        ({"augment": "crop,blur"}, "--augment blur: choose from crop, flip, colour"),
    ],
)
def test_what_cannot_go_together_is_told_before_anything_starts(
    train: Train, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        train("never", **options)


def test_class_names_are_learned_and_their_accuracy_is_told(train: Train, held_out: str) -> None:
    tuned = train("named", label_column="size", templates="plain", validation=held_out, steps=40, batch_size=24)
    last = record(tuned)["validations"][-1]
    assert last["acc1"] > 0.4
    assert last["images"] == 24


def test_labels_and_captions_cannot_both_be_the_texts(train: Train) -> None:
    with pytest.raises(UserError, match="--label-column and --caption-column"):
        train("never", label_column="label", caption_column="caption")


def test_a_report_of_a_model_that_encoders_cannot_load_is_refused(given: dict[str, Any]) -> None:
    settings = TrainSettings(**given, output="s3://bucket/model", report="report")
    with pytest.raises(UserError, match="--report embeds with the model, which has to be local"):
        check(settings)
