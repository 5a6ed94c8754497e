"""``report.md``: the report in short, for a pull request or a chat."""

from collections.abc import Sequence

from clipmill.core.forecasts import Forecast
from clipmill.evaluation.figures import DIRECTIONS, Figure
from clipmill.report.document import PublishedPart, Report
from clipmill.report.findings import SHOWN
from clipmill.report.format import TITLES, amount_text, interval_text, value_text
from clipmill.report.markdown_text import code, prose, table
from clipmill.report.schema.texts import TextsPart


def markdown_text(report: Report) -> str:
    """Summary, figures with their intervals, what is absent and why, and where the numbers come from."""
    model = f"{code(report.model.name)} {code(report.model.pretrained)}" if report.model else "model not known"
    if report.texts:
        return _of_texts(report, report.texts)
    lines = [
        f"## Embedding report: {code(report.dataset.name)}",
        "",
        f"{model} · {report.dataset.counts.images:,} images, {report.dataset.counts.captions:,} captions · "
        f"{report.created:%Y-%m-%d}",
        "",
        *([f"**Read with care:** {prose(report.caution)}", ""] if report.caution else []),
        *_next(report),
        *(f"- {prose(sentence)}" for sentence in report.summary),
        "",
    ]
    for part in report.retrieval:
        about = f"{part.asked}, {part.gallery:,} in the gallery"
        lines += _figures(f"{DIRECTIONS[part.direction]} ({about})", part.figures)
        lines += [prose(part.drawn), ""] if part.sampled else []
    if report.zero_shot:
        lines += _figures(f"Zero-shot ({len(report.zero_shot.classes):,} classes)", report.zero_shot.figures)
    if report.fidelity:
        about = f"{code(report.fidelity.factory)} against exact search, asked with {report.fidelity.asked_with}"
        lines += _figures(f"Index {about}", report.fidelity.figures)
    if report.published and report.published.figures:
        lines += published_lines(report.published)
    lines += _figures("Cost", report.cost)
    if report.plan and report.plan.figures:
        lines += _planned(report.plan)
    lines += [f"- Not measured: {prose(absence.what)}: {prose(absence.why)}." for absence in report.absences]
    lines += [f"- {prose(note)}" for note in report.notes]
    lines += ["", "Ranges are 95% intervals. Everything else is in `report.html` beside this file.", ""]
    return "\n".join(lines)


def _of_texts(report: Report, part: TextsPart) -> str:
    lines = [
        f"## Report of texts: {code(report.dataset.name)}",
        "",
        f"{code(part.generator)} · {part.texts:,} texts about {part.pictures:,} pictures · {report.created:%Y-%m-%d}",
        "",
        *(f"- {prose(sentence)}" for sentence in report.summary),
        "",
        *_figures("Texts", part.overlap),
        *_figures("Answers", part.answers),
        *(f"- Not measured: {prose(absence.what)}: {prose(absence.why)}." for absence in report.absences),
        "",
        "Ranges are 95% intervals. Everything else is in `report.html` beside this file.",
        "",
    ]
    return "\n".join(lines)


def _next(report: Report) -> list[str]:
    if not report.findings:
        return []
    steps = [
        f"{number}. {prose(one.text)} {code(one.command)}" for number, one in enumerate(report.findings[:SHOWN], 1)
    ]
    return ["**What to do next**", "", *steps, ""]


def published_lines(part: PublishedPart) -> list[str]:
    """What others published of the model, apart from what was measured."""
    rows = [
        [f"{figure.dataset}, {DIRECTIONS.get(figure.task, figure.task)}, {figure.title}", f"{figure.value:.1%}"]
        for figure in part.figures
    ]
    return [
        f"Published, not measured here: {code(part.model)} {code(part.pretrained or '')}. Source: {prose(part.source)}.",
        "",
        *table(["Published", "Value"], rows),
    ]


def _planned(plan: Forecast) -> list[str]:
    rows = [
        [
            TITLES[one.name],
            amount_text(one.planned, one.unit),
            "not known" if one.actual is None else amount_text(one.actual, one.unit),
            "" if one.difference is None else f"{one.difference:+.1%}",
        ]
        for one in plan.figures
    ]
    return table([f"Planned {prose(plan.basis)}", "Planned", "Was", "Difference"], rows)


def _figures(title: str, figures: Sequence[Figure]) -> list[str]:
    rows = [
        [
            prose(figure.title),
            value_text(figure),
            interval_text(figure),
            f"{figure.n:,}" if figure.n is not None else "",
        ]
        for figure in figures
    ]
    return table([title, "Value", "95% interval", "n"], rows) if rows else []
