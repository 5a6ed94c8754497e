"""How much a stage has to do and how far it is, told from the names of files in its staging folder.

The outline is written beside the work, so that `clipmill status` knows of any stage, from outside, what it knows itself.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict


class Step(BaseModel):
    """One step of a stage, made in ``total`` pieces (None: how many is not known before).

    A file that matches a pattern of ``files`` says that so many pieces are done as stand behind the pattern:
    ``{"units/*/*.arrow": 1, "shards/*.json": 16}``. Of several patterns the first counts. What lies in a folder
    ``units/N/`` counts no longer once there is the file that ``replaced_by`` names: ``"shards/{}.json"``, with N in place
    of the braces.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    doing: str
    total: int | None
    files: dict[str, int]
    replaced_by: str | None = None

    def done(self, names: Sequence[str]) -> int:
        """Pieces that are done. ``names`` are those of the files, relative to the staging folder."""
        there = set(names)
        counted = [name for name in names if not self._is_replaced(name, there)]
        found = sum(self._pieces_of(name) for name in counted)
        return found if self.total is None else min(found, self.total)

    def _pieces_of(self, name: str) -> int:
        return next((pieces for pattern, pieces in self.files.items() if fnmatchcase(name, pattern)), 0)

    def _is_replaced(self, name: str, there: set[str]) -> bool:
        folders = name.split("/")
        return self.replaced_by is not None and len(folders) == 3 and self.replaced_by.format(folders[1]) in there


class Outline(BaseModel):
    """A stage called ``stage``: its steps, in the order in which they are shown, and ``amount`` of ``unit`` ("rows") in all."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: str
    unit: str = "steps"
    amount: int | None = None
    steps: tuple[Step, ...] = ()

    @property
    def pieces(self) -> int | None:
        """Pieces of all steps; None where they are not known."""
        totals = [step.total for step in self.steps if step.total is not None]
        return sum(totals) if len(totals) == len(self.steps) else None

    def done(self, names: Sequence[str]) -> int:
        """How much of ``amount`` is done, as if all pieces were of one size."""
        pieces = sum(step.done(names) for step in self.steps)
        if self.amount is None or not self.pieces:
            return pieces
        return self.amount * pieces // self.pieces

    def doing(self, names: Sequence[str]) -> str:
        """In words: how far each step is that is not done, else that the dataset is being published."""
        if not self.steps:
            return "at work"
        open_steps = [step for step in self.steps if step.total is None or step.done(names) < step.total]
        return ", ".join(_told(step, step.done(names)) for step in open_steps) or "publishing"


def _told(step: Step, done: int) -> str:
    if step.total == 1:
        return step.doing
    return f"{step.doing}: {done:,} done" if step.total is None else f"{step.doing}: {done:,} of {step.total:,}"
