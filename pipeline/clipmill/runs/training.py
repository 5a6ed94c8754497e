"""How training is told to a reporter."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clipmill.core.reporter import Reporter

if TYPE_CHECKING:
    from clipmill.train.learner import Examined
    from clipmill.train.trainer import Step, Told

_SECONDS_BETWEEN_LOSSES = 10.0


def told_to(reporter: Reporter) -> Told:
    """Every step as progress, the loss every few seconds, and each validation."""
    from clipmill.train.trainer import Told

    speaker = _Speaker(reporter)
    return Told(speaker.step, speaker.validation)


class _Speaker:
    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._last = time.monotonic() - _SECONDS_BETWEEN_LOSSES
        self._at: int | None = None

    def step(self, step: Step) -> None:
        if self._at is None:
            self._reporter.progress("train", step.step - 1, step.steps, "steps")
        self._at = step.step
        if step.step == step.steps or time.monotonic() - self._last >= _SECONDS_BETWEEN_LOSSES:
            self._last = time.monotonic()
            speed = f"{step.images_per_second:,.0f} images/s"
            self._reporter.message("train", f"step {step.step}/{step.steps}  loss {step.loss:.3f}  {speed}")
        self._reporter.progress("train", step.step, step.steps, "steps")

    def validation(self, step: int, found: Examined) -> None:
        rates = "  ".join(f"{name} {value}" for name, value in found.as_dict().items() if value is not None)
        self._reporter.message("train", f"step {step} validation: {rates}")
