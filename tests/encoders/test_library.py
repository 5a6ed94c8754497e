"""Which library a model comes from is told by its name or its folder, and what cannot be had is told at once."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clipmill.core.errors import UserError
from clipmill.core.settings import ModelSettings
from clipmill.encoders.adapters.prepared import ProcessorPreparation
from clipmill.encoders.library import Place, download, find_place, refuse_unusable_model
from clipmill.encoders.model import load_model
from clipmill.encoders.names import BUILTIN_FOLDER
from clipmill_jobs.__main__ import main
from tiny_models import TinyModel, tiny_model


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return tiny_model("clip", tmp_path_factory.mktemp("library") / "tiny")


@pytest.mark.parametrize(
    ("files", "library"),
    [
        (["config.json"], "transformers"),
        (["config.json", "modules.json"], "sentence-transformers"),
        (["config.json", "modules.json", "open_clip_config.json"], "open_clip"),
    ],
)
def test_a_folder_is_what_lies_in_it(files: list[str], library: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert find_place(ModelSettings(model=str(tmp_path))).library == library


def test_a_folder_of_open_clip_needs_no_prefix() -> None:
    there = load_model(ModelSettings(model=str(BUILTIN_FOLDER)), device="cpu").identity
    assert there.differences(load_model(ModelSettings(), device="cpu").identity) == []


def test_a_prefix_with_a_folder_is_that_folder_and_with_a_name_the_hub(tmp_path: Path) -> None:
    assert find_place(ModelSettings(model=f"transformers:{tmp_path}")).folder == tmp_path
    at_hub = find_place(ModelSettings(model="transformers:google/siglip2", pretrained="0a1b"))
    assert (at_hub.repository, at_hub.revision, at_hub.folder) == ("google/siglip2", "0a1b", None)
    moved = find_place(ModelSettings(model="transformers:google/siglip2", pretrained=str(tmp_path)))
    assert (moved.folder, moved.name) == (tmp_path, f"transformers:{tmp_path.name}")


def test_a_folder_called_like_a_model_of_open_clip_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ViT-B-32").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_place(ModelSettings(model="ViT-B-32")).library == "open_clip"


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("transformers:siglip", "ORG/NAME"),
        ("sentence-transformers:/no/such/folder", "ORG/NAME"),
        ("ViT-B-23", "ViT-B-32"),
    ],
)
def test_a_model_that_is_nowhere_is_told_with_what_to_type(model: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        refuse_unusable_model(ModelSettings(model=model))


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"open_clip_config\.json, modules\.json, config\.json"):
        find_place(ModelSettings(model=str(tmp_path)))


@pytest.mark.parametrize("library", ["transformers", "sentence-transformers"])
def test_a_missing_package_is_one_sentence_with_the_line_to_type(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    missing = library.replace("-", "_")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == missing else found(name, *more)
    )
    scenes = ["embed", "--input", str(tmp_path), "--output", str(tmp_path / "out"), "--model", f"{library}:org/name"]
    done = CliRunner().invoke(main, scenes)
    assert done.exit_code == 2
    assert f"pip install 'clipmill[{library}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_hub_is_asked_for_no_code_and_no_pickles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    def snapshot(repository: str, **options: Any) -> str:
        asked.append({"repository": repository, **options})
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    place = Place("transformers", name="transformers:org/name", repository="org/name", revision="0a1b")
    assert download(place, code=False) == tmp_path
    assert (asked[0]["repository"], asked[0]["revision"]) == ("org/name", "0a1b")
    assert not [pattern for pattern in asked[0]["allow_patterns"] if pattern.endswith((".py", ".bin", ".pt"))]
    download(place, code=True)
    assert "*.py" in asked[1]["allow_patterns"]


def changed(model: TinyModel, folder: Path, **values: object) -> Path:
    """The folder of a model with another configuration."""
    shutil.copytree(model.folder, folder)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, **values}))
    return folder


def test_a_class_without_a_common_space_is_refused_with_those_that_have_one(clip: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'owlvit'.*siglip2"):
        load_model(ModelSettings(model=str(changed(clip, tmp_path / "owl", model_type="owlvit"))))


def test_weights_that_are_missing_are_not_made_up(clip: TinyModel, tmp_path: Path) -> None:
    text = {**clip.network.config.text_config.to_dict(), "num_hidden_layers": 3}
    with pytest.raises(UserError, match="has no weights for"):
        load_model(ModelSettings(model=str(changed(clip, tmp_path / "deeper", text_config=text))))


def test_weights_that_are_a_pickle_are_refused(clip: TinyModel, tmp_path: Path) -> None:
    folder = changed(clip, tmp_path / "pickle")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        load_model(ModelSettings(model=str(folder)))


def test_int8_is_refused_before_anything_is_loaded(clip: TinyModel) -> None:
    with pytest.raises(UserError, match="int8"):
        refuse_unusable_model(ModelSettings(model=str(clip.folder), precision="int8"))


def test_the_same_model_elsewhere_has_the_same_identity(clip: TinyModel, tmp_path: Path) -> None:
    shutil.copytree(clip.folder, tmp_path / "moved")
    here = load_model(ModelSettings(model=str(clip.folder)), device="cpu").identity
    there = load_model(ModelSettings(model=f"transformers:{tmp_path / 'moved'}"), device="cpu").identity
    assert here.differences(there) == []
    file = tmp_path / "moved" / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "image_mean": [0.5, 0.5, 0.5]}))
    other = load_model(ModelSettings(model=f"transformers:{tmp_path / 'moved'}"), device="cpu").identity
    assert [difference.split(":")[0] for difference in here.differences(other)] == ["preprocessing"]


def test_naming_a_model_imports_no_library() -> None:
    lines = (
        "from clipmill.core.settings import ModelSettings",
        "from clipmill.encoders.library import refuse_unusable_model",
        "refuse_unusable_model(ModelSettings(model='transformers:google/siglip2'))",
        "import sys; print([name for name in ('torch', 'transformers', 'open_clip') if name in sys.modules])",
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_processor_that_makes_pictures_of_different_sizes_is_refused(clip: TinyModel, tmp_path: Path) -> None:
    folder = changed(clip, tmp_path / "uncropped")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "do_center_crop": False}))
    with pytest.raises(UserError, match="different sizes"):
        load_model(ModelSettings(model=str(folder)))


def test_only_a_crop_of_the_shortest_side_leaves_out_the_ends_of_wide_pictures(clip: TinyModel, tmp_path: Path) -> None:
    assert ProcessorPreparation.of(clip.processor, clip.processor.to_dict())._crops
    squashed = tiny_model("flava", tmp_path / "flava").processor
    assert not ProcessorPreparation.of(squashed, squashed.to_dict())._crops
