"""``report.html``: one page that needs no other file and no network. All text in it is escaped by the template engine."""

import json
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlencode

from jinja2 import Environment

from clipmill.datasets.manifests import PUBLISHED_SUFFIX
from clipmill.encoders.caution import published_at
from clipmill.evaluation.figures import Figure
from clipmill.report import page_plots
from clipmill.report.document import Report
from clipmill.report.findings import SHOWN
from clipmill.report.format import TITLES, amount_text
from clipmill.report.page_shell import page_environment
from clipmill.report.plots.histogram import histogram
from clipmill.report.plots.reliability import reliability_plot
from clipmill.report.schema.shown import QueryPart
from clipmill.report.script import Script, script_with

_FIRST = ("recall@1", "recall@5", "recall@10", "median_rank", "mean_rank", "mean_reciprocal_rank")
"""Metrics of a direction of retrieval in its first table; all others stand in the second."""
_TILES = {
    "t2i.recall@1": "text → image, R@1",
    "t2i.recall@10": "text → image, R@10",
    "i2t.recall@1": "image → text, R@1",
    "i2t.recall@10": "image → text, R@10",
    "zero-shot.acc1": "zero-shot, acc1",
    "probe.linear_probe_acc1": "linear probe, acc1",
}
"""The figures on top of the page, and what they are called there."""


EXPLORE = "http://localhost:8000/"
"""Where `clipmill explore` listens unless it is told otherwise."""
_TEXT_TILES = (
    "texts.cider_d",
    "texts.clip_score",
    "answers.vqa_accuracy",
    "answers.exact_match",
    "answers.yes_no_accuracy",
)


@dataclass(frozen=True)
class Section:
    """A part of the page: the ``place`` that its link leads to, what the link says, and the template."""

    place: str
    title: str
    template: str


_SECTIONS = {
    "retrieval": Section("retrieval", "Retrieval", "retrieval.html"),
    "examples": Section("examples", "Examples", "examples.html"),
    "listed": Section("queries", "Queries", "listed.html"),
    "zero_shot": Section("zero-shot", "Zero-shot", "zero_shot.html"),
    "probe": Section("probe", "Probe", "probe.html"),
    "alignment": Section("alignment", "Alignment", "alignment.html"),
    "space": Section("space", "Pictures", "space.html"),
    "map": Section("map", "Map", "map.html"),
    "slices": Section("slices", "Slices", "slices.html"),
    "robustness": Section("robustness", "Robustness", "robustness.html"),
    "fidelity": Section("index", "Index", "fidelity.html"),
    "cost": Section("cost", "Cost", "cost.html"),
    "published": Section("published", "Published", "published.html"),
}
"""In the order of the page, by the field of the report that is shown there."""


def html_text(report: Report) -> str:
    """The whole page."""
    name = "texts_report.html" if report.texts else "report.html"
    text: str = _environment().get_template(name).render(report=report, document=report, script=_script(report))
    return text


def _script(report: Report) -> Script:
    """The page's script with the points of the map, the small pictures, and the columns of the queries."""
    drawn = report.map.model_dump(exclude={"of", "method"}) if report.map else None
    sheet = report.sheet.model_dump() if report.sheet else None
    return script_with({"map": drawn, "sheet": sheet, "columns": report.listed.columns if report.listed else []})


@cache
def _environment() -> Environment:
    names = {
        "first": first,
        "others": others,
        "tiles": tiles,
        "text_tiles": text_tiles,
        "defined": defined,
        "beyond": beyond,
        "labelled_by": labelled_by,
        "explored": explored,
        "drawn": drawn,
        "address": address,
        "shown_findings": SHOWN,
        "sections": sections,
        "title": title,
        "amount": amount_text,
        "titles": TITLES,
    }
    return page_environment(plots=page_plots, histogram=histogram, reliability_plot=reliability_plot, **names)


def sections(report: Report) -> list[Section]:
    """The parts of the page that have something to show; without retrieval, pictures come first."""
    also = {
        "robustness": bool(report.corruption or report.writing or report.widths),
        "cost": bool(report.cost or (report.plan and report.plan.figures)),
    }
    shown = [name for name in _SECTIONS if also.get(name, bool(getattr(report, name, None)))]
    if not report.retrieval:
        shown.sort(key=lambda name: name not in ("space", "map"))
    return [_SECTIONS[name] for name in shown]


def title(report: Report) -> str:
    """Model × data; of what `clipmill run` publishes the data are called after the place."""
    place = published_at(report.dataset.uri)
    data = place.rsplit("/", 1)[-1].removesuffix(PUBLISHED_SUFFIX) if place else report.dataset.title
    return f"{report.model.name if report.model else 'model not known'} × {data}"


def beyond(query: QueryPart) -> str:
    """The rank of the first right answer. Of a classification only the first class is known: 1, or beyond ten."""
    rank = query.rank if query.rank is not None else (1 if query.hit >= 0.5 else 11)
    return f"{rank:g}"


def explored(report: Report) -> str | None:
    """What `clipmill explore` is given to search what the report is of; None where no index of it is known."""
    return published_at(report.dataset.uri) or (report.fidelity.uri if report.fidelity else None)


def address(query: QueryPart) -> str:
    """The search for a query on the page of `clipmill explore`, which keeps a whole search after the #."""
    asked = {"text": query.text} if query.text else {"parts": json.dumps([{"id": query.id, "weight": 1}])}
    return f"{EXPLORE}#{urlencode(asked)}"


def drawn(report: Report, direction: str | None = None) -> bool:
    """Whether the queries of a direction, or of any, are a sample."""
    return any(part.sampled for part in report.retrieval if direction in (None, part.direction))


def labelled_by(report: Report) -> str | None:
    """The column that labels come from."""
    return report.zero_shot.column if report.zero_shot else None


def first(figures: list[Figure]) -> list[Figure]:
    """The figures of a direction in its first table, in the table's order."""
    return [figure for metric in _FIRST for figure in figures if figure.metric == metric]


def others(figures: list[Figure]) -> list[Figure]:
    """Those in the second."""
    return [figure for figure in figures if figure.metric not in _FIRST]


def tiles(report: Report) -> list[tuple[str, Figure]]:
    """The headline figures with what they are called, as far as they were measured."""
    found = [(name, figure) for key, name in _TILES.items() if (figure := report.figure(key))]
    if report.fidelity:
        recall = report.fidelity.figures[0]
        found.append((f"index, {recall.title} on {report.fidelity.query_kind}", recall))
    return found


def text_tiles(report: Report) -> list[tuple[str, Figure]]:
    """The headline figures of texts, as far as they were measured."""
    return [(figure.title, figure) for key in _TEXT_TILES if (figure := report.figure(key))]


def defined(report: Report) -> list[Figure]:
    """Every figure on the page whose definition belongs there."""
    return report.figures + (report.slices.figures if report.slices else [])
