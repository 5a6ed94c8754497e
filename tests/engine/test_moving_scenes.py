"""Two hundred rendered scenes that move, found again by their words, with every picture at its time."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, IndexSettings, ModelSettings
from clipmill.encoders.model import load_model
from clipmill.index.search.open import open_index
from clipmill.runs.stages import embed_stage, index_stage
from clipmill.scenes.captions import captions
from clipmill.scenes.render import render
from clipmill.scenes.scene import scene_of_row
from clipmill.source.video import open_video

av = pytest.importorskip("av")
CLIPS, SIDE, FRAMES = 200, 96, 10
WAYS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
HERE = ClusterSettings(cpus=1, device="cpu")


def times_of(number: int) -> list[int]:
    """Milliseconds: every third clip has a rate of its own, and every third one that varies."""
    steps = [[40], [20 + number], [30, 90, 50]][number % 3]
    return np.cumsum([0, *(steps[at % len(steps)] for at in range(FRAMES - 1))]).tolist()


def moving(number: int) -> tuple[bytes, str]:
    """A scene that drifts by a few pixels a picture, as Matroska, and what it shows."""
    scene, random = scene_of_row("held-out", 11, number)
    picture = np.array(render(scene, random, SIDE))
    way = list(WAYS)[number % 4]
    down, right = WAYS[way]
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska") as container:
        track = container.add_stream("libx264", rate=25, options={"crf": "18", "g": "5"})
        track.width, track.height, track.pix_fmt = SIDE, SIDE, "yuv420p"
        track.codec_context.time_base = Fraction(1, 1000)
        for at, time in enumerate(times_of(number)):
            shift = 2 * (at - FRAMES // 2)
            frame = av.VideoFrame.from_ndarray(np.roll(picture, (down * shift, right * shift), (0, 1)), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(track.encode(frame))
        container.mux(track.encode())
    return stream.getvalue(), f"{captions(scene)[0]}, moving {way}"


def test_moving_scenes_are_found_by_their_words_and_every_picture_has_its_time(tmp_path: Path) -> None:
    clips = [moving(number) for number in range(CLIPS)]
    (tmp_path / "in").mkdir()
    for number, (data, _) in enumerate(clips):
        (tmp_path / f"in/{number:03d}.mkv").write_bytes(data)
        with open_video(io.BytesIO(data)) as opened:
            found = [frame.timestamp for frame in opened.pictures(range(opened.frames))]
        assert found == pytest.approx([time / 1000 for time in times_of(number)], abs=1e-9), number
    table = {"video": [f"{number:03d}.mkv" for number in range(CLIPS)], "caption": [words for _, words in clips]}
    pq.write_table(pa.table(table), tmp_path / "in/clips.parquet")
    embedding = EmbedSettings(input=str(tmp_path / "in"), output=str(tmp_path / "out"), frames=4)
    manifest = embed_stage(embedding, HERE, Silent()).manifest
    assert manifest.counts.clips["videos"].embedded == CLIPS
    indexing = IndexSettings(embeddings=str(tmp_path / "out"), output=str(tmp_path / "index"), gallery="videos")
    index_stage(indexing, HERE, Silent())
    index = open_index(str(tmp_path / "index"), tmp_path / "cache")
    texts = load_model(ModelSettings(), device="cpu").encode_texts([words for _, words in clips])
    rows = index.rows_at(index.search(texts, 10)[1])
    hits = (rows == np.arange(CLIPS)[:, None]).any(axis=1)
    assert hits.mean() >= 0.9, "ten of two hundred by chance are one in twenty"
