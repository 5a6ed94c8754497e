"""One number of an estimate, with its range and what was assumed for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """``value`` in ``unit``, between ``low`` and ``high``; ``basis`` says what it follows from."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    basis: str

    def as_dict(self) -> dict[str, float | str]:
        return {"value": self.value, "low": self.low, "high": self.high, "unit": self.unit, "basis": self.basis}


def exact(name: str, value: float, unit: str, basis: str) -> Figure:
    """A number that follows from counts alone."""
    return Figure(name, value, value, value, unit, basis)
