"""`clipmill train --audio-column`: the image tower learns to see sounds, and the model hears from then on."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, ModelSettings, SampleSettings, TrainSettings
from clipmill.datasets.manifests import Embeddings, vectors_of
from clipmill.encoders.model import load_model
from clipmill.runs.stages import embed_stage
from clipmill.scenes.dataset import write_scenes
from clipmill.train.batches import Sampling, batches
from clipmill.train.inputs import check, open_source
from clipmill.train.learners import find_sounds
from clipmill.train.run import train, train_here
from clipmill.train.trainer import Told

pytest.importorskip("soundfile")
HERE = ClusterSettings(cpus=1, device="cpu")


def sample(folder: Path, rows: int, sounds: str) -> str:
    write_scenes(SampleSettings(output=str(folder), rows=rows, image_size=64, sounds=sounds), Silent())
    return str(folder)


@pytest.fixture(scope="module")
def sounding(tmp_path_factory: pytest.TempPathFactory) -> str:
    return sample(tmp_path_factory.mktemp("data") / "sounding", 48, "alternate")


def settings(source: str, output: Path, **options: Any) -> TrainSettings:
    values = {"steps": 4, "batch_size": 12, "warmup_steps": 1, "audio_column": "audio", **options}
    return TrainSettings(input=source, output=str(output), **values)


def learn(chosen: TrainSettings) -> Path:
    told = Told(lambda step: None, lambda step, found: None)
    train(chosen, lambda work: train_here(chosen, work, told, "cpu"))
    return Path(chosen.output)


def test_a_sound_is_learned_from_as_the_picture_of_its_spectrogram(sounding: str, tmp_path: Path) -> None:
    """Two of three rows are sounds: grey where scenes have colours."""
    chosen = settings(sounding, tmp_path / "model")
    source = open_source(sounding, load_model(ModelSettings(), "cpu").preprocessing, chosen)
    with ThreadPoolExecutor(1) as pool:
        batch = next(batches(source, Sampling(48, 0), 0, pool))
    grey = [bool((one[0] == one[1]).all() and (one[1] == one[2]).all()) for one in batch.pixels.numpy()]
    assert sum(grey) == 32
    heard = [any(word in text for word in ("sound", "note", "recording", ", then", "at once", "twice", "stutter",
                                           "pauses")) for text in batch.texts]  # fmt: skip
    assert heard == grey


def test_the_model_hears_what_embed_gives_it(sounding: str, tmp_path: Path) -> None:
    model = learn(settings(sounding, tmp_path / "model"))
    beside = sample(tmp_path / "beside", 6, "beside")
    embedding = EmbedSettings(input=beside, output=str(tmp_path / "out"), pretrained=str(model))
    manifest = embed_stage(embedding, HERE, Silent()).manifest
    assert manifest.counts.clips["audio"].embedded == 6
    dataset = Embeddings.open(str(tmp_path / "out"))
    (shard,) = dataset.shards_of("audio")
    vectors = vectors_of(dataset.open_shard(shard).read().column("embedding"))
    assert np.allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-3)
    assert len(np.unique(vectors.round(3), axis=0)) == 6, "no two sounds are the same"


def test_the_same_settings_give_the_same_weights(sounding: str, tmp_path: Path) -> None:
    one, two = (
        load_file(learn(settings(sounding, tmp_path / name)) / "open_clip_model.safetensors") for name in ("1", "2")
    )
    assert all(bool((one[name] == two[name]).all()) for name in one)


def test_a_model_that_hears_goes_on_hearing_without_the_option(sounding: str, tmp_path: Path) -> None:
    model = learn(settings(sounding, tmp_path / "model"))
    again = settings(sounding, tmp_path / "again", pretrained=str(model), audio_column=None)
    assert find_sounds(again) == find_sounds(settings(sounding, tmp_path / "x"))
    assert find_sounds(settings(sounding, tmp_path / "y", audio_column=None)) is None


def test_sounds_that_cannot_be_learned_from_are_refused_in_a_sentence(sounding: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--audio-column: not for --loss itm"):
        check(settings(sounding, tmp_path / "model", loss="itm"))
    pq.write_table(pa.table({"image": [b"x"], "caption": ["a thing"]}), tmp_path / "images.parquet")
    with pytest.raises(UserError, match="audio"):
        check(settings(str(tmp_path / "images.parquet"), tmp_path / "model"))


def test_a_row_with_a_picture_that_cannot_be_read_does_not_teach_by_its_sound(sounding: str, tmp_path: Path) -> None:
    """Or it would teach otherwise whenever reading fails for a moment."""
    table = pq.read_table(sorted(Path(sounding).glob("*.parquet"))[0], columns=["image", "audio", "caption"])
    heard = next(row["audio"]["bytes"] for row in table.to_pylist() if row["audio"])
    rows = [
        {"image": picture, "audio": {"bytes": heard, "path": None}, "caption": ["a thing"]}
        for picture in (None, {"bytes": None, "path": "gone.png"}, {"bytes": b"broken", "path": None})
    ]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "rows.parquet")
    chosen = settings(str(tmp_path / "rows.parquet"), tmp_path / "model")
    source = open_source(chosen.input, load_model(ModelSettings(), "cpu").preprocessing, chosen)
    (read,) = source.read(source.units)
    examples = [read.example(at) for at in range(3)]
    assert [example is not None for example in examples] == [True, False, False]
