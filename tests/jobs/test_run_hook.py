"""The hook of a run file is told how a run ended, and a summary lies at its output."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.run import command
from pipeline.errors import UserError
from pipeline.owner import owned
from pipeline.publish.place import Place
from pipeline.run_file import read_run_file


def written(folder: Path, hook: str) -> Path:
    (folder / "in").mkdir()
    (folder / "in/a.parquet").touch()
    path = folder / "nightly.yaml"
    path.write_text(f"output: {folder}/out\nembed:\n  input: {folder}/in\n{hook}\n", encoding="utf-8")
    return path


def test_a_run_that_finds_another_at_work_tells_its_hook(tmp_path: Path) -> None:
    told = tmp_path / "told"
    config = written(tmp_path, f'hook: "echo $CLIPMILL_STATUS $CLIPMILL_EXIT_CODE > {told}"')
    with owned(Place.of(f"{tmp_path}/out").lock):
        done = CliRunner().invoke(command, [str(config)])
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert done.exit_code != 0
    assert told.read_text() == f"failure {done.exit_code}\n"
    assert (summary["status"], summary["exit_code"]) == ("failure", done.exit_code)
    assert "another run" in summary["error"]
    assert summary["configuration"] == str(config)


@pytest.mark.parametrize("hook", ["hook: [curl]", "hook: ''", "hook: 7"])
def test_a_hook_that_is_no_command_line_is_refused_with_its_line(tmp_path: Path, hook: str) -> None:
    with pytest.raises(UserError, match=r"nightly\.yaml:4: `hook` must be a command line"):
        read_run_file(written(tmp_path, hook))
