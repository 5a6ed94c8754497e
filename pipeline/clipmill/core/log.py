"""Notices and events: what happens in a run, through the logger "clipmill". Nothing is printed here.

The library logs notices for people with ``logging.getLogger(__name__)``, and events for machines with `emit`. A command
installs the one handler, which shows notices as text, or both as one JSON line each where CLIPMILL_LOG=json asks for it.
"""

import json
import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from clipmill.core.secrets import clean

VARIABLE = "CLIPMILL_LOG"
LOGGER = logging.getLogger("clipmill")
_PROGRESS_SECONDS = 5.0
_EVENT = "clipmill_event"
_FIELDS = "clipmill_fields"


def as_json() -> bool:
    """Whether the environment asks for JSON lines on stderr and nothing else."""
    return os.environ.get(VARIABLE, "").strip().lower() == "json"


@contextmanager
def switched_on() -> Iterator[None]:
    """Asks for JSON in the environment for the length of the block, for this process and those that it starts."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "json"
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def emit(event: str, text: str = "", **fields: Any) -> None:
    """Logs an event with its fields. ``text`` is what is shown of it where people read; empty: nothing."""
    LOGGER.info("%s", text, extra={_EVENT: event, _FIELDS: fields})


@contextmanager
def handled_by(handler: logging.Handler, *, warnings: bool = False) -> Iterator[None]:
    """Sends what the library logs to this handler alone for the length of the block; with ``warnings`` also Python's."""
    loggers = [LOGGER, *([logging.getLogger("py.warnings")] if warnings else [])]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logging.captureWarnings(warnings)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class JsonFormatter(logging.Formatter):
    """One JSON object a record: ``time`` (UTC), ``event`` and its fields; a notice is the event ``notice`` or ``warning``."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        event = getattr(record, _EVENT, None)
        if event is None:
            event = "warning" if record.levelno >= logging.WARNING else "notice"
            fields = {"message": record.getMessage(), "logger": record.name}
        else:
            fields = dict(getattr(record, _FIELDS))
        if record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return clean(json.dumps({"time": time, "event": event, **fields}, default=str))


class TextFormatter(logging.Formatter):
    """A notice as people read it; a warning says that it is one. Events without text are empty."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        text = clean(record.getMessage())
        return f"warning: {text}" if text and record.levelno >= logging.WARNING else text


class Steps:
    """Events about one thing that goes on, at most one in a few seconds; the last is written when it ends."""

    def __init__(self, event: str, seconds: float = _PROGRESS_SECONDS) -> None:
        self._event = event
        self._seconds = seconds
        self._told = time.monotonic()
        self._waiting: dict[str, Any] | None = None

    def note(self, **fields: Any) -> None:
        """Takes what is to be told; it is soon, unless something newer comes first."""
        self._waiting = fields
        if time.monotonic() - self._told >= self._seconds:
            self.end()

    def end(self) -> None:
        """Tells what has not been told yet."""
        if self._waiting is not None:
            emit(self._event, **self._waiting)
            self._waiting, self._told = None, time.monotonic()
