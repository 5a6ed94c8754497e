"""A model that would encode wrongly is refused with the name of the right one; a right one is found."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings
from clipmill.encoders.model import load_model, weights_sha256
from clipmill.encoders.names import BUILTIN_FOLDER, CONFIG_FILE
from clipmill.encoders.source import find_model

SMALL = "ViT-S-32-alt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    torch.manual_seed(0)
    torch.save(open_clip.create_model(SMALL).state_dict(), path)
    return path


def refused(**settings: str) -> str:
    with pytest.raises(UserError) as caught:
        load_model(ModelSettings(**settings), device="cpu")
    return str(caught.value)


def test_unknown_model_names_close_ones() -> None:
    assert "ViT-B-32" in refused(model="ViT-B-33", pretrained="openai")


def test_model_without_weights_lists_its_tags() -> None:
    assert "laion2b_s34b_b79k" in refused(model="ViT-B-32")


def test_unknown_tag_lists_the_known_ones() -> None:
    message = refused(model="ViT-B-32", pretrained="laion9b")
    assert "laion9b" in message
    assert "laion2b_s34b_b79k" in message


@pytest.mark.parametrize(
    ("model", "tag", "right"),
    [("ViT-B-32", "openai", "ViT-B-32-quickgelu"), ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", None)],
)
def test_weights_trained_with_another_activation_name_the_right_model(model: str, tag: str, right: str | None) -> None:
    message = refused(model=model, pretrained=tag)
    assert (right or tag) in message


def test_every_mismatch_of_activation_in_open_clip_is_refused_where_a_right_model_exists() -> None:
    from open_clip.pretrained import get_pretrained_cfg

    wrong = []
    for name, tag in open_clip.list_pretrained():
        trained = bool(get_pretrained_cfg(name, tag).get("quick_gelu"))
        if (
            trained
            and not open_clip.get_model_config(name).get("quick_gelu")
            and f"{name}-quickgelu" in open_clip.list_models()
        ):
            wrong.append((name, tag))
    assert len(wrong) >= 20
    for name, tag in wrong:
        with pytest.raises(UserError, match="quickgelu"):
            find_model(ModelSettings(model=name, pretrained=tag))


def test_checkpoint_of_another_architecture_is_refused(checkpoint: Path) -> None:
    message = refused(model="ViT-S-16-alt", pretrained=str(checkpoint))
    assert "ViT-S-16-alt" in message
    assert str(checkpoint) in message


def test_checkpoint_that_holds_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (print, ("executed",))

    path = tmp_path / "evil.pt"
    torch.save({"state_dict": Evil()}, path)
    assert "executing code" in refused(model=SMALL, pretrained=str(path))


def test_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"not weights")
    assert str(path) in refused(model=SMALL, pretrained=str(path))


def test_file_without_a_model_asks_for_the_architecture(checkpoint: Path) -> None:
    assert "--model" in refused(pretrained=str(checkpoint))


@pytest.mark.parametrize(
    ("model", "resize_mode", "interpolation", "mean"),
    [
        ("ViT-B-16-SigLIP", "squash", "bicubic", 0.5),
        ("PE-Core-T-16-384", "squash", "bilinear", 0.5),
        ("MobileCLIP-S1", "shortest", "bilinear", 0.0),
        ("ViT-B-32", "shortest", "bicubic", 0.48145466),
    ],
)
def test_checkpoint_file_gets_the_preprocessing_of_its_model(
    tmp_path: Path, model: str, resize_mode: str, interpolation: str, mean: float
) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"")
    found = find_model(ModelSettings(model=model, pretrained=str(path))).preprocess
    assert (found["resize_mode"], found["interpolation"]) == (resize_mode, interpolation)
    assert found["mean"][0] == mean


def test_checkpoint_file_of_a_model_with_several_preprocessings_asks_which(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"")
    with pytest.raises(UserError, match="--preprocessing"):
        find_model(ModelSettings(model="ViT-L-14", pretrained=str(path)))
    found = find_model(ModelSettings(model="ViT-L-14", pretrained=str(path), preprocessing="laion2b_s32b_b82k"))
    assert found.preprocess["mean"] == (0.5, 0.5, 0.5)


def test_identity_follows_the_weights_and_not_the_file(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "small.safetensors"
    save_file(torch.load(checkpoint, weights_only=True), str(other))
    first = load_model(ModelSettings(model=SMALL, pretrained=str(checkpoint)), device="cpu")
    second = load_model(ModelSettings(model=SMALL, pretrained=str(other)), device="cpu")
    assert first.identity.differences(second.identity) == []
    with torch.no_grad():
        second.network.logit_scale.add_(1e-3)
    assert weights_sha256(second.network) != first.identity.weights_sha256


def test_local_dir_is_found_by_folder_and_by_its_weights_file(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(BUILTIN_FOLDER, folder)
    weights = folder / "open_clip_model.safetensors"
    builtin = load_model(ModelSettings(), device="cpu").identity
    for pretrained in (f"local-dir:{folder}", str(folder), str(weights)):
        identity = load_model(ModelSettings(pretrained=pretrained), device="cpu").identity
        assert identity.differences(builtin) == []
        assert identity.name == "mine"


def test_identity_differs_in_words_when_preprocessing_differs(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(BUILTIN_FOLDER, folder)
    config = json.loads((folder / CONFIG_FILE).read_text())
    config["preprocess_cfg"] = {**config.get("preprocess_cfg", {}), "interpolation": "bilinear"}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    changed = load_model(ModelSettings(pretrained=str(folder)), device="cpu").identity
    differences = changed.differences(load_model(ModelSettings(), device="cpu").identity)
    assert len(differences) == 1
    assert "preprocessing" in differences[0]
