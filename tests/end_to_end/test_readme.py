"""Every command of the README works as printed, in order, in a new folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README says that a user has: photographs, a checkpoint, pictures and vectors."""
    folder = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)) for _ in range(3)]
    (folder / "photos").mkdir()
    (folder / "pictures").mkdir()
    data = []
    for index, picture in enumerate(pictures):
        path = folder / f"pictures/{index}.jpg"
        picture.save(path)
        path.with_suffix(".txt").write_text(f"picture {index}")
        data.append(path.read_bytes())
    pq.write_table(pa.table({"image": data, "caption": ["one", "two", "three"]}), folder / "photos/a.parquet")
    vectors = rng.standard_normal((20, 8)).astype(np.float32)
    np.save(folder / "images.npy", vectors)
    np.save(folder / "texts.npy", vectors + 0.1 * rng.standard_normal((20, 8)).astype(np.float32))
    torch.manual_seed(0)
    save_file(dict(open_clip.create_model("ViT-B-32").state_dict()), str(folder / "vit-b-32.safetensors"))
    return folder


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_of_the_readme_runs_as_printed(number: int, workplace: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", BLOCKS[number]],
        cwd=workplace,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{BLOCKS[number]}\n{done.stdout}\n{done.stderr}"


def test_blocks_were_found_and_make_targets_exist() -> None:
    assert len(BLOCKS) >= 10
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)$", README, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_clipmill_is_installed_as_a_command() -> None:
    assert shutil.which("clipmill", path=str(Path(sys.executable).parent))
