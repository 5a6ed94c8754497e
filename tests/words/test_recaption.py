"""Captions are filtered once, whole, and the same after an interruption; what comes out is input again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blocks import encoded, write_pictures
from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, RecaptionSettings, SampleSettings, TrainSettings
from clipmill.runs.stages import embed_stage, train_stage
from clipmill.runs.text_stages import recaption_stage
from clipmill.scenes.dataset import write_scenes
from clipmill.stage.status import work_towards
from clipmill.storage import resolve
from clipmill.verification.dataset import verify
from clipmill.words.capfilt import plan, steps
from texts_written import write_texts
from tiny_generators import tiny_matcher

ROWS = 150
HERE = ClusterSettings(device="cpu", cpus=1)


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    captions = [["a block", f"number {row}"] for row in range(ROWS)]
    tags = [["x", str(row)] for row in range(ROWS)]
    return write_pictures(
        tmp_path_factory.mktemp("in") / "pictures", ROWS, caption=captions, tags=tags, score=[1] * ROWS
    )


@pytest.fixture(scope="module")
def texts(pictures_folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    said = {row: [f"it is {row}"] for row in range(ROWS) if row != 7}
    return write_texts(tmp_path_factory.mktemp("texts") / "texts", pictures_folder, said)


def settings(folder: str, texts: str, output: Path, **options: Any) -> RecaptionSettings:
    return RecaptionSettings(input=folder, texts=texts, output=str(output), **{"threshold": 0.0, **options})


def rows_of(output: Path, part: str = "captioned") -> list[dict[str, Any]]:
    return [row for file in sorted(output.glob(f"{part}/*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_every_row_stays_and_every_text_ends_once(pictures_folder: str, texts: str, tmp_path: Path) -> None:
    made = recaption_stage(settings(pictures_folder, texts, tmp_path / "out"), HERE, Silent())
    rows, dropped = rows_of(tmp_path / "out"), rows_of(tmp_path / "out", "dropped")
    assert [row["id"] for row in rows] == [f"p{row}" for row in range(ROWS)]
    assert [row["image"] for row in rows] == [encoded(row) for row in range(ROWS)]
    assert [row["tags"] for row in rows] == [["x", str(row)] for row in range(ROWS)]
    assert [row["source_score"] for row in rows] == [1] * ROWS
    ended = sorted(
        [(row["row"], text) for row in rows for text in row["caption"]] + [(one["row"], one["text"]) for one in dropped]
    )
    said = [(row, f"it is {row}") for row in range(ROWS) if row != 7]
    given = [(row, text) for row in range(ROWS) for text in ("a block", f"number {row}")]
    assert ended == sorted(said + given)
    assert {one["why"] for one in dropped} == {"below_threshold"}
    assert all(one["score"] < 0 for one in dropped)
    assert all(score >= 0 for row in rows for score in row["score"])
    assert made.manifest.counts.originals == 2 * ROWS
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []
    assert recaption_stage(settings(pictures_folder, texts, tmp_path / "out"), HERE, Silent()).already


def test_an_interrupted_run_ends_with_the_same_rows_and_scores_nothing_twice(
    pictures_folder: str, texts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recaption_stage(settings(pictures_folder, texts, tmp_path / "whole"), HERE, Silent())
    plain, done = steps.commit_unit, []

    def stops(layout: Any, number: int, packed: Any) -> None:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(number)
        plain(layout, number, packed)

    given = settings(pictures_folder, texts, tmp_path / "cut")
    with monkeypatch.context() as patched:
        patched.setattr(steps, "commit_unit", stops)
        with pytest.raises(KeyboardInterrupt):
            recaption_stage(given, HERE, Silent())
    (work,) = work_towards(resolve(str(tmp_path / "cut")))
    assert (work.stage, work.doing) == ("recaption", "scoring texts of units of rows: 1 of 3")
    made = recaption_stage(given, HERE, Silent()).manifest
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    assert rows_of(tmp_path / "cut", "dropped") == rows_of(tmp_path / "whole", "dropped")
    assert (made.runs[-1].rows_reused, made.runs[-1].rows_encoded) == (64, ROWS - 64)
    assert verify(str(tmp_path / "cut"), quick=False, reporter=Silent()).faults == []


def test_other_settings_texts_and_input_are_refused(pictures_folder: str, texts: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    recaption_stage(settings(pictures_folder, texts, output, limit=10), HERE, Silent())
    with pytest.raises(OutputDiffers, match=r"threshold: was 0.0, now 0.1"):
        recaption_stage(settings(pictures_folder, texts, output, limit=10, threshold=0.1), HERE, Silent())
    others = write_texts(tmp_path / "texts", pictures_folder, {0: ["another"]})
    with pytest.raises(OutputDiffers, match="the texts are not those of"):
        recaption_stage(settings(pictures_folder, others, output, limit=10), HERE, Silent())
    elsewhere = write_pictures(tmp_path / "elsewhere", 4)
    with pytest.raises(UserError, match=r"were written about .*, and not about the files that .*elsewhere now holds"):
        recaption_stage(settings(elsewhere, texts, tmp_path / "other"), HERE, Silent())
    with pytest.raises(UserError, match="make one with `clipmill caption`"):
        recaption_stage(settings(pictures_folder, pictures_folder, tmp_path / "other"), HERE, Silent())


def test_a_threshold_that_cannot_be_chosen_leaves_nothing_behind(
    pictures_folder: str, texts: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="take another --model, or give --threshold"):
        recaption_stage(settings(pictures_folder, texts, tmp_path / "out", threshold=None), HERE, Silent())
    assert list(tmp_path.iterdir()) == []


def test_pictures_in_files_of_their_own_come_with_their_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "files").mkdir(parents=True)
    for row in range(3):
        (folder / f"files/{row}.png").write_bytes(encoded(row))
    paths = ["files/0.png", "files/gone.png", "files/2.png"]
    pq.write_table(pa.table({"key": [5, 6, 7], "image": paths, "text": ["a", "b", "c"]}), folder / "list.parquet")
    texts = write_texts(tmp_path / "texts", str(folder), {0: ["zero"]})
    recaption_stage(settings(str(folder), texts, tmp_path / "out", threshold=-1.0), HERE, Silent())
    rows = rows_of(tmp_path / "out")
    assert [row["image"] for row in rows] == [encoded(0), None, encoded(2)]
    assert [row["source_image"] for row in rows] == paths
    assert [row["key"] for row in rows] == [5, 6, 7]
    assert [row["caption"] for row in rows] == [["a", "zero"], [], ["c"]]
    assert [one["why"] for one in rows_of(tmp_path / "out", "dropped")] == ["image_not_found"]


def test_files_and_row_groups_are_as_small_as_their_pictures_ask(
    pictures_folder: str, texts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recaption_stage(settings(pictures_folder, texts, tmp_path / "one"), HERE, Silent())
    size = sum(len(encoded(row)) for row in range(ROWS)) // ROWS
    monkeypatch.setattr(plan, "FILE_BYTES", 80 * size)
    monkeypatch.setattr(plan, "GROUP_BYTES", 20 * size)
    recaption_stage(settings(pictures_folder, texts, tmp_path / "many"), HERE, Silent())
    files = sorted((tmp_path / "many").glob("captioned/*.parquet"))
    assert len(files) > 1
    assert all(pq.ParquetFile(file).num_row_groups > 1 for file in files)
    assert rows_of(tmp_path / "many") == rows_of(tmp_path / "one")
    assert verify(str(tmp_path / "many"), quick=False, reporter=Silent()).faults == []


def test_a_matching_head_keeps_from_one_half_on(
    pictures_folder: str, texts: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = str(tiny_matcher(tmp_path_factory.mktemp("matcher")).folder)
    given = settings(pictures_folder, texts, tmp_path / "out", threshold=None, filter="itm", model=model, limit=40)
    made = recaption_stage(given, HERE, Silent()).manifest
    assert (made.threshold.value, made.threshold.wrong_kept, made.scorer.engine) == (0.5, None, "itm")
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).faults == []
    scores = [one["score"] for one in rows_of(tmp_path / "out", "dropped")]
    assert scores
    assert max(scores) < 0.5


def test_embed_and_train_read_what_comes_out_as_any_input(pictures_folder: str, texts: str, tmp_path: Path) -> None:
    recaption_stage(settings(pictures_folder, texts, tmp_path / "out", recap_columns=True), HERE, Silent())
    kept = sum(len(row["caption"]) for row in rows_of(tmp_path / "out"))
    embedded = embed_stage(
        EmbedSettings(input=str(tmp_path / "out"), output=str(tmp_path / "embeddings")), HERE, Silent()
    ).manifest
    assert (embedded.counts.images, embedded.counts.captions) == (ROWS, kept)
    assert {"re_caption", "org_clip_score", "source_row"} <= set(embedded.kept_columns)
    learned = TrainSettings(input=str(tmp_path / "out"), output=str(tmp_path / "model"), steps=1, batch_size=8)
    train_stage(learned, HERE, Silent())
    assert (tmp_path / "model" / "open_clip_model.safetensors").stat().st_size > 0


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[list[str]], list[list[str]]]:
    """Scenes with two in five captions exchanged for those of other scenes; the captions, and those that are true."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(SampleSettings(rows=ROWS, seed=5, split="held-out", output=str(folder / "true")), Silent())
    (file,) = (folder / "true").glob("*.parquet")
    table, random = pq.read_table(file), np.random.default_rng(0)
    true = table.column("caption").to_pylist()
    given = [
        [true[random.integers(ROWS)][number] if random.random() < 0.4 else text for number, text in enumerate(texts)]
        for texts in true
    ]
    at = table.column_names.index("caption")
    (folder / "noisy").mkdir()
    pq.write_table(table.set_column(at, "caption", pa.array(given)), folder / "noisy" / "part.parquet")
    return str(folder / "noisy"), given, true


def test_of_noisy_captions_those_that_are_true_are_kept(
    noisy: tuple[str, list[list[str]], list[list[str]]], tmp_path: Path, table_of: Callable[[Path], pa.Table]
) -> None:
    """With the built-in model and the threshold that it chooses; written texts are true of half of the pictures."""
    folder, given, true = noisy
    said = {row: [true[row if row % 2 else (row + 1) % ROWS][0]] for row in range(ROWS)}
    texts = write_texts(tmp_path / "texts", folder, said)
    made = recaption_stage(settings(folder, texts, tmp_path / "out", threshold=None), HERE, Silent()).manifest
    kept = table_of(tmp_path / "out").column("caption").to_pylist()
    right = [text in true[row] for row, texts in enumerate(kept) for text in texts]
    assert np.mean(right) >= 0.95
    originals = [text for row, texts in enumerate(given) for text in texts if text in true[row]]
    saved = [
        text
        for row, (texts, before) in enumerate(zip(kept, given, strict=True))
        for text in before
        if text in true[row] and text in texts
    ]
    assert len(saved) >= 0.9 * len(originals)
    assert made.threshold.wrong_before == pytest.approx(
        1 - np.mean([t in true[r] for r in range(ROWS) for t in given[r]]), abs=0.1
    )


@pytest.fixture
def table_of() -> Callable[[Path], pa.Table]:
    return lambda output: pa.concat_tables([pq.read_table(file) for file in sorted(output.glob("captioned/*.parquet"))])
