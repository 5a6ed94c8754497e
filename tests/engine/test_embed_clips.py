"""Inputs with sounds and videos end as rows of their parts, with the vectors that the libraries' own few lines give."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from apart import apart
from clipmill.core.errors import UserError
from clipmill.core.manifests import ClipCounts, EmbeddingsManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, IndexSettings, ModelSettings
from clipmill.datasets.manifests import Embeddings, vectors_of
from clipmill.encoders.model import load_model
from clipmill.runs.stages import embed_stage, index_stage
from clipmill.verification.dataset import verify
from clips import film, tone, wav
from tiny_clips import FRAMES, RATE, tiny_clap, tiny_x_clip
from tiny_models import TinyModel

pytest.importorskip("soundfile")
pytest.importorskip("av")
HERE = ClusterSettings(cpus=1, device="cpu")


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return tiny_clap(tmp_path_factory.mktemp("clap"))


def embed(source: Path, output: Path, cluster: ClusterSettings = HERE, **settings: Any) -> EmbeddingsManifest:
    made = EmbedSettings(input=str(source), output=str(output), **settings)
    return embed_stage(made, cluster, Silent()).manifest


def table_of(output: Path, part: str) -> pa.Table:
    dataset = Embeddings.open(str(output))
    return pa.concat_tables(dataset.open_shard(shard).read() for shard in dataset.shards_of(part))


def vectors(table: pa.Table) -> np.ndarray:
    return vectors_of(table.column("embedding")).astype(np.float64)


def heard_by(clap: TinyModel, samples: np.ndarray) -> np.ndarray:
    inputs = clap.processor(samples, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        found = clap.network.get_audio_features(input_features=inputs["input_features"].float()).pooler_output
    return torch.nn.functional.normalize(found, dim=-1)[0].double().numpy()


SOUNDS = [tone(0.7, 300), tone(1.0, 700), tone(2.6, 1100)]
FILES = [wav(samples) for samples in SOUNDS]


def write_sounds(folder: Path) -> Path:
    """Three sounds and five that are none, with captions and a column beside them."""
    folder.mkdir()
    broken = [None, b"", b"<html></html>", wav(np.zeros(4000)), wav(SOUNDS[0])[:2000]]
    data = [*FILES, *broken]
    columns = {
        "id": [f"sound {number}" for number in range(len(data))],
        "audio": pa.array(
            [{"bytes": one, "path": None} for one in data], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        ),
        "caption": [["low", "a tone"], ["middle"], ["high"], [], ["", "none"], ["page"], ["still"], ["half"]],
        "year": list(range(8)),
    }
    pq.write_table(pa.table(columns), folder / "sounds.parquet")
    return folder


def test_sounds_are_embedded_as_the_library_does_and_the_others_rejected(clap: TinyModel, tmp_path: Path) -> None:
    manifest = embed(write_sounds(tmp_path / "in"), tmp_path / "out", model=str(clap.folder))
    sounds = table_of(tmp_path / "out", "audio")
    assert sounds.column("id").to_pylist() == ["sound 0", "sound 1", "sound 2"]
    assert sounds.column("duration").to_pylist() == pytest.approx([0.7, 1.0, 2.6])
    assert sounds.column("sample_rate").to_pylist() == [RATE] * 3
    assert sounds.column("year").to_pylist() == [0, 1, 2]
    assert sounds.column("audio_sha256").to_pylist() == [hashlib.sha256(one).digest() for one in FILES]
    expected = np.stack([heard_by(clap, samples[:RATE]) for samples in SOUNDS])
    np.testing.assert_allclose(vectors(sounds), expected, atol=2e-3)
    rejected = table_of(tmp_path / "out", "rejected")
    assert list(zip(*(rejected.column(name).to_pylist() for name in ("kind", "reason")), strict=True)) == [
        ("audio", "missing_audio"),
        ("audio", "empty_audio"),
        ("caption", "empty_caption"),
        ("audio", "not_audio"),
        ("audio", "silent_audio"),
        ("audio", "truncated_audio"),
    ]
    counts = manifest.counts
    assert counts.clips == {"audio": ClipCounts(embedded=3, rejected=5, without_column=0)}
    assert (counts.rows, counts.images, counts.captions, counts.without_image_column) == (8, 0, 8, 8)
    assert manifest.schema_version == 3
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []


def test_captions_are_compared_with_their_sound(clap: TinyModel, tmp_path: Path) -> None:
    embed(write_sounds(tmp_path / "in"), tmp_path / "out", model=str(clap.folder))
    captions, sounds = table_of(tmp_path / "out", "captions"), table_of(tmp_path / "out", "audio")
    by_row = dict(zip(sounds.column("row").to_pylist(), vectors(sounds), strict=True))
    for row, vector, score in zip(
        captions.column("row").to_pylist(), vectors(captions), captions.column("clip_score").to_pylist(), strict=True
    ):
        if row not in by_row:
            assert score is None
        else:
            both = by_row[row], vector
            assert score == pytest.approx(both[0] @ both[1] / np.prod([np.linalg.norm(one) for one in both]), abs=1e-5)


def test_windows_are_averaged(clap: TinyModel, tmp_path: Path) -> None:
    embed(write_sounds(tmp_path / "in"), tmp_path / "out", model=str(clap.folder), window=0.5)
    longest = SOUNDS[2]
    half = RATE // 2
    mean = np.mean([heard_by(clap, longest[at * half : (at + 1) * half]) for at in range(5)], axis=0)
    np.testing.assert_allclose(vectors(table_of(tmp_path / "out", "audio"))[2], mean / np.linalg.norm(mean), atol=2e-3)


def test_a_folder_of_sounds_is_read_in_place_with_the_texts_beside_them(clap: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    for name, samples in zip(("b.wav", "a.wav", "deep/c.wav"), SOUNDS, strict=True):
        (tmp_path / "in" / name).write_bytes(wav(samples))
    (tmp_path / "in/a.txt").write_text("middle\nquick")
    (tmp_path / "in/d.wav").write_bytes(b"")
    manifest = embed(tmp_path / "in", tmp_path / "out", model=str(clap.folder))
    sounds = table_of(tmp_path / "out", "audio")
    assert sounds.column("audio").to_pylist() == ["a.wav", "b.wav", "deep/c.wav"]
    expected = np.stack([heard_by(clap, SOUNDS[at][:RATE]) for at in (1, 0, 2)])
    np.testing.assert_allclose(vectors(sounds), expected, atol=2e-3)
    assert table_of(tmp_path / "out", "captions").column("caption").to_pylist() == ["middle", "quick"]
    assert manifest.counts.rejected_by_reason == {"empty_audio": 1}
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []


def test_samples_of_an_archive_have_their_sounds(clap: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    members = {"a.wav": FILES[0], "a.txt": b"low", "b.txt": b"no sound", "c.json": b'{"year": 3}', "c.wav": FILES[2]}
    with tarfile.open(tmp_path / "in/0.tar", "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    manifest = embed(tmp_path / "in", tmp_path / "out", model=str(clap.folder))
    sounds = table_of(tmp_path / "out", "audio")
    assert (sounds.column("id").to_pylist(), sounds.column("year").to_pylist()) == (["a", "c"], [None, 3])
    expected = np.stack([heard_by(clap, SOUNDS[at][:RATE]) for at in (0, 2)])
    np.testing.assert_allclose(vectors(sounds), expected, atol=2e-3)
    assert manifest.counts.rejected_by_reason == {"missing_audio": 1}
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []


def test_an_index_of_sounds_finds_each_by_itself(clap: TinyModel, tmp_path: Path) -> None:
    from clipmill.embedding.clip_query import encode_clip
    from clipmill.index.search.open import open_index

    embed(write_sounds(tmp_path / "in"), tmp_path / "out", model=str(clap.folder), window=0.5)
    settings = IndexSettings(embeddings=str(tmp_path / "out"), output=str(tmp_path / "index"), gallery="audio")
    manifest = index_stage(settings, HERE, Silent()).manifest
    assert (manifest.n, manifest.gallery, manifest.query_kind, manifest.kept_columns) == (
        3,
        "audio",
        "captions",
        ["year"],
    )
    index = open_index(str(tmp_path / "index"), tmp_path / "cache")
    (tmp_path / "query.wav").write_bytes(wav(SOUNDS[2]))
    model = load_model(ModelSettings(model=str(clap.folder)), device="cpu")
    scores, positions = index.search(encode_clip(model, "audio", tmp_path / "query.wav", manifest.embeddings), 3)
    assert scores[0][list(positions[0]).index(2)] == pytest.approx(1, abs=2e-3)
    assert verify(str(tmp_path / "index"), quick=False, reporter=Silent()).faults == []
    (tmp_path / "query.wav").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"--audio .*query.wav is no sound that can be searched with: text"):
        encode_clip(model, "audio", tmp_path / "query.wav", manifest.embeddings)
    with pytest.raises(UserError, match="encodes audio and text only"):
        encode_clip(model, "video", tmp_path / "query.wav", manifest.embeddings)


def pictures(count: int, seed: int) -> list[np.ndarray]:
    made = np.random.default_rng(seed)
    small = [made.integers(0, 256, (3, 4, 3), np.uint8) for _ in range(count)]
    return [np.array(Image.fromarray(one).resize((64, 48), Image.Resampling.BICUBIC)) for one in small]


FILMS = [pictures(8, 1), pictures(20, 2), pictures(1, 3)]


def write_films(folder: Path) -> Path:
    folder.mkdir()
    for number, one in enumerate(FILMS):
        (folder / f"{number}.mkv").write_bytes(film(one))
    (folder / "3.mkv").write_bytes(film(FILMS[0])[:-40])
    (folder / "4.mp4").write_bytes(b"")
    pq.write_table(
        pa.table(
            {"video": [f"{number}.mkv" for number in range(4)] + ["4.mp4", "absent.webm", None], "key": list("abcdefg")}
        ),
        folder / "films.parquet",
    )
    return folder


def test_an_image_model_takes_the_mean_of_some_pictures_of_a_video(tmp_path: Path) -> None:
    manifest = embed(write_films(tmp_path / "in"), tmp_path / "out", frames=4, keep_columns=[])
    table = table_of(tmp_path / "out", "videos")
    assert table.column("frames").to_pylist() == [8, 20, 1]
    assert table.column("fps").to_pylist() == pytest.approx([10, 10, 10])
    assert table.column("duration").to_pylist() == pytest.approx([0.8, 2.0, 0.1])
    model = load_model(ModelSettings(), device="cpu")
    for vector, one, numbers in zip(vectors(table), FILMS, ([1, 3, 5, 7], [2, 7, 12, 17], [0]), strict=True):
        prepared = [model.preprocessing.prepare(torch.from_numpy(one[at]).permute(2, 0, 1)) for at in numbers]
        mean = model.encode_images(torch.stack(prepared)).astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=2e-3)
    assert manifest.counts.clips == {"videos": ClipCounts(embedded=3, rejected=4, without_column=0)}
    assert manifest.counts.rejected_by_reason == {
        "empty_video": 1,
        "missing_video": 1,
        "truncated_video": 1,
        "video_not_found": 1,
    }
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []


def test_a_video_model_takes_its_pictures_together(tmp_path: Path) -> None:
    tiny = tiny_x_clip(tmp_path / "model")
    embed(write_films(tmp_path / "in"), tmp_path / "out", model=str(tiny.folder))
    for vector, one, numbers in zip(
        vectors(table_of(tmp_path / "out", "videos")), FILMS, ([1, 3, 5, 7], [2, 7, 12, 17], [0] * FRAMES), strict=True
    ):
        pixels = tiny.processor(images=[one[at] for at in numbers], return_tensors="pt")["pixel_values"][None]
        with torch.no_grad():
            expected = torch.nn.functional.normalize(
                tiny.network.get_video_features(pixel_values=pixels).pooler_output, dim=-1
            )
        np.testing.assert_allclose(vector, expected[0].double().numpy(), atol=2e-3)


def test_damage_in_the_files_is_found(tmp_path: Path) -> None:
    """A video's row that is taken out of its table, with the list of files put right, is told as lost."""
    embed(write_films(tmp_path / "in"), tmp_path / "out", keep_columns=[])
    (file,) = (tmp_path / "out/videos").iterdir()
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)
    faults = verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults
    assert any(file.name in fault for fault in faults)


@pytest.mark.cluster
def test_a_cluster_makes_the_same_tables(clap: TinyModel, tmp_path: Path) -> None:
    source = write_sounds(tmp_path / "in")
    embed(source, tmp_path / "here", model=str(clap.folder), window=0.5)
    apart(
        embed, source, tmp_path / "there", ClusterSettings(address="local", cpus=1), model=str(clap.folder), window=0.5
    )
    for part in ("audio", "captions", "rejected"):
        assert table_of(tmp_path / "here", part).equals(table_of(tmp_path / "there", part)), part


def test_a_column_that_the_model_does_not_encode_is_left_unless_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture = film(FILMS[2])
    columns = {"caption": ["a", "b"], "audio": [wav(SOUNDS[0])] * 2, "video": [picture] * 2}
    pq.write_table(pa.table(columns), tmp_path / "in/rows.parquet")
    manifest = embed(tmp_path / "in", tmp_path / "out")
    assert set(manifest.counts.clips) == {"videos"}
    with pytest.raises(UserError, match="encodes image and text only, and column audio of the input holds sounds"):
        embed(tmp_path / "in", tmp_path / "named", audio_column="audio")
    pq.write_table(pa.table(columns).drop_columns(["video"]), tmp_path / "in/rows.parquet")
    with pytest.raises(UserError, match="column audio of the input holds sounds"):
        embed(tmp_path / "in", tmp_path / "alone")
    pq.write_table(pa.table(columns), tmp_path / "in/rows.parquet")
    with pytest.raises(UserError, match="--window is for sounds"):
        embed(tmp_path / "in", tmp_path / "window", window=1.0)


def test_datasets_without_clips_are_written_as_before(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"caption": ["a", "b"]}), tmp_path / "in/rows.parquet")
    embed(tmp_path / "in", tmp_path / "out")
    document = json.loads((tmp_path / "out/manifest.json").read_text())
    assert document["schema_version"] == 2
    assert "clips" not in document["counts"]
    assert set(document["configuration"]["columns"]) == {"image", "caption", "id", "kept"}
    assert not {"window", "frames", "audio_column", "video_column"} & set(document["configuration"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == [
        "captions",
        "images",
        "rejected",
    ]
