"""A training picture that is nearly a held-out one is left out, and told."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageEnhance

from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, TrainSettings
from clipmill.encoders.names import BUILTIN_FOLDER
from clipmill.runs.stages import train_stage
from clipmill.train.apart import near_contents
from clipmill.train.inputs import check, open_source
from clipmill.train.towers import make_towers


def picture(seed: int) -> Image.Image:
    random = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (4, 4, 3), generator=random, dtype=torch.uint8).numpy()
    return Image.fromarray(blocks).resize((96, 96), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def write(folder: Path, pictures: list[bytes]) -> str:
    folder.mkdir()
    table = pa.table({"image": pictures, "caption": [f"picture {number}" for number in range(len(pictures))]})
    pq.write_table(table, folder / "data.parquet", row_group_size=8)
    return str(folder)


@pytest.fixture
def given(tmp_path: Path) -> tuple[TrainSettings, set[bytes]]:
    """40 pictures, of which 3 are held-out ones compressed or lit otherwise, and one is the very same."""
    held_out = [jpeg(picture(seed)) for seed in range(100, 108)]
    near = [jpeg(picture(100), 40), jpeg(picture(103), 75), jpeg(ImageEnhance.Brightness(picture(105)).enhance(1.05))]
    pictures = [jpeg(picture(seed)) for seed in range(36)]
    pictures[5:5] = [near[0], held_out[2]]
    pictures[20:20] = near[1:]
    settings = TrainSettings(
        input=write(tmp_path / "train", pictures),
        validation=write(tmp_path / "held-out", held_out),
        pretrained=str(BUILTIN_FOLDER),
        output=str(tmp_path / "model"),
        steps=2,
        batch_size=16,
        near_duplicates=0.98,
    )
    return settings, {sha256(data).digest() for data in (*near, held_out[2])}


def test_pictures_nearly_the_same_are_found_and_no_others(given: tuple[TrainSettings, set[bytes]]) -> None:
    settings, near = given
    learner = make_towers(settings, torch.device("cpu"))
    learner.network.eval()
    source, held_out = (open_source(uri, learner.pictures, settings) for uri in (settings.input, settings.validation))

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return learner.encode_pixels(pixels)

    with ThreadPoolExecutor(2) as pool:
        assert near_contents(source, held_out, encode, 0.98, pool) == near
        shares = [near_contents(source, held_out, encode, 0.98, pool, rank, 3) for rank in range(3)]
    assert frozenset().union(*shares) == near


def test_they_are_not_trained_on_and_counted(given: tuple[TrainSettings, set[bytes]]) -> None:
    settings, near = given
    train_stage(settings, ClusterSettings(device="cpu"), Silent())
    record = json.loads((Path(settings.output) / "training.json").read_text())
    assert record["near_duplicates_left_out"] == len(near) - 1  # beside the one that is the same byte for byte
    assert record["configuration"]["near_duplicates"] == 0.98


@pytest.mark.parametrize("missing", ["validation", "pretrained"])
def test_a_comparison_without_a_model_or_held_out_pictures_is_refused(
    given: tuple[TrainSettings, set[bytes]], missing: str
) -> None:
    settings = given[0].model_copy(update={missing: None})
    with pytest.raises(UserError, match=r"--near-duplicates compares .*: give --validation and --pretrained too"):
        check(settings)
