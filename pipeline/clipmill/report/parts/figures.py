"""Numbers with their definitions, which are the docstrings of what computes them."""

import inspect
import math

from clipmill.core.manifests import Interval
from clipmill.report.document import Figure, HistogramData, Unit


def definition_of(member: object) -> str:
    """The docstring of a function or property in one line."""
    return " ".join((inspect.getdoc(member) or "").split())


def bounds(interval: Interval | None) -> dict[str, float]:
    """``low`` and ``high`` of an interval; nothing where there is none, or one without an end."""
    if interval is None or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return {}
    return {"low": interval.low, "high": interval.high}


def figure(name: str, title: str, unit: Unit, definition: object, interval: Interval) -> Figure:
    """A measured figure; ``definition`` is a sentence, or the function or property whose docstring it is."""
    text = definition if isinstance(definition, str) else definition_of(definition)
    return Figure(
        name=name,
        title=title,
        unit=unit,
        definition=text,
        value=interval.value,
        **bounds(interval),
        n=interval.n,
    )


def histogram_data(name: str, edges: list[float], counts: list[int], mean: float) -> HistogramData:
    """``counts`` of values between neighbouring ``edges``, of which there is one more, and the mean of all."""
    return HistogramData(name=name, edges=edges, counts=counts, mean=mean, n=sum(counts))
