"""The hook of a run file is told how a run ended, and a summary lies at its output."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmill.core.errors import UserError
from clipmill.runs import version_run
from clipmill.runs.run_file import read_run_file
from clipmill.storage.lease import Lease
from clipmill.versions.place import Place
from clipmill_jobs.run import command


def written(folder: Path, hook: str) -> Path:
    (folder / "in").mkdir()
    (folder / "in/a.parquet").touch()
    path = folder / "nightly.yaml"
    path.write_text(f"output: {folder}/out\nembed:\n  input: {folder}/in\n{hook}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("options", [[], ["--wait", "0.1"]])
def test_a_run_that_finds_another_at_work_tells_its_hook_and_leaves_the_summary_there_alone(
    tmp_path: Path, options: list[str]
) -> None:
    told = tmp_path / "told"
    config = written(tmp_path, f'hook: "cat $CLIPMILL_SUMMARY > {told}"')
    (tmp_path / "out").mkdir()
    (tmp_path / "out/summary.json").write_text("of the run that is at work, or of the one before")
    with Lease.acquire(Place.of(f"{tmp_path}/out").run_lock):
        done = CliRunner().invoke(command, [str(config), *options])
    assert done.exit_code == 2
    summary = json.loads(told.read_text())
    assert (summary["status"], summary["exit_code"]) == ("failure", done.exit_code)
    assert "another run" in summary["error"]
    assert summary["configuration"] == str(config)
    assert (tmp_path / "out/summary.json").read_text() == "of the run that is at work, or of the one before"


def test_a_run_that_was_taken_for_dead_leaves_the_summary_of_the_other_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mark is gone when it looks after it, as when it was asleep for too long."""

    class Overtaken:
        def __init__(self, run: object, place: Place, seen: object, lease: Lease, *told: object) -> None:
            self.lease = lease

        def publish(self) -> None:
            (tmp_path / "out/run.owner.json").write_text("{}")
            (tmp_path / "out/summary.json").write_text("of the other")
            self.lease.check()

    monkeypatch.setattr(version_run, "VersionRun", Overtaken)
    done = CliRunner().invoke(command, [str(written(tmp_path, "hook: 'true'"))])
    assert done.exit_code == 1
    assert "another run took over" in done.output
    assert (tmp_path / "out/summary.json").read_text() == "of the other"


@pytest.mark.parametrize("hook", ["hook: [curl]", "hook: ''", "hook: 7"])
def test_a_hook_that_is_no_command_line_is_refused_with_its_line(tmp_path: Path, hook: str) -> None:
    with pytest.raises(UserError, match=r"nightly\.yaml:4: `hook` must be a command line"):
        read_run_file(written(tmp_path, hook))
