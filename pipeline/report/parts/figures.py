"""Numbers with their definitions, which are the docstrings of what computes them."""

import inspect

from pipeline.report.document import Figure, HistogramData, Unit
from pipeline.schemas import Interval


def definition_of(member: object) -> str:
    """The docstring of a function or property in one line."""
    return " ".join((inspect.getdoc(member) or "").split())


def figure(name: str, title: str, unit: Unit, definition: object, interval: Interval) -> Figure:
    """A measured figure; ``definition`` is a sentence, or the function or property whose docstring it is."""
    text = definition if isinstance(definition, str) else definition_of(definition)
    return Figure(
        name=name,
        title=title,
        unit=unit,
        definition=text,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
    )


def histogram_data(name: str, edges: list[float], counts: list[int], mean: float) -> HistogramData:
    return HistogramData(name=name, edges=edges, counts=counts, mean=mean, n=sum(counts))
