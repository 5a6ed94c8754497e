"""Names of models are known without torch, and a misspelt one is answered with those that are like it."""

import subprocess
import sys
from pathlib import Path

import open_clip
import pytest

from clipmill.core.errors import UserError
from clipmill.encoders.names import CONFIG_FILE, known_models, nearest, nearest_first, refuse_unknown_model


def test_the_names_are_those_of_open_clip() -> None:
    assert set(known_models()) == set(open_clip.list_models())


@pytest.mark.parametrize("name", ["vit-b-32", "ViT-B/32", "ViT-B-32x", "ViT_B_32"])
def test_a_misspelt_name_is_answered_with_the_nearest_first(name: str) -> None:
    with pytest.raises(UserError, match=r"close to it: ViT-B-32[,]"):
        refuse_unknown_model(name)


@pytest.mark.parametrize("name", [None, "builtin", "ViT-B-32", "local-dir:/x", "hf-hub:someone/model"])
def test_names_and_places_that_may_be_right_are_left_to_the_loader(name: str | None) -> None:
    refuse_unknown_model(name)


def test_a_folder_with_its_own_configuration_may_be_called_anything(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text("{}")
    refuse_unknown_model("ours", str(tmp_path))
    with pytest.raises(UserError, match="ours is not a model"):
        refuse_unknown_model("ours", str(tmp_path / "nowhere"))


def test_of_all_names_those_that_are_alike_come_first() -> None:
    assert nearest_first("openai2", ["zebra", "openai", "apple"]) == ["openai", "apple", "zebra"]
    assert nearest("nothing like it", ["xyz"]) == []


def test_torch_is_not_imported_for_it() -> None:
    program = (
        "import sys; from clipmill_jobs.embed import command; from click.testing import CliRunner\n"
        "done = CliRunner().invoke(command, ['--input', 'x', '--output', 'y', '--model', 'ViT-B-33'])\n"
        "print(done.exit_code, 'ViT-B-32' in done.output, 'torch' in sys.modules, 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "True", "False", "False"]
