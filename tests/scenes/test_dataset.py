"""`clipmill sample` writes the same bytes for the same command, in bounded files, whole or not at all."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import SampleSettings
from clipmill.scenes import dataset
from clipmill.scenes.captions import captions, naming_captions, negative_captions, placing_captions
from clipmill.scenes.dataset import write_scenes
from clipmill.scenes.questions import practised
from clipmill.scenes.scene import scene_of_row
from clipmill.stage.status import work_towards
from clipmill_jobs.sample import command


def make(folder: Path, rows: int, **options: object) -> Path:
    write_scenes(SampleSettings(output=str(folder), rows=rows, image_size=32, **options), Silent())
    return folder


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "ROWS_PER_FILE", 40)
    monkeypatch.setattr(dataset, "ROWS_PER_GROUP", 15)


def files(folder: Path) -> dict[str, bytes]:
    """Its Parquet files; the manifest beside them says when and where they were made."""
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def rows_of(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])


def test_files_hold_a_bounded_number_of_rows_and_nothing_else_lies_beside_them(tmp_path: Path) -> None:
    out = make(tmp_path / "out", 100)
    manifest, *parts = sorted(out.iterdir())
    assert manifest.name == "manifest.json"
    assert [part.name for part in parts] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    metadata = [pq.ParquetFile(part).metadata for part in parts]
    assert [file.num_rows for file in metadata] == [40, 40, 20]
    assert max(file.row_group(at).num_rows for file in metadata for at in range(file.num_row_groups)) == 15
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    assert files(make(tmp_path / "a", 50, seed=7)) == files(make(tmp_path / "b", 50, seed=7))


def test_rows_do_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few, many = make(tmp_path / "few", 50), make(tmp_path / "many", 90)
    assert rows_of(few).equals(rows_of(many).slice(0, 50))
    assert files(few)["part-00000.parquet"] == files(many)["part-00000.parquet"]


def test_seed_and_split_change_the_data(tmp_path: Path) -> None:
    scenes = [
        rows_of(make(tmp_path / name, 30, **options)).column("scene").to_pylist()
        for name, options in {"a": {}, "b": {"seed": 1}, "c": {"split": "train"}}.items()
    ]
    assert len({tuple(column) for column in scenes}) == 3


def test_columns_say_what_the_scene_is(tmp_path: Path) -> None:
    for number, row in enumerate(rows_of(make(tmp_path / "out", 60, seed=3)).to_pylist()):
        scene, _ = scene_of_row("held-out", 3, number)
        assert row["scene"] == scene.description
        assert row["label"] == f"{scene.main.colour} {scene.main.shape}"
        assert row["caption"] == captions(scene)
        assert row["negative_caption"] == negative_captions(scene)
        assert row["objects"] == 1 + len(scene.others)
        assert row["image"]["bytes"].startswith(b"\xff\xd8")
    assert len(set(rows_of(tmp_path / "out").column("id").to_pylist())) == 60


def test_training_rows_also_carry_captions_that_teach_one_thing(tmp_path: Path) -> None:
    row = rows_of(make(tmp_path / "out", 1, split="train")).to_pylist()[0]
    scene, _ = scene_of_row("train", 0, 0)
    whole = captions(scene) + naming_captions(scene)
    assert row["caption"] == whole
    placed = row["training_caption"][len(whole) :]
    assert row["training_caption"][: len(whole)] == whole
    assert len(set(placed)) == len(placed) == min(3, len(placing_captions(scene)))
    assert set(placed) <= set(placing_captions(scene))
    assert row["teaching_caption"] == naming_captions(scene) + placing_captions(scene)
    held_out = rows_of(make(tmp_path / "held-out", 1)).to_pylist()[0]
    assert held_out["teaching_caption"] == []


def test_rows_carry_the_questions_that_are_learned_from_with_their_answers(tmp_path: Path) -> None:
    for number, row in enumerate(rows_of(make(tmp_path / "out", 20, split="train")).to_pylist()):
        scene, _ = scene_of_row("train", 0, number)
        learned = list(zip(row["training_questions"], row["training_answers"], strict=True))
        assert learned == [(one.question, one.answer) for one in practised(scene)]
        assert set(learned) <= set(zip(row["questions"], row["answers"], strict=True))


def test_a_finished_dataset_is_not_made_again(tmp_path: Path) -> None:
    out = make(tmp_path / "out", 50)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert write_scenes(SampleSettings(output=str(out), rows=50, image_size=32), Silent()).already
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}


@pytest.mark.parametrize("other", [{"rows": 60}, {"rows": 50, "seed": 1}, {"rows": 50, "split": "train"}])
def test_another_dataset_is_replaced_only_when_asked(tmp_path: Path, other: dict[str, object]) -> None:
    out = make(tmp_path / "out", 50)
    before = files(out)
    name = "seed" if "seed" in other else "split" if "split" in other else "rows"
    with pytest.raises(UserError, match=f"{name}: was .*--overwrite"):
        make(out, **other)
    assert files(out) == before
    assert files(make(out, overwrite=True, **other)) == files(make(tmp_path / "fresh", **other))


def test_an_interrupted_run_publishes_nothing_and_is_continued(tmp_path: Path) -> None:
    out = tmp_path / "out"

    class Interrupted(Exception):
        pass

    class Impatient(Silent):
        def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
            if done > 60:
                raise Interrupted

    settings = SampleSettings(output=str(out), rows=100, image_size=32)
    with pytest.raises(Interrupted):
        write_scenes(settings, Impatient())
    assert not out.exists()
    (kept,) = tmp_path.glob(".out.staging/*/dataset/part-00000.parquet")
    kept_at = kept.stat().st_mtime_ns
    (found,) = work_towards(storage.resolve(out))
    assert (found.stage, found.done, found.planned, found.doing) == ("sample", 33, 100, "rendering files: 1 of 3")
    made = write_scenes(settings, Silent())
    assert not made.already
    assert [(run.rows_reused, run.rows_encoded) for run in made.manifest.runs] == [(0, 40), (40, 60)]
    assert (out / "part-00000.parquet").stat().st_mtime_ns == kept_at
    assert files(out) == files(make(tmp_path / "straight", 100))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def test_the_command_makes_data_says_when_it_is_there_and_refuses_other_data(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    options = ["--output", out, "--image-size", "32", "--seed", "2"]
    first = run(*options, "--rows", "20", "--json")
    assert first.exit_code == 0
    assert json.loads(first.stdout) == {"output": out, "rows": 20, "made": True}
    again = run(*options, "--rows", "20", "--json")
    assert again.exit_code == 0
    assert "already complete" in again.stderr
    assert not json.loads(again.stdout)["made"]
    other = run(*options, "--rows", "21")
    assert other.exit_code == 2
    assert "--overwrite" in other.stderr


def test_bad_options_are_one_sentence(tmp_path: Path) -> None:
    result = run("--output", str(tmp_path / "out"), "--rows", "0", "--image-size", "5")
    assert result.exit_code == 2
    assert "--rows" in result.stderr
    assert "--image-size" in result.stderr
    assert "Traceback" not in result.stderr
