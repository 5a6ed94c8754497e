"""What plans over the rows of an input share, whatever is made of them: units of rows, which become shards."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any, ClassVar

from clipmill.core.takedown import Takedown
from clipmill.source.input_file import InputFile
from clipmill.source.planned import digest_of_inputs
from clipmill.source.units import Units
from clipmill.stage.kinds import M
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Stage
from clipmill.stage.units.layout import Layout


class OverUnits(Stage[M]):
    """A stage that commits units of rows; ``doing`` says what is done with them ("writing about units of rows")."""

    doing: ClassVar[str]
    inputs: list[InputFile]
    units: Units
    removed: Takedown

    @property
    def rows(self) -> int:
        """Rows of all units."""
        return int(self.units.rows.sum())

    @cached_property
    def inputs_digest(self) -> str:
        """Of the source files."""
        return digest_of_inputs(self.inputs)

    @property
    @abstractmethod
    def layout(self) -> Layout[Any]:
        """Where units and shards lie while they are made."""

    @property
    @abstractmethod
    def units_per_shard(self) -> int:
        """Units that become one file."""

    def of_units(self, removed: Takedown) -> dict[str, Any]:
        """What work on units follows from, and what was ``removed`` before it."""
        taken = {"removed": removed.sha256} if len(removed) else {}
        cut = {"rows": self.rows, "units": self.units.sha256, "units a shard": self.units_per_shard}
        return {**taken, "stage": self.name, "inputs": self.inputs_digest, "cut": cut}

    @property
    def outline(self) -> Outline:
        """Units, which are then made into shards, the last of which may hold fewer."""
        last = self.layout.shards - 1
        shards = {f"shards/{last:05d}.json": len(self.layout.units_of(last)), "shards/*.json": self.units_per_shard}
        files = {"units/*/*.arrow": 1, **shards}
        step = Step(doing=self.doing, total=len(self.units), files=files, replaced_by="shards/{}.json")
        return Outline(stage=self.name, unit="rows", amount=self.rows, steps=(step,))
