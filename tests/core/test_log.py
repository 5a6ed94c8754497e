"""Events are one JSON line each on stderr, only where they are asked for; notices are text, or JSON too."""

import io
import json
import logging
import warnings

import click
import pytest
from click.testing import CliRunner

from clipmill.core import log
from clipmill.core.errors import UserError
from clipmill_jobs.command import Job, say
from clipmill_jobs.reporting import current


@click.command("work", cls=Job)
@click.option("--fail", is_flag=True)
def work(fail: bool) -> None:
    """Something that is done."""
    say("work", "beginning")
    for done in (3, 7, 10):
        current().progress("work", done, 10, "rows")
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
    monkeypatch.setenv(log.VARIABLE, "json")
    assert lines()[0]["event"] == "command started"


def test_without_being_asked_for_there_are_none() -> None:
    done = CliRunner().invoke(work, ["--fail"])
    assert "work: beginning" in done.stderr
    assert 'clipmill work: a "name"' in done.stderr
    assert '"event"' not in done.stderr
    assert not log.as_json()


def test_of_many_steps_the_last_is_always_told() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log.JsonFormatter())
    with log.handled_by(handler):
        steps = log.Steps("progress", seconds=3600)
        for done in range(100):
            steps.note(done=done)
        steps.end()
        steps.end()
    (only,) = stream.getvalue().splitlines()
    assert json.loads(only)["done"] == 99


def test_a_notice_of_the_library_is_text_or_an_event_as_is_asked_for() -> None:
    notice = logging.getLogger("clipmill.storage.lease")

    @click.command("wait", cls=Job)
    def wait() -> None:
        notice.info("waiting up to %d s", 90)
        notice.warning("the store has no conditional writes")

    done = CliRunner().invoke(wait)
    assert done.stderr.splitlines() == ["waiting up to 90 s", "warning: the store has no conditional writes"]
    told = [json.loads(line) for line in CliRunner().invoke(wait, ["--log-json"]).stderr.splitlines()]
    assert [(one["event"], one["message"]) for one in told[1:-1]] == [
        ("notice", "waiting up to 90 s"),
        ("warning", "the store has no conditional writes"),
    ]
    assert told[1]["logger"] == "clipmill.storage.lease"


def test_an_error_nobody_expected_and_a_warning_of_python_are_events_too() -> None:
    @click.command("fall", cls=Job)
    def fall() -> None:
        warnings.warn("old", stacklevel=1)
        raise ZeroDivisionError("by zero")

    done = CliRunner().invoke(fall, ["--log-json"])
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.exit_code == 1
    assert [one["event"] for one in told] == ["command started", "warning", "warning", "command finished"]
    assert "ZeroDivisionError" in told[2]["traceback"]
    assert told[-1]["error"] == "ZeroDivisionError: by zero"


def test_a_handler_is_gone_when_the_command_has_ended() -> None:
    before = list(log.LOGGER.handlers)
    lines("--log-json")
    assert log.LOGGER.handlers == before
    assert log.LOGGER.propagate
