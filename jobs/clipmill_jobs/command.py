"""What all commands share: how they fail, how they are told apart, and how they print JSON."""

import difflib
import errno
import json
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from clipmill.core import log
from clipmill.core.errors import ClipmillError, Terminated
from clipmill.core.secrets import clean
from clipmill.core.settings import SettingsModel
from clipmill_jobs.options import format_grouped
from clipmill_jobs.reporters import StderrReporter
from clipmill_jobs.reporting import current, installed, set_current

_LOG_JSON = "clipmill.log_json"


class _JsonMistakes(click.Command):
    """Tells a mistake in the command line as JSON where that is asked for."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As of every click command."""
        name, as_json = str(self.name), "--log-json" in args or log.as_json()
        with _mistakes_told(name, as_json=as_json):
            return super().make_context(info_name, args, parent, **extra)


class Job(_JsonMistakes):
    """A click command whose failures are one sentence on stderr and the exit code of their kind.

    ``doing`` is what it is said to do where it has said nothing itself for a second.
    """

    def __init__(self, *arguments: Any, doing: str = "looking at what is there", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._doing = doing
        self.params.append(
            click.Option(
                ["--log-json"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_note_log_json,
                help="Write one JSON line per event to stderr, as with CLIPMILL_LOG=json.",
            )
        )

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the options under the headings of their groups."""
        format_grouped(self, context, formatter)

    def invoke(self, context: click.Context) -> Any:
        """Runs the command; its failures end the process with the exit code of their kind."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _terminate)
        as_json = bool(context.meta.get(_LOG_JSON)) or log.as_json()
        with installed(str(self.name), self._doing, as_json=as_json) as reporter:
            set_current(context, reporter)
            return self._run(context, reporter, as_json=as_json)

    def _run(self, context: click.Context, reporter: StderrReporter, *, as_json: bool) -> Any:
        ended = _command_events(str(self.name))
        try:
            result = super().invoke(context)
        except click.exceptions.Exit as left:
            ended(left.exit_code)
            raise
        except ClipmillError as error:
            self._tell(str(error), reporter, as_json=as_json)
            ended(error.exit_code, str(error))
            if error.work_goes_on:
                _leave(error.exit_code)
            context.exit(error.exit_code)
        except (RecursionError, PermissionError) as error:
            said = _in_words(error)
            self._tell(said, reporter, as_json=as_json)
            ended(2, said)
            context.exit(2)
        except BaseException as error:
            stopped = _stop_behind(error)
            if stopped is not None:
                how, code = ("terminated", 143) if isinstance(stopped, Terminated) else ("interrupted", 130)
                self._tell(f"{how}; run the same command again to continue", reporter, as_json=as_json)
                ended(code, how)
                _leave(code)
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                said = clean(
                    f"{_NO_ROOM[error.errno]}{_named(error)}: make room, and run the same command again to continue"
                )
                self._tell(said, reporter, as_json=as_json)
                ended(1, said)
                context.exit(1)
            if not as_json or isinstance(error, click.ClickException):
                raise
            logging.getLogger("clipmill").error("the command failed", exc_info=error)
            ended(1, f"{type(error).__name__}: {error}")
            context.exit(1)
        reporter.release()
        reporter.close()
        ended(0)
        return result

    def _tell(self, failure: str, reporter: StderrReporter, *, as_json: bool) -> None:
        reporter.close()
        if not as_json:
            reporter.text(clean(f"clipmill {self.name}: {failure}"))


class Group(_JsonMistakes, click.Group):
    """A group of commands that names the one which was meant where there is none of a name."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As of every click group."""
        name, names = args[0], self.list_commands(context)
        if name in names or name.startswith("-"):
            return super().resolve_command(context, args)
        with _mistakes_told(" ".join([context.command_path, name]), as_json="--log-json" in args or log.as_json()):
            meant = did_you_mean(name, names)
            if not meant and os.path.exists(name):
                meant = f"; of an input, type: {context.command_path} run {shlex.quote(name)}"
            raise click.UsageError(f"there is no command {name!r}{meant}", context)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown name: the known names that are like it, the nearest first."""
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


@contextmanager
def _mistakes_told(name: str, *, as_json: bool) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if not as_json and clean(error.message) == error.message:
            raise
        if not as_json:
            raise click.UsageError(clean(error.message), error.ctx) from None
        with installed(name, "", as_json=True):
            _command_events(name)(error.exit_code, clean(error.format_message()))
        raise click.exceptions.Exit(error.exit_code) from None


def _note_log_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_LOG_JSON] = True


def _command_events(name: str) -> Callable[..., None]:
    """Tells that a command began; what it returns tells how it ended: the exit code, and why it failed."""
    started = time.monotonic()
    log.emit("command started", command=name)

    def ended(exit_code: int, error: str | None = None) -> None:
        seconds = round(time.monotonic() - started, 3)
        log.emit("command finished", command=name, exit_code=exit_code, error=error, seconds=seconds)

    return ended


def say(stage: str, what: str) -> None:
    """What a stage is doing now, on stderr."""
    current().message(stage, what)


def _in_words(error: RecursionError | PermissionError) -> str:
    """A mistake in the input that came up where no sentence was at hand."""
    if isinstance(error, PermissionError):
        return clean(
            f"{error.filename or error}: there is no permission to read or write this; change it, or name another"
        )
    return "JSON or an expression of the input is nested too deeply to be read; mend it, or leave it out"


_NO_ROOM = {
    errno.ENOSPC: "there is no room left on the disk",
    errno.EDQUOT: "what this user may store is used up",
    errno.EFBIG: "a file became larger than files may be here",
}


def _named(error: OSError) -> str:
    return f" of {error.filename}" if error.filename else ""


def _leave(code: int) -> None:
    """Ends the process without waiting for threads inside Ray; the processes of a local cluster end with it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _stop_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C or SIGTERM behind this: what is torn down after it may fail in its own way and hide it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return error
        error = error.__context__
    return None


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def of_current(settings: SettingsModel) -> SettingsModel:
    """The same settings where ``embeddings`` and ``index`` may name an output of `clipmill run`: its current version."""
    from clipmill.versions.pointer import with_current

    named = {part: getattr(settings, part, None) for part in ("embeddings", "index")}
    given = {part: uri for part, uri in named.items() if uri is not None}
    return settings.model_copy(update=with_current(given))


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    click.echo(clean(json.dumps(document, indent=2, default=str)))
