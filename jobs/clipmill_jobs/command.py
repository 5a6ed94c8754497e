"""What all commands share: how they fail, how they show progress, and how they print JSON."""

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import click
from tqdm import tqdm

from clipmill.core import events
from clipmill.core.errors import ClipmillError, OutputDiffers, Terminated
from clipmill.core.settings import SettingsModel

Function = TypeVar("Function", bound=Callable[..., Any])
Made = TypeVar("Made")


class Job(click.Command):
    """A click command whose failures are one sentence on stderr and the exit code of their kind."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.append(
            click.Option(
                ["--log-json"],
                is_flag=True,
                expose_value=False,
                callback=_log_json,
                help="Write one JSON line an event to stderr, as with CLIPMILL_LOG=json.",
            )
        )

    def invoke(self, context: click.Context) -> Any:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _terminate)
        ended = _command_events(str(self.name))
        try:
            result = super().invoke(context)
            ended(0)
            return result
        except click.exceptions.Exit as left:
            ended(left.exit_code)
            raise
        except ClipmillError as error:
            self._tell(str(error))
            ended(error.exit_code, str(error))
            if error.work_goes_on:
                _leave(error.exit_code)
            context.exit(error.exit_code)
        except BaseException as error:
            stopped = _stop_behind(error)
            if stopped is None:
                raise
            how, code = ("terminated", 143) if isinstance(stopped, Terminated) else ("interrupted", 130)
            self._tell(f"{how}; run the same command again to continue")
            ended(code, how)
            _leave(code)

    def _tell(self, failure: str) -> None:
        if not events.as_json():
            click.echo(f"clipmill {self.name}: {failure}", err=True)


def _log_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.with_resource(events.switched_on())


def _command_events(name: str) -> Callable[..., None]:
    """Tells that a command began; what it returns tells how it ended: the exit code, and why it failed."""
    started = time.monotonic()
    events.emit("command started", command=name)

    def ended(exit_code: int, error: str | None = None) -> None:
        seconds = round(time.monotonic() - started, 3)
        events.emit("command finished", command=name, exit_code=exit_code, error=error, seconds=seconds)

    return ended


def say(stage: str, what: str) -> None:
    """What a stage is doing now, on stderr."""
    if events.as_json():
        events.emit("stage", stage=stage, message=what)
    else:
        click.echo(f"{stage}: {what}", err=True)


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


def cluster_options(function: Function) -> Function:
    """The options of every command that runs on Ray; they make up `ClusterSettings`."""
    options = [
        click.option("--address", help="Ray cluster to use. Default: RAY_ADDRESS, else a local one for this command."),
        click.option("--cpus", type=int, default=0, help="Cores of a local cluster. Default: all of this machine."),
        click.option(
            "--stall-timeout",
            type=float,
            default=900.0,
            show_default=True,
            metavar="SECONDS",
            help="End a run that makes no progress at all for so long.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def encoder_options(function: Function) -> Function:
    """The options of commands that encode on GPUs; they are part of `ClusterSettings` too."""
    options = [
        click.option(
            "--num-gpu-actors", type=int, default=0, help="Encoder actors on GPUs. Default: what the GPUs hold."
        ),
        click.option("--gpus-per-actor", type=float, default=1.0, show_default=True, help="GPU share of one actor."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def model_options(function: Function) -> Function:
    """The options that choose a CLIP model and how it runs; they make up `ModelSettings`."""
    options = [
        click.option("--model", help="open_clip model name, or local-dir:PATH. Default: the built-in small model."),
        click.option("--pretrained", help="open_clip tag, checkpoint file, or local-dir:PATH."),
        click.option(
            "--preprocessing", metavar="TAG", help="Tag whose preprocessing a checkpoint file was trained with."
        ),
        click.option(
            "--precision", type=click.Choice(["auto", "fp32", "bf16", "int8"]), default="auto", show_default=True
        ),
        click.option(
            "--batch-size", type=int, default=0, help="Images an encoder call. Default: chosen for the device."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


CLUSTER_OPTIONS = ("address", "num_gpu_actors", "gpus_per_actor", "cpus", "stall_timeout")


def split_options(
    values: dict[str, Any], names: tuple[str, ...] = CLUSTER_OPTIONS
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Option values parted in two: those with these names, where they are given, and the others."""
    return {key: values[key] for key in names if key in values}, {
        key: value for key, value in values.items() if key not in names
    }


def replacing(settings: SettingsModel, stage: Callable[[SettingsModel], tuple[Made, bool]]) -> tuple[Made, bool]:
    """A stage that replaces a finished output when its inputs or settings have changed."""
    try:
        return stage(settings)
    except OutputDiffers:
        return stage(settings.model_copy(update={"overwrite": True}))


class Progress:
    """A progress line; called with the number of units just done."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def __call__(self, done: int) -> None:
        self._bar.update(done)

    def found_done(self, done: int) -> None:
        """So many were done by an earlier start, and count neither as work nor as speed of this one."""
        if done:
            self._bar.write(f"{self._bar.desc}: continuing, {done:,} of {self._bar.total:,} are done", file=sys.stderr)
            self._bar.initial = self._bar.n = self._bar.last_print_n = done
            self._bar.refresh()


class _ProgressEvents(Progress):
    """The same as events, one in a few seconds."""

    def __init__(self, total: int | None, unit: str, description: str) -> None:
        self._steps = events.Steps("progress")
        self._fixed = {"stage": description, "total": total, "unit": unit}
        self._done = 0

    def __call__(self, done: int) -> None:
        self._done += done
        self._steps.note(**self._fixed, done=self._done)

    def found_done(self, done: int) -> None:
        """So many were done by an earlier start."""
        self._done = done
        if done:
            events.emit("continued", **self._fixed, done=done)

    def end(self) -> None:
        """The last event, where it was not told yet."""
        self._steps.end()


@contextmanager
def progress(total: int | None, unit: str, description: str, *, delay: float = 0.0) -> Iterator[Progress]:
    """A progress line on stderr, or events; nothing of work that ends within ``delay`` seconds."""
    if events.as_json():
        told = _ProgressEvents(total, unit, description)
        try:
            yield told
        finally:
            told.end()
        return
    with tqdm(
        total=total, unit=f" {unit}", desc=description, file=sys.stderr, dynamic_ncols=True, smoothing=0.1, delay=delay
    ) as bar:
        yield Progress(bar)


def import_meanwhile(*modules: str) -> None:
    """Imports modules in a thread, while something else is waited for; their failures are told where they are used."""

    def load() -> None:
        with suppress(Exception):
            for module in modules:
                importlib.import_module(module)

    threading.Thread(target=load, name="imports").start()


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, default=str))
