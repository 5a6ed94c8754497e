"""How a command tells on stderr what it is doing: bars on a terminal, plain lines off it, JSON where that is asked for.

All three are a `Reporter`, handed to the library, and are told of notices by the one handler of the logger "clipmill".
While a stage says nothing, a heartbeat says again what it is doing and for how long, so that a command is never silent.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

import click

from clipmill.core import log
from clipmill_jobs.reporters import Bars, Events, Lines, StderrReporter

_META = "clipmill.reporter"
_FIRST_WORD_SECONDS = 1.0
_BEAT_SECONDS = 1.0


class _Handler(logging.Handler):
    """Hands what is logged to the reporter, which knows of its bars."""

    def __init__(self, reporter: StderrReporter) -> None:
        super().__init__()
        self._reporter = reporter
        self.setFormatter(log.TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if text:
            self._reporter.text(text)


class _JsonHandler(logging.StreamHandler[TextIO]):
    """JSON lines to a stream; where nobody reads it any more, the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(log.JsonFormatter())

    def handleError(self, record: logging.LogRecord) -> None:
        return


def reporter_for(stream: TextIO, *, as_json: bool) -> StderrReporter:
    """The reporter that suits a stream."""
    if as_json:
        return Events(stream)
    return Bars(stream) if stream.isatty() else Lines(stream)


@contextmanager
def installed(name: str, doing: str, *, as_json: bool) -> Iterator[StderrReporter]:
    """Tells on stderr what happens in the block: reports, notices of the logger, and ``doing`` where for a second nobody
    has said anything. Messages wait for the end of that second, for progress, or for a good end."""
    reporter = reporter_for(sys.stderr, as_json=as_json)
    reporter.hold()
    handler = _JsonHandler(sys.stderr) if as_json else _Handler(reporter)
    with ExitStack() as stack:
        if as_json:
            stack.enter_context(log.switched_on())
        if as_json or not sys.stderr.isatty():
            stack.enter_context(_without_bars_of_others())
        stack.enter_context(log.handled_by(handler, warnings=as_json))
        stack.callback(reporter.close)
        stack.enter_context(_heartbeat(reporter, name, doing))
        yield reporter


def current() -> StderrReporter:
    """The reporter of the command that runs; outside of one, a reporter without a heartbeat."""
    context = click.get_current_context(silent=True)
    found = context.meta.get(_META) if context is not None else None
    return found if isinstance(found, StderrReporter) else reporter_for(sys.stderr, as_json=log.as_json())


def set_current(context: click.Context, reporter: StderrReporter) -> None:
    """Makes it the reporter of a command and of those that it calls."""
    context.meta[_META] = reporter


@contextmanager
def _heartbeat(reporter: StderrReporter, name: str, doing: str) -> Iterator[None]:
    stopped = threading.Event()

    def run() -> None:
        if not stopped.wait(_FIRST_WORD_SECONDS):
            reporter.speak_up(name, doing)
        while not stopped.wait(_BEAT_SECONDS):
            reporter.beat()

    thread = threading.Thread(target=run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(_BEAT_SECONDS)


@contextmanager
def _without_bars_of_others() -> Iterator[None]:
    """Downloads from the Hugging Face Hub draw no bar of their own meanwhile."""
    name = "HF_HUB_DISABLE_PROGRESS_BARS"
    if name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
