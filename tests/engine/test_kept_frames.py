"""Videos whose pictures are kept: each is found by itself, at its time, and all of a video are one item of the input."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from apart import apart
from clipmill.core.errors import UserError
from clipmill.core.manifests import FRAMES_VERSION, ClipCounts, EmbeddingsManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import (
    ClusterSettings,
    EmbedSettings,
    EvaluateSettings,
    IndexSettings,
    ModelSettings,
    OutputSettings,
)
from clipmill.datasets.manifests import Embeddings, vectors_of
from clipmill.embedding.clips import MOST_KEPT, kept_frames
from clipmill.encoders.model import load_model
from clipmill.index.search.open import open_index
from clipmill.runs.stages import embed_stage, evaluate_stage, index_stage
from clipmill.source.inputs import find_inputs
from clipmill.verification.dataset import verify
from clipmill.versions.changes import changes_since
from clipmill.versions.compose import Composition, compose
from clipmill.versions.takedown import Takedown
from clipmill_jobs.__main__ import main
from clips import film
from tiny_clips import tiny_x_clip

pytest.importorskip("av")
HERE = ClusterSettings(cpus=1, device="cpu")
RATE = 10


def pictures(count: int, seed: int) -> list[np.ndarray]:
    made = np.random.default_rng(seed)
    small = [made.integers(0, 256, (3, 4, 3), np.uint8) for _ in range(count)]
    return [np.array(Image.fromarray(one).resize((64, 48), Image.Resampling.BICUBIC)) for one in small]


FILMS = [pictures(8, 1), pictures(47, 2), pictures(1, 3), pictures(20, 4)]
IDS = ["a", "b", "c", "d"]


def expected_frames(count: int) -> list[int]:
    """Of a video of so many pictures: those shown in the middles of equal parts of about a second."""
    parts = max(1, math.ceil(count / RATE))
    return [int((at + 0.5) * count / parts) for at in range(parts)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for number, one in enumerate(FILMS):
        (folder / f"{number}.mkv").write_bytes(film(one, RATE))
    (folder / "broken.mkv").write_bytes(film(FILMS[0], RATE)[:-40])
    columns = {
        "id": [*IDS, "broken"],
        "video": [*(f"{number}.mkv" for number in range(4)), "broken.mkv"],
        "caption": [[f"film {name}", "another"] for name in [*IDS, "broken"]],
        "year": [2001, 2002, 2003, 2004, 2005],
    }
    pq.write_table(pa.table(columns), folder / "films.parquet")
    return folder


def embed(source: Path, output: Path, cluster: ClusterSettings = HERE, **settings: Any) -> EmbeddingsManifest:
    made = EmbedSettings.model_validate({"input": str(source), "output": str(output), "frames": "keep", **settings})
    return embed_stage(made, cluster, Silent()).manifest


@pytest.fixture(scope="module")
def kept(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("kept") / "out"
    embed(source, output)
    return output


@pytest.fixture(scope="module")
def index(kept: Path) -> Path:
    output = kept.parent / "index"
    index_stage(IndexSettings(embeddings=str(kept), output=str(output), gallery="videos"), HERE, Silent())
    return output


def table_of(output: Path, part: str) -> pa.Table:
    dataset = Embeddings.open(str(output))
    return pa.concat_tables(dataset.open_shard(shard).read() for shard in dataset.shards_of(part))


def test_each_second_has_a_row_with_its_picture_and_time(kept: Path) -> None:
    table = table_of(kept, "videos")
    wanted = [(name, frame) for name, one in zip(IDS, FILMS, strict=True) for frame in expected_frames(len(one))]
    assert list(zip(table.column("id").to_pylist(), table.column("frame").to_pylist(), strict=True)) == wanted
    assert table.schema.field("frame").type == pa.int32()
    assert table.schema.field("timestamp").type == pa.float32()
    assert table.column("timestamp").to_pylist() == pytest.approx([frame / RATE for _, frame in wanted])
    years = dict(zip(IDS, (2001, 2002, 2003, 2004), strict=True))
    assert table.column("year").to_pylist() == [years[name] for name, _ in wanted]
    assert dict(zip(table.column("id").to_pylist(), table.column("frames").to_pylist(), strict=True)) == {
        "a": 8,
        "b": 47,
        "c": 1,
        "d": 20,
    }


def test_a_vector_is_that_of_its_picture(kept: Path) -> None:
    table, model = table_of(kept, "videos"), load_model(ModelSettings(), device="cpu")
    films = dict(zip(IDS, FILMS, strict=True))
    shown = [
        films[name][at] for name, at in zip(*(table.column(one).to_pylist() for one in ("id", "frame")), strict=True)
    ]
    prepared = [model.preprocessing.prepare(torch.from_numpy(one).permute(2, 0, 1)) for one in shown]
    expected = model.encode_images(torch.stack(prepared)).astype(np.float64)
    np.testing.assert_allclose(vectors_of(table.column("embedding")).astype(np.float64), expected, atol=2e-3)


def test_videos_are_counted_and_not_pictures(kept: Path) -> None:
    manifest = Embeddings.open(str(kept)).manifest
    rows = sum(len(expected_frames(len(one))) for one in FILMS)
    assert manifest.counts.clips == {"videos": ClipCounts(embedded=4, rejected=1, without_column=0, kept_frames=rows)}
    assert manifest.counts.rejected_by_reason == {"truncated_video": 1}
    assert manifest.schema_version == FRAMES_VERSION
    assert verify(str(kept), quick=False, reporter=Silent()).faults == []


def test_a_caption_is_compared_with_the_whole_video(source: Path, kept: Path, tmp_path: Path) -> None:
    table, captions = table_of(kept, "videos"), table_of(kept, "captions")
    found = vectors_of(table.column("embedding")).astype(np.float64)
    ids = np.array(table.column("id").to_pylist())
    texts = vectors_of(captions.column("embedding")).astype(np.float64)
    for name, text, score in zip(
        captions.column("id").to_pylist(), texts, captions.column("clip_score").to_pylist(), strict=True
    ):
        if name == "broken":
            assert score is None
            continue
        mean = found[ids == name].mean(axis=0)
        assert score == pytest.approx(text @ mean / np.linalg.norm(mean), abs=3e-3)


@pytest.mark.parametrize("change", ["lost", "twice"])
def test_damage_is_found(source: Path, tmp_path: Path, change: str) -> None:
    """A video of which no picture is left, and one of which a picture is there twice, are told."""
    from clipmill import storage
    from clipmill.datasets.manifests import write_manifest
    from clipmill.datasets.shards import describe_shard, read_shards, write_shards

    embed(source, tmp_path / "out")
    place = storage.resolve(tmp_path / "out")
    manifest = Embeddings.open(str(tmp_path / "out")).manifest
    shards = []
    for shard in read_shards(place, manifest.shards_sha256):
        if shard.part != "videos":
            shards.append(shard)
            continue
        table = pq.read_table(tmp_path / "out" / shard.path)
        order = [at for at, name in enumerate(table.column("id").to_pylist()) if change == "twice" or name != "b"]
        table = table.take(sorted([*order, 2]) if change == "twice" else order)
        pq.write_table(table, tmp_path / "out" / shard.path, compression="none", use_dictionary=False)
        shards.append(describe_shard(place, shard.path, shard.part, table.num_rows, shard.first_row, shard.last_row))
    write_manifest(place, manifest.model_copy(update={"shards_sha256": write_shards(place, shards)}))
    faults = verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults
    told = "row 1 is neither a video nor a reject" if change == "lost" else "row 1 is here 2 times"
    assert any(told in fault for fault in faults), faults


def test_a_search_finds_the_picture_and_says_when_it_is_shown(index: Path) -> None:
    assert verify(str(index), quick=False, reporter=Silent()).faults == []
    opened = open_index(str(index))
    model = load_model(ModelSettings(), device="cpu")
    at = expected_frames(47)[3]
    prepared = model.preprocessing.prepare(torch.from_numpy(FILMS[1][at]).permute(2, 0, 1))
    _, positions = opened.search(model.encode_images(prepared[None]), 1)
    (found,) = opened.table.fetch(positions[0]).to_pylist()
    assert (found["id"], found["frame"]) == ("b", at)
    assert found["timestamp"] == pytest.approx(at / RATE)
    assert "year" in found


def test_the_command_tells_the_time_as_people_write_it(index: Path) -> None:
    told = CliRunner().invoke(main, ["search", "--index", str(index), "--id", "b", "-k", "1"]).output
    assert "00:00" in told
    assert "timestamp" in told


def test_what_is_taken_down_goes_with_all_its_pictures(source: Path, kept: Path, tmp_path: Path) -> None:
    base = Embeddings.open(str(kept))
    changes = changes_since(base, find_inputs(str(source)))
    output = OutputSettings(output=str(tmp_path / "next"))
    assert base.manifest.model is not None
    manifest = compose(
        Composition(
            output, base, None, changes, Takedown(frozenset({"b"})), base.manifest.model, base.manifest.configuration
        )
    )
    left = table_of(tmp_path / "next", "videos")
    assert set(left.column("id").to_pylist()) == {"a", "c", "d"}
    assert manifest.counts.clips["videos"] == ClipCounts(
        embedded=3, rejected=2, without_column=0, kept_frames=left.num_rows
    )
    down = [row for row in table_of(tmp_path / "next", "rejected").to_pylist() if row["reason"] == "removed"]
    assert sorted((row["id"], row["kind"]) for row in down) == [("b", "caption"), ("b", "caption"), ("b", "video")]
    assert verify(str(tmp_path / "next"), quick=False, reporter=Silent()).faults == []


def test_a_model_of_videos_sees_them_whole(source: Path, tmp_path: Path) -> None:
    tiny = tiny_x_clip(tmp_path / "model")
    with pytest.raises(UserError, match="--frames is for models of pictures"):
        embed(source, tmp_path / "out", model=str(tiny.folder))


@pytest.mark.parametrize("frames", ["kept", "0", "257", "2.5"])
def test_other_words_are_refused(frames: str) -> None:
    told = CliRunner().invoke(main, ["embed", "--input", "in", "--output", "out", "--frames", frames])
    assert told.exit_code == 2
    assert "--frames" in told.output


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.0, 1), (0.4, 1), (1.0, 1), (1.01, 2), (599.5, 600), (7200.0, MOST_KEPT)]
)
def test_so_many_are_kept(seconds: float, count: int) -> None:
    assert kept_frames(seconds) == count


@pytest.mark.cluster
def test_a_cluster_makes_the_same_tables(source: Path, kept: Path, tmp_path: Path) -> None:
    apart(embed, source, tmp_path / "there", ClusterSettings(address="local", cpus=1))
    for part in ("videos", "captions", "rejected"):
        assert table_of(kept, part).equals(table_of(tmp_path / "there", part)), part


def test_a_report_asks_for_videos_and_not_with_their_pictures(kept: Path, tmp_path: Path) -> None:
    """A caption is answered by any picture of its video; brute force over both says how many are."""
    settings = EvaluateSettings(embeddings=str(kept), output=str(tmp_path / "report"), bootstrap_samples=0)
    report = evaluate_stage(settings, Silent()).manifest
    assert [part.direction for part in report.retrieval] == ["t2v"]
    table, captions = table_of(kept, "videos"), table_of(kept, "captions")
    rows = np.array(table.column("row"))
    asked = np.isin(np.array(captions.column("row")), rows)
    scores = (
        vectors_of(captions.column("embedding")).astype(np.float64)[asked]
        @ vectors_of(table.column("embedding")).astype(np.float64).T
    )
    first = rows[scores.argmax(axis=1)] == np.array(captions.column("row"))[asked]
    (part,) = report.retrieval
    found = next(figure for figure in part.figures if figure.key == "t2v.recall@1")
    assert found.value == pytest.approx(first.mean())


def test_pictures_of_one_video_are_no_duplicates_of_it(kept: Path, tmp_path: Path) -> None:
    arguments = ["dedup", "--embeddings", str(kept), "--output", str(tmp_path / "d"), "--gallery", "videos"]
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 2
    assert "made without it" in told.output
