"""The file of `clipmill run`: every mistake is told at once, with its line, before any work."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmill.core.errors import UserError
from clipmill.runs.run_file import RunFile, read_run_file
from clipmill_jobs.prune import command as prune_command
from clipmill_jobs.remove import command as remove_command
from clipmill_jobs.rollback import command as rollback_command
from clipmill_jobs.run import command
from clipmill_jobs.versions import command as versions_command
from wholesome import write_whole_embeddings

GOOD = """\
output: {folder}/out
embed:
  input: {folder}/in
  thumbnails: 32
index:
  target_recall: 0.9
gates:
  max_rejects: 1%
  max_row_change: 20%
"""


def written(folder: Path, text: str) -> Path:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in/a.parquet").touch()
    path = folder / "nightly.yaml"
    path.write_text(text.replace("{folder}", str(folder)), encoding="utf-8")
    return path


def read(folder: Path, text: str) -> RunFile:
    return read_run_file(written(folder, text), look_at_places=True)


def problems(folder: Path, text: str) -> list[str]:
    """What is told, each without the name of the file."""
    with pytest.raises(UserError) as raised:
        read(folder, text)
    told = str(raised.value).split("\n")
    assert all(line.startswith(f"{folder / 'nightly.yaml'}:") for line in told)
    return [line.removeprefix(f"{folder / 'nightly.yaml'}:") for line in told]


def test_a_good_file(tmp_path: Path) -> None:
    run = read(tmp_path, GOOD)
    assert run.output == f"{tmp_path}/out"
    assert (run.embed.thumbnails, run.gates.max_rejects, run.gates.max_row_change) == (32, 0.01, 0.2)
    assert run.index is not None
    assert run.evaluate is not None
    assert not (tmp_path / "out").exists()


def test_stages_that_are_switched_off(tmp_path: Path) -> None:
    run = read(tmp_path, GOOD.replace("index:\n  target_recall: 0.9", "index: false"))
    assert run.index is None
    assert run.evaluate is not None
    assert run.evaluate.index is None


def test_all_mistakes_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = """\
embed:
  input: {folder}/in
  thumbnail: 32
  limit: many

index:
  target_recall: 1.5
  embeddings: elsewhere
  shards: 2
  shards: 3
evaluate: false
gate:
  max_rejects: 1%
gates:
  min_t2i_recall_at_10: 0.5
  max_rejects: 101%
"""
    assert problems(tmp_path, text) == [
        "1: `output` must say where versions are published",
        "3: embed.thumbnail is not known; did you mean thumbnails?",
        "4: embed.limit: 'many' is not a whole number; a letter may follow it, such as 500k, 10M or 5e9",
        "7: index.target_recall: must be 1 or less; 1.5 was given",
        "8: index.embeddings follows from `output` and is not set here",
        "10: shards is there twice; leave one out",
        "12: unknown section 'gate'; did you mean gates?",
        "16: gates.max_rejects: a share lies between 0 and 1 (0.01, or 1%); a number of rejects is written without a point",
    ]


def test_a_bar_for_what_is_not_made(tmp_path: Path) -> None:
    text = GOOD + "  min_index_recall: 0.9\n  max_p99_milliseconds: 5\n  min_t2i_recall_at_10: 0.1\nevaluate: false\n"
    assert problems(tmp_path, text.replace("index:\n  target_recall: 0.9", "index: false")) == [
        "9: gates.min_index_recall needs `index`, which is switched off",
        "10: gates.max_p99_milliseconds needs `evaluate`, which is switched off",
        "10: gates.max_p99_milliseconds needs `index`, which is switched off",
        "11: gates.min_t2i_recall_at_10 needs `evaluate`, which is switched off",
    ]


def test_an_index_from_elsewhere_is_not_for_versions_that_grow(tmp_path: Path) -> None:
    text = GOOD.replace("  target_recall: 0.9", "  target_recall: 0.9\n  foreign: image.index")
    assert [line.partition(": ")[2] for line in problems(tmp_path, text)] == [
        "index.foreign is for one index, not for versions that grow; leave it out"
    ]


def test_what_is_missing(tmp_path: Path) -> None:
    assert problems(tmp_path, "output: {folder}/out\nembed:\n  thumbnails: 32\n") == ["2: embed.input is missing"]
    assert problems(tmp_path, "output: {folder}/out\n") == ["1: embed.input is missing"]
    assert problems(tmp_path, "output: {folder}/out\nembed: false\n") == ["2: `embed` must be a section of options"]


def test_places_that_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    text = """\
output: {folder}/file/out
embed:
  input: {folder}/absent
  pretrained: local-dir:/absent/weights
evaluate:
  templates: absent.txt
  probe_train: {folder}/absent
"""
    found = problems(tmp_path, text)
    assert [line.partition(":")[0] for line in found] == ["1", "3", "4", "6", "7"]
    assert found[0] == f"1: output: {tmp_path}/file is a file, and a folder is needed"
    assert f"embed.input: {tmp_path}/absent: there is no such file or folder" in found[1]
    assert found[2] == "4: embed.pretrained: there is no /absent/weights"
    assert "evaluate.templates: there is no file absent.txt, and it is none of" in found[3]
    assert f"evaluate.probe_train: {tmp_path}/absent is no finished dataset" in found[4]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("output: [", "is not YAML"),
        ("- a\n- b\n", "must hold the sections"),
        ("", "must hold the sections"),
        ("output: \x07", "is not YAML"),
    ],
)
def test_what_is_no_such_file(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read(tmp_path, text)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_run_file(tmp_path / "absent.yaml")


def test_the_command_tells_mistakes_without_a_traceback_and_touches_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD.replace("thumbnails", "thumbnial"))
    done = CliRunner().invoke(command, [str(path)])
    assert done.exit_code == 2
    assert f"clipmill run: {path}:4: embed.thumbnial is not known; did you mean thumbnails?" in done.output
    assert not (tmp_path / "out").exists()


def test_commands_on_a_place_where_nothing_was_published(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("a\n")
    embeddings = str(write_whole_embeddings(tmp_path))
    for one, options in (
        (versions_command, []),
        (rollback_command, []),
        (prune_command, ["--keep", "2"]),
        (remove_command, ["--ids", str(ids)]),
    ):
        for place in (str(tmp_path / "absent"), embeddings):
            done = CliRunner().invoke(one, [place, *options])
            assert done.exit_code == 2, done.output
            assert "no version" in done.output
    assert not (tmp_path / "absent").exists()
    assert not (tmp_path / "embeddings/removed.json").exists()
