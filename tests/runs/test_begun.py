"""What an earlier built-in model began goes on with it; what names a model, or begins anew, does not."""

from pathlib import Path

import pytest

from blocks import write_pictures
from clipmill.core.errors import OutputDiffers
from clipmill.core.manifests import EmbeddingsManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, ModelSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.encoders.model import load_model
from clipmill.encoders.names import BUILTIN_FOLDERS, EARLIER_BUILTINS
from clipmill.runs.stages import embed_stage

HERE = ClusterSettings(device="cpu", cpus=1)
EARLIER = "builtin-1"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pictures(tmp_path_factory.mktemp("in") / "pictures", 5)


def embedded(pictures: str, output: Path, **options: object) -> EmbeddingsManifest:
    return embed_stage(EmbedSettings(input=pictures, output=str(output), **options), HERE, Silent()).manifest


def weights_of(output: Path) -> str:
    model = Embeddings.open(str(output)).manifest.model
    assert model is not None
    return model.weights_sha256


def test_earlier_models_are_what_their_names_say() -> None:
    for sha256, name in EARLIER_BUILTINS.items():
        assert load_model(ModelSettings(model=name), "cpu").identity.weights_sha256 == sha256
    today = load_model(ModelSettings(), "cpu").identity
    assert today.name == "builtin"
    assert today.weights_sha256 not in EARLIER_BUILTINS
    assert all((folder / "open_clip_config.json").is_file() for folder in BUILTIN_FOLDERS.values())


def test_a_dataset_of_an_earlier_model_is_complete_without_naming_it(pictures: str, tmp_path: Path) -> None:
    embedded(pictures, tmp_path / "out", model=EARLIER)
    again = embed_stage(EmbedSettings(input=pictures, output=str(tmp_path / "out")), HERE, Silent())
    assert again.already
    assert weights_of(tmp_path / "out") in EARLIER_BUILTINS


def test_whoever_names_todays_model_is_told_that_another_made_it(pictures: str, tmp_path: Path) -> None:
    embedded(pictures, tmp_path / "out", model=EARLIER)
    with pytest.raises(OutputDiffers, match="weights_sha256"):
        embedded(pictures, tmp_path / "out", model="builtin")


def test_replacing_takes_todays_model(pictures: str, tmp_path: Path) -> None:
    embedded(pictures, tmp_path / "out", model=EARLIER)
    embedded(pictures, tmp_path / "out", overwrite=True)
    assert weights_of(tmp_path / "out") not in EARLIER_BUILTINS


def test_a_new_output_takes_todays_model(pictures: str, tmp_path: Path) -> None:
    embedded(pictures, tmp_path / "out")
    assert weights_of(tmp_path / "out") not in EARLIER_BUILTINS
