"""Plots of differences and of quality against cost put every point where its axis says, and show hostile names as text."""

import re

import pytest

from clipmill.report.plots.panels import Panel, Point, panels
from clipmill.report.plots.rows import Dot, differences

CIRCLE = re.compile(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="4.5"')


def ticks(svg: str) -> dict[str, float]:
    """Where each label of an axis stands across."""
    return {text: float(x) for x, text in re.findall(r'<text x="([\d.]+)"[^>]*class="tick"[^>]*>([^<]+)</text>', svg)}


def test_a_difference_stands_on_its_side_of_zero_to_scale() -> None:
    svg = str(differences("d", [Dot("<a>", -4, -6, -2, "t"), Dot("b", 2, 1, 3, "t")], "points"))
    (lost, _), (gained, _) = ((float(x), float(y)) for x, y in CIRCLE.findall(svg))
    axis = ticks(svg)
    per_point = (axis["+2"] - axis["0"]) / 2
    assert lost == pytest.approx(axis["0"] - 4 * per_point, abs=0.2)
    assert gained == pytest.approx(axis["0"] + 2 * per_point, abs=0.2)
    assert "&lt;a&gt;" in svg


def test_points_of_no_difference_at_all_can_be_drawn() -> None:
    assert len(CIRCLE.findall(str(differences("d", [Dot("a", 0, 0, 0, "t")], "points")))) == 1


def test_panels_share_the_upright_axis_and_have_logarithmic_ones_of_their_own() -> None:
    speeds, sizes = (100.0, 1000.0, 10_000.0), (64.0, 128.0, 256.0)
    shares = (0.9, 0.8, 0.7)
    items = [
        Panel(name, [Point(x, y, "A", "<t>") for x, y in zip(values, shares, strict=True)])
        for name, values in (("speed", speeds), ("size", sizes))
    ]
    svg = str(panels("quality", items))
    places = [(float(x), float(y)) for x, y in CIRCLE.findall(svg)]
    left, right = places[:3], places[3:]
    assert [y for _, y in left] == [y for _, y in right] == sorted(y for _, y in left)
    for panel in (left, right):
        assert panel[1][0] - panel[0][0] == pytest.approx(panel[2][0] - panel[1][0], abs=0.2)
    assert max(x for x, _ in left) < min(x for x, _ in right)
    assert "&lt;t&gt;" in svg


def test_equal_points_are_drawn_and_their_marks_stand_apart() -> None:
    svg = str(panels("q", [Panel("size", [Point(64, 0.5, mark, mark) for mark in "AB"])]))
    marks = re.findall(r'<text x="[\d.]+" y="([\d.]+)" class="name1"[^>]*>[AB]<', svg)
    assert len(set(marks)) == 2
