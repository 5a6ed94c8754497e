"""Bars on a terminal, lines off it, JSON where it is asked for; and never a silence."""

import io
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

from clipmill.core import log
from clipmill.core.errors import UserError
from clipmill.core.reporter import Reporter, Tally
from clipmill_jobs import reporting
from clipmill_jobs.__main__ import JOBS, main
from clipmill_jobs.command import Job
from clipmill_jobs.pace import duration
from clipmill_jobs.reporters import Bars, Lines
from clipmill_jobs.reporting import current, reporter_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def work(reporter: Reporter) -> None:
    reporter.message("embed", "loading the model")
    reporter.progress("embed", 0, 20, "rows")
    reporter.progress("embed", 20, 20, "rows")


def test_a_terminal_gets_a_bar_for_a_stage() -> None:
    stream = Terminal()
    work(reporter_for(stream, as_json=False))
    assert "embed: loading the model\n" in stream.getvalue()
    assert "embed: 100%|" in stream.getvalue()
    assert "20/20" in stream.getvalue()


def test_off_a_terminal_there_are_whole_lines_and_no_carriage_return() -> None:
    stream = io.StringIO()
    work(reporter_for(stream, as_json=False))
    assert stream.getvalue() == "embed: loading the model\nembed: 100% (20 of 20 rows), took 0 s\n"


def test_off_a_terminal_progress_is_one_line_in_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    for second in range(31):
        lines.progress("embed", second * 100, 6000, "rows")
        lines.beat()
        clock.now += 1
    assert stream.getvalue().splitlines() == [
        "embed: 17% (1,000 of 6,000 rows), 100 rows/s, 50 s left",
        "embed: 33% (2,000 of 6,000 rows), 100 rows/s, 40 s left",
        "embed: 50% (3,000 of 6,000 rows), 100 rows/s, 30 s left",
    ]


def test_rows_of_an_earlier_run_do_not_count_into_the_speed() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    lines.progress("embed", 5_000, 6_000, "rows")
    clock.now += 10
    lines.progress("embed", 5_100, 6_000, "rows")
    assert stream.getvalue().splitlines() == [
        "embed: continuing, 5,000 of 6,000 rows are done",
        "embed: 85% (5,100 of 6,000 rows), 10.0 rows/s, 90 s left",
    ]
    terminal = Terminal()
    bars = Bars(terminal)
    bars.progress("embed", 5_000, 6_000, "rows")
    bars.progress("embed", 5_100, 6_000, "rows")
    assert bars._bars["embed"].initial == 5_000
    bars.close()


def test_off_a_terminal_ten_seconds_of_silence_are_followed_by_what_is_being_done() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    lines.message("index", "training on 25,600 vectors")
    for _ in range(25):
        clock.now += 1
        lines.beat()
    assert stream.getvalue().splitlines() == [
        "index: training on 25,600 vectors",
        "index: training on 25,600 vectors (10 s)",
        "index: training on 25,600 vectors (20 s)",
    ]


def test_a_terminal_is_told_again_after_five_seconds_on_a_line_that_goes_when_there_is_news() -> None:
    stream, clock = Terminal(), Clock()
    bars = Bars(stream, clock)
    bars.message("index", "training")
    clock.now += 5
    bars.beat()
    assert stream.getvalue().endswith("index: training (5 s)")
    bars.message("index", "filling")
    assert stream.getvalue().endswith("index: filling\n")
    bars.close()


def test_progress_of_another_unit_is_another_bar() -> None:
    stream = Terminal()
    bars = Bars(stream)
    bars.progress("verify", 0, 4, "files")
    bars.progress("verify", 4, 4, "files")
    bars.progress("verify", 0, 2_000_000, "B")
    bars.progress("verify", 2_000_000, 2_000_000, "B")
    assert "4/4" in stream.getvalue()
    assert "2.00M/2.00M" in stream.getvalue()


def test_what_never_reaches_its_total_is_told_when_the_command_ends() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.progress("verify", 0, 20, "files")
    lines.progress("verify", 12, 20, "files")
    lines.close()
    assert stream.getvalue().startswith("verify: 60% (12 of 20 files)")


def test_threads_may_share_a_tally() -> None:
    told: list[int] = []

    class Counting:
        def message(self, stage: str, text: str) -> None: ...

        def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
            told.append(done)

    tally = Tally(Counting(), "verify", 800, "B")
    threads = [threading.Thread(target=lambda: [tally.add(1) for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == list(range(801))


def test_a_reader_that_has_gone_does_not_stop_the_work() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    work(reporter_for(Gone(), as_json=False))


@pytest.mark.parametrize(("seconds", "words"), [(3.2, "3 s"), (150, "2.5 min"), (9000, "2.5 h"), (200_000, "2.3 d")])
def test_a_length_of_time_is_in_the_unit_that_suits_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_command_that_says_nothing_is_spoken_for_within_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "_FIRST_WORD_SECONDS", 0.05)
    waiting = threading.Event()

    @click.command("slow", cls=Job, doing="reading the manifest")
    def slow() -> None:
        waiting.wait(0.5)

    assert CliRunner().invoke(slow).stderr == "slow: reading the manifest\n"


def test_a_command_that_ends_at_once_says_nothing_of_itself() -> None:
    @click.command("quick", cls=Job)
    def quick() -> None:
        click.echo("done")

    assert CliRunner().invoke(quick).output == "done\n"


def test_a_command_that_fails_at_once_tells_its_failure_and_nothing_else() -> None:
    @click.command("quick", cls=Job)
    def quick() -> None:
        current().message("quick", "reading the manifest")
        raise UserError("there is no manifest")

    assert CliRunner().invoke(quick).stderr == "clipmill quick: there is no manifest\n"


def test_a_command_that_ends_well_at_once_tells_all_it_had_to_say() -> None:
    @click.command("work", cls=Job)
    def moves() -> None:
        current().message("work", "loading the model")
        current().message("work", "embedding 2 rows")
        current().progress("work", 0, 2, "rows")
        current().progress("work", 2, 2, "rows")
        current().message("work", "publishing")

    assert CliRunner().invoke(moves).stderr.splitlines() == [
        "work: loading the model",
        "work: embedding 2 rows",
        "work: 100% (2 of 2 rows), took 0 s",
        "work: publishing",
    ]


def test_a_notice_goes_above_the_bar() -> None:
    stream = Terminal()
    reporter = reporter_for(stream, as_json=False)
    reporter.progress("embed", 1, 20, "rows")
    reporter.text("waiting up to 90 s")
    assert "waiting up to 90 s\n" in stream.getvalue()
    reporter.close()


MISTAKES: dict[str, list[str]] = {
    "demo": ["--rows", "0"],
    "sample": ["--rows", "no"],
    "import": ["csv", "{nowhere}", "--output", "{nowhere}/out"],
    "embed": ["--input", "{nowhere}", "--output", "{nowhere}/out"],
    "index": ["--embeddings", "{nowhere}", "--output", "{nowhere}/out"],
    "search": ["--index", "{nowhere}", "--text", "x"],
    "explore": ["{nowhere}", "--no-browser"],
    "serve": ["{nowhere}", "--port", "0"],
    "export": ["lance", "--embeddings", "{nowhere}", "--output", "{nowhere}/out"],
    "dedup": ["--embeddings", "{nowhere}", "--output", "{nowhere}/out"],
    "filter": ["--embeddings", "{nowhere}", "--output", "{nowhere}/out"],
    "caption": ["--input", "{nowhere}", "--output", "{nowhere}/out"],
    "ask": ["--input", "{nowhere}", "--output", "{nowhere}/out"],
    "recaption": ["--input", "{nowhere}", "--texts", "{nowhere}", "--output", "{nowhere}/out"],
    "evaluate": ["--embeddings", "{nowhere}", "--output", "{nowhere}/out"],
    "compare": ["{nowhere}/a", "{nowhere}/b", "--output", "{nowhere}/out"],
    "train": ["--input", "{nowhere}", "--output", "{nowhere}/out", "--batch-size", "1"],
    "run": ["{nowhere}/run.yaml"],
    "versions": ["{nowhere}"],
    "rollback": ["{nowhere}"],
    "prune": ["{nowhere}", "--keep", "1"],
    "remove": ["{nowhere}", "--ids", "{nowhere}/ids"],
    "status": ["{nowhere}"],
    "plan": [],
    "simulate": ["--rows", "5M", "--machine", "abacus"],
    "models": ["no-such-model"],
    "cache": ["purge", "--to", "much"],
    "doctor": ["ftp://nowhere/x"],
    "verify": ["{nowhere}"],
}


@pytest.mark.parametrize("name", JOBS)
def test_with_log_json_stderr_of_every_command_is_json_and_nothing_else(name: str, tmp_path: object) -> None:
    arguments = [argument.format(nowhere=f"{tmp_path}/nowhere") for argument in MISTAKES[name]]
    done = CliRunner().invoke(main, [name, *arguments, "--log-json"], prog_name="clipmill")
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert (told[0]["event"], told[-1]["event"]) == ("command started", "command finished")
    assert (done.exit_code, told[-1]["exit_code"]) == (2, 2)
    assert told[-1]["error"]
    assert not log.as_json()


@pytest.mark.parametrize(
    "arguments",
    [
        ["serch", "--log-json"],
        ["embed", "--inptu", "x", "--log-json"],
        ["prune", "--log-json"],
        ["import", "cvs", "--log-json"],
    ],
)
def test_a_mistake_in_the_command_line_is_json_too(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, arguments, prog_name="clipmill")
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.exit_code, told[-1]["exit_code"]) == (2, 2)


@pytest.mark.parametrize("name", JOBS)
def test_without_it_every_mistake_is_one_sentence(name: str, tmp_path: object) -> None:
    arguments = [argument.format(nowhere=f"{tmp_path}/nowhere") for argument in MISTAKES[name]]
    done = CliRunner().invoke(main, [name, *arguments], prog_name="clipmill")
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr
    assert '"event"' not in done.stderr


PROGRAM = """
import click, time
from clipmill_jobs.command import Job
from clipmill_jobs.reporting import current

@click.command("work", cls=Job)
def work():
    for done in range(4):
        current().progress("work", done, 3, "rows")
        time.sleep(0.05)
work()
"""


def on_a_terminal(*arguments: str) -> str:
    """What a program writes to a terminal that is its stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stderr=theirs)
    os.close(theirs)
    told = b""
    try:
        while piece := os.read(ours, 4096):
            told += piece
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return told.decode()


@pytest.mark.parametrize(
    ("arguments", "sees"),
    [([], lambda told: "work: 100%|" in told and "\r" in told), (["--log-json"], lambda told: '"progress"' in told)],
)
def test_a_real_terminal_has_a_bar_unless_json_is_asked_for(arguments: list[str], sees: Callable[[str], bool]) -> None:
    told = on_a_terminal(*arguments)
    assert sees(told)
    assert ("%|" in told) == (not arguments)


def test_the_reporter_of_a_command_is_found_from_within() -> None:
    found = []

    @click.command("asks", cls=Job)
    def asks() -> None:
        found.append((current(), current()))

    CliRunner().invoke(asks)
    assert found[0][0] is found[0][1]
