"""The short table of results that a terminal shows."""

from clipmill.report.document import Figure, Report
from clipmill.report.format import number_text

_NAMES = {"t2i": "text → image", "i2t": "image → text"}


def report_lines(report: Report) -> list[str]:
    """Each task on a line with its figures, and a line for each thing that is absent."""
    lines = []
    for part in report.retrieval:
        recalls = "  ".join(f"{figure.title} {_fraction(figure)}" for figure in part.figures[:3])
        rest = "  ".join(f"{figure.title.lower()} {figure.value:.4g}" for figure in part.figures[3:4])
        lines.append(
            f"{_NAMES[part.direction]}  {recalls}  {rest}  ({part.queries:,} queries, {part.gallery:,} in the gallery; "
            f"ceiling of R@1 {part.ceiling[1]:.4f})"
        )
    if report.zero_shot:
        accuracy = "  ".join(f"{figure.title} {_fraction(figure)}" for figure in report.zero_shot.figures)
        lines.append(f"zero-shot     {accuracy}  ({len(report.zero_shot.classes):,} classes)")
    if report.probe:
        accuracy = "  ".join(f"{figure.title} {_fraction(figure)}" for figure in report.probe.figures)
        shots = "  ".join(f"{part.shots}: {_fraction(part.figure)}" for part in report.probe.shots)
        lines.append(f"trained       {accuracy}  ({report.probe.test:,} test images)")
        lines.append(f"few-shot      {shots}  (images a class)")
    if report.fidelity:
        figures = "  ".join(
            f"{figure.title} {_fraction(figure) if figure.unit == 'proportion' else number_text(figure.value, figure.unit)}"
            for figure in report.fidelity.figures
        )
        lines.append(f"index         {figures}")
    lines += [f"not measured  {absence.what}: {absence.why}" for absence in report.absences]
    return lines


def _fraction(figure: Figure) -> str:
    return f"{figure.value:.4f}"
