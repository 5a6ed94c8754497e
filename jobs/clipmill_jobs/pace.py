"""How fast a stage goes, in words."""

from dataclasses import dataclass


@dataclass
class Pace:
    """How fast a stage goes. ``base`` of ``unit`` were done at its first sign, by earlier starts: they count as done, and
    neither as work nor as speed of this one."""

    unit: str
    total: int | None
    base: int
    started: float
    done: int
    moved: float

    @property
    def finished(self) -> bool:
        return self.total is not None and self.done >= self.total

    def rate(self, now: float) -> float:
        """Units per second since the first sign."""
        return (self.done - self.base) / max(now - self.started, 1e-9)

    def line(self, now: float) -> str:
        """How far it is, how fast, and how long it will take."""
        done = amount(self.done, self.unit)
        seconds = now - self.started
        rate = f", {amount(self.rate(now), self.unit)}/s" if self.done > self.base and seconds >= 1 else ""
        if not self.total:
            return f"{done}{rate}, {duration(seconds)}"
        told = f"{self.done / self.total:.0%} ({self.done:,} of {self.total:,} {self.unit}){rate}"
        if self.unit == "B":
            told = f"{self.done / self.total:.0%} ({done} of {amount(self.total, 'B')}){rate}"
        if self.finished:
            return f"{told}, took {duration(seconds)}"
        left = (self.total - self.done) / self.rate(now) if rate else None
        return told if left is None else f"{told}, {duration(left)} left"


def amount(number: float, unit: str) -> str:
    """A number of units; bytes in thousands and millions."""
    if unit != "B":
        return f"{number:,.1f} {unit}" if isinstance(number, float) and number < 100 else f"{number:,.0f} {unit}"
    for prefix in ("", "k", "M", "G", "T"):
        if number < 1000 or prefix == "T":
            break
        number /= 1000
    return f"{number:.3g} {prefix}B"


def duration(seconds: float) -> str:
    """A length of time, in the unit that suits it."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
