"""Plots draw the numbers they are given, for any numbers."""

import xml.etree.ElementTree as ElementTree

import pytest

from clipmill.evaluation.results import HistogramData
from clipmill.report.format import size_text
from clipmill.report.plots.canvas import round_steps
from clipmill.report.plots.curves import Mark, counts
from clipmill.report.plots.histogram import histogram
from clipmill.report.plots.rows import Bar, bars


def test_a_bar_is_as_long_as_its_value() -> None:
    drawn = ElementTree.fromstring(str(bars("x", [Bar("half", 0.5, "t"), Bar("<all>", 1.0, "t", 0.9, 1.0, 1.0)])))
    widths = [float(shape.get("width")) for shape in drawn.iter("rect") if shape.get("class") == "fill1"]
    assert widths[0] == pytest.approx(widths[1] / 2)
    assert "<all>" in "".join(drawn.itertext())
    assert len([shape for shape in drawn.iter("line") if shape.get("class") == "limit"]) == 1


@pytest.mark.parametrize("points", [{1: 0.0}, {1: 1.0, 2: 1.0}, {1: 0.1, 10: 0.4, 1000: 1.0}])
def test_curves_rise_with_their_values(points: dict[int, float]) -> None:
    marks = [Mark(at, value, "t") for at, value in points.items()]
    drawn = ElementTree.fromstring(str(counts("x", {"a": marks, "b": marks}, "K")))
    heights = [float(dot.get("cy")) for dot in drawn.iter("circle") if dot.get("class") == "fill1"]
    assert len(heights) == len(points)
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("mean", [-1e-4, 0.0, 0.5, 1e5])
def test_histograms_are_drawn_for_any_range(mean: float) -> None:
    data = HistogramData(name="a & b", edges=[mean, mean + 1e-3, mean + 2e-3], counts=[3, 0], mean=mean, n=3)
    empty = HistogramData(name="none", edges=data.edges, counts=[0, 0], mean=0, n=0)
    drawn = ElementTree.fromstring(str(histogram("x", [data, empty], "unit")))
    assert "a & b" in "".join(drawn.itertext())
    assert "nan" not in ElementTree.tostring(drawn, encoding="unicode")


@pytest.mark.parametrize(("low", "high"), [(-0.31, 0.4), (0, 1e-4), (3, 12_345)])
def test_steps_are_round_and_inside(low: float, high: float) -> None:
    steps = round_steps(low, high)
    assert 2 <= len(steps) <= 9
    assert all(low - 1e-9 <= step <= high + 1e-9 for step in steps)


def test_sizes_are_decimal() -> None:
    assert [size_text(count) for count in (53, 1024, 24_000_000, 4 * 2**30)] == [
        "53 B",
        "1,024 B",
        "24.0 MB",
        "4,295 MB",
    ]
