"""What a simulation tells: stages, and limits with how much of each is used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class SimulatedStage:
    """One stage: seconds by the clock, seconds of all cores, requests to S3 that read and that write or list, and bytes moved.
    ``held_by`` says what its time follows from."""

    name: str
    seconds: float
    core_seconds: float = 0.0
    gets: float = 0.0
    puts: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0
    held_by: str = ""


@dataclass(frozen=True)
class Limit:
    """Something that must not exceed ``most``, and what the run asks of it. It grows with ``grows_with``, of which the run has
    ``count``, but for ``base`` of it, which is there whatever the size."""

    name: str
    used: float
    most: float
    unit: str
    grows_with: Literal["rows", "nodes", "neither"]
    count: int
    basis: str
    base: float = 0.0

    @property
    def share(self) -> float:
        return self.used / self.most

    @property
    def reached_at(self) -> float | None:
        """How many there may be of what it grows with."""
        if self.grows_with == "neither" or self.used <= self.base:
            return None
        return self.count * (self.most - self.base) / (self.used - self.base)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share, "reached_at": self.reached_at}


@dataclass(frozen=True)
class Simulation:
    """A run as it would go. ``limits`` are in order of what is reached first."""

    rows: int
    nodes: int
    machine: str
    files: int
    units: int
    slices: int
    at_once: int
    encoders: int
    stages: tuple[SimulatedStage, ...]
    limits: tuple[Limit, ...]
    notes: tuple[str, ...]
    machine_price: float | None
    request_price: float

    @property
    def seconds(self) -> float:
        """From the first step to the report."""
        return sum(stage.seconds for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **{name: getattr(self, name) for name in ("rows", "nodes", "machine", "files", "units", "slices")},
            "at_once": self.at_once,
            "encoders": self.encoders,
            "seconds": self.seconds,
            "stages": [asdict(stage) for stage in self.stages],
            "limits": [limit.as_dict() for limit in self.limits],
            "breaks_first": self.limits[0].name if self.limits and self.limits[0].share > 1 else None,
            "notes": list(self.notes),
            "machine_price": self.machine_price,
            "request_price": self.request_price,
        }
