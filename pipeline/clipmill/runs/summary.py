"""What became of a run, for machines: `summary.json`, and a command of the user's that is told when it has ended."""

import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from clipmill import storage
from clipmill.core import log
from clipmill.core.errors import ClipmillError, Terminated
from clipmill.core.manifests import Record
from clipmill.storage import Location

_LOG = logging.getLogger(__name__)
SUMMARY_VERSION = 1
SUMMARY_FILE = "summary.json"
HOOK_SECONDS = 60.0
Status = Literal["success", "failure"]


class StageSummary(Record):
    """One stage: ``output`` is where its dataset lies, ``figures`` what was counted and measured in it."""

    name: str
    status: Status
    seconds: float
    output: str | None
    figures: dict[str, Any]


class RunSummary(Record):
    """``summary.json``. ``exit_code`` is that of the command: 0 done, 1 failed, 2 bad usage, 3 a bar was missed, 130 and
    143 interrupted; ``error`` says why in the words that the user is told. ``figures`` are of the whole run."""

    schema_version: int = SUMMARY_VERSION
    command: str
    configuration: str
    output: str
    status: Status
    exit_code: int
    error: str | None
    started: datetime
    finished: datetime
    seconds: float
    stages: list[StageSummary]
    figures: dict[str, Any]


class StageRecord:
    """A stage while it goes on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.output: str | None = None
        self.figures: dict[str, Any] = {}

    def note(self, output: str | None = None, **figures: Any) -> None:
        """Where the stage's dataset lies, and figures by name; may be called several times."""
        self.output = output or self.output
        self.figures.update(figures)


class RunRecord:
    """A run while it goes on: its stages in order, and figures of the whole. Without ``owns_output`` another run works
    there, and the summary of that one is left alone."""

    def __init__(self) -> None:
        self.stages: list[StageSummary] = []
        self.figures: dict[str, Any] = {}
        self.owns_output = True

    def note(self, **figures: Any) -> None:
        """Figures of the whole run by name: the version that was published, the bars it was judged by."""
        self.figures.update(figures)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageRecord]:
        """Times a stage, and writes down how it ended; what it raises passes through."""
        stage, started = StageRecord(name), time.monotonic()
        log.emit("stage started", stage=name)
        status: Status = "failure"
        try:
            yield stage
            status = "success"
        finally:
            seconds = round(time.monotonic() - started, 3)
            ended = StageSummary(name=name, status=status, seconds=seconds, output=stage.output, figures=stage.figures)
            self.stages.append(ended)
            log.emit("stage finished", stage=name, **ended.model_dump(exclude={"name"}))


@contextmanager
def recorded(
    output: Location, *, command: str, configuration: str, hook: str | None, hook_seconds: float = HOOK_SECONDS
) -> Iterator[RunRecord]:
    """A run from its beginning to its end, however it ends: then ``output/summary.json`` is written, where the output is
    this run's, and the hook is run.

    What the run raises passes through. Neither a summary that cannot be written nor a hook that fails changes how the
    run ended: both are told on stderr.
    """
    record, started, clock = RunRecord(), datetime.now(timezone.utc), time.monotonic()
    error: BaseException | None = None
    try:
        yield record
    except BaseException as raised:
        error = raised
        raise
    finally:
        summary = RunSummary(
            command=command,
            configuration=configuration,
            output=output.uri,
            status="success" if error is None else "failure",
            exit_code=exit_code_of(error),
            error=_said(error),
            started=started,
            finished=datetime.now(timezone.utc),
            seconds=round(time.monotonic() - clock, 3),
            stages=record.stages,
            figures=record.figures,
        )
        written = record.owns_output and write_summary(output, summary)
        if hook:
            run_hook(hook, summary, output / SUMMARY_FILE if written else None, hook_seconds)


def write_summary(output: Location, summary: RunSummary) -> bool:
    """Writes ``summary.json`` into a folder, whole or not at all; whether that could be done."""
    try:
        storage.write_bytes(output / SUMMARY_FILE, summary.model_dump_json(indent=2).encode())
    except (ClipmillError, OSError) as error:
        _warn(f"{output / SUMMARY_FILE} could not be written: {error}")
        return False
    return True


def read_summary(output: Location) -> RunSummary | None:
    """The summary of the last run towards an output; None where there is none that can be read."""
    try:
        return RunSummary.model_validate_json(storage.read_bytes(output / SUMMARY_FILE))
    except (OSError, ValueError):
        return None


def run_hook(hook: str, summary: RunSummary, place: Location | None, seconds: float = HOOK_SECONDS) -> bool:
    """Runs the user's command line in a shell and waits for it, at most so many seconds; whether it ended well.

    It finds CLIPMILL_STATUS (success or failure), CLIPMILL_EXIT_CODE, CLIPMILL_OUTPUT and CLIPMILL_SUMMARY, a local file
    that holds the summary, in its environment. What it prints goes to stderr. Never raises.
    """
    with tempfile.TemporaryDirectory(prefix="clipmill-hook-") as folder:
        if place is not None and place.is_local:
            path = Path(place.path)
        else:
            path = Path(folder) / SUMMARY_FILE
            path.write_text(summary.model_dump_json(indent=2), encoding="utf-8")
        environment = {
            **os.environ,
            "CLIPMILL_STATUS": summary.status,
            "CLIPMILL_EXIT_CODE": str(summary.exit_code),
            "CLIPMILL_OUTPUT": summary.output,
            "CLIPMILL_SUMMARY": str(path),
        }
        failure = _run(hook, environment, seconds)
    if failure:
        _warn(f"the hook {failure}; the run itself ended as it did before")
    return failure is None


def _run(hook: str, environment: dict[str, str], seconds: float) -> str | None:
    """None where the command ended well, else how it did. With a shell that is given up go the processes it started."""
    try:
        process = subprocess.Popen(
            hook,
            shell=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return f"could not be started: {error}"
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"did not end within {seconds:g} s and was stopped"
    text = said.decode(errors="replace").strip()
    if text:
        _tell(text)
    return f"failed with exit code {process.returncode}" if process.returncode else None


def exit_code_of(error: BaseException | None) -> int:
    """The exit code that a command has when it ends with this error; None: it ended well."""
    if error is None:
        return 0
    if isinstance(error, ClipmillError):
        return error.exit_code
    if isinstance(error, Terminated):
        return 143
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 1


def _said(error: BaseException | None) -> str | None:
    if error is None or isinstance(error, ClipmillError):
        return str(error) if error else None
    if isinstance(error, KeyboardInterrupt):
        return "terminated" if isinstance(error, Terminated) else "interrupted"
    return f"{type(error).__name__}: {error}"


def _warn(what: str) -> None:
    _LOG.warning(what)


def _tell(text: str) -> None:
    log.emit("hook", text, output=text)
