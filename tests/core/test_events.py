"""Events are one JSON line each on stderr, only where they are asked for."""

import json

import click
import pytest
from click.testing import CliRunner

from clipmill.core import events
from clipmill.core.errors import UserError
from clipmill_jobs.command import Job, progress, say


@click.command("work", cls=Job)
@click.option("--fail", is_flag=True)
def work(fail: bool) -> None:
    """Something that is done."""
    say("work", "beginning")
    with progress(10, "rows", "work") as on_progress:
        on_progress.found_done(3)
        on_progress(4)
        on_progress(3)
    if fail:
        raise UserError('a "name"\nof two lines')


def lines(*arguments: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(work, list(arguments))
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_of_stderr_is_one_event() -> None:
    told = lines("--log-json")
    assert [one["event"] for one in told] == ["command started", "stage", "continued", "progress", "command finished"]
    assert all(str(one["time"]).endswith("+00:00") for one in told)
    assert told[1] | {"time": ""} == {"time": "", "event": "stage", "stage": "work", "message": "beginning"}
    assert {key: told[3][key] for key in ("stage", "done", "total", "unit")} == {
        "stage": "work",
        "done": 10,
        "total": 10,
        "unit": "rows",
    }
    assert told[-1]["exit_code"] == 0


def test_a_failure_is_an_event_with_its_words_and_nothing_else() -> None:
    told = lines("--log-json", "--fail")
    assert (told[-1]["event"], told[-1]["exit_code"]) == ("command finished", 2)
    assert told[-1]["error"] == 'a "name"\nof two lines'
    assert CliRunner().invoke(work, ["--log-json", "--fail"]).exit_code == 2


def test_the_environment_asks_for_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(events.VARIABLE, "json")
    assert lines()[0]["event"] == "command started"


def test_without_being_asked_for_there_are_none() -> None:
    done = CliRunner().invoke(work, ["--fail"])
    assert "work: beginning" in done.stderr
    assert 'clipmill work: a "name"' in done.stderr
    assert '"event"' not in done.stderr
    assert not events.as_json()


def test_of_many_steps_the_last_is_always_told(capsys: pytest.CaptureFixture[str]) -> None:
    with events.switched_on():
        steps = events.Steps("progress", seconds=3600)
        for done in range(100):
            steps.note(done=done)
        steps.end()
        steps.end()
    (only,) = capsys.readouterr().err.splitlines()
    assert json.loads(only)["done"] == 99
