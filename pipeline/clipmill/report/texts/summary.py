"""The result in sentences."""

from clipmill.evaluation.figures import Figure
from clipmill.report.document import Report
from clipmill.report.format import value_text


def sentences(report: Report) -> list[str]:
    """What was written, how far it agrees with references and pictures, and how many answers are right."""
    part = report.texts
    assert part is not None
    found = [
        f"{part.generator} wrote {part.texts:,} texts about {part.pictures:,} of {report.dataset.counts.rows:,} pictures."
    ]
    if cider := report.figure("texts.cider_d"):
        found.append(
            f"Against the references of {part.with_references:,} texts they reach a CIDEr-D of {_told(cider)}, where 0 shares "
            "nothing with them."
        )
    if fit := report.figure("texts.clip_score"):
        found.append(f"Their CLIPScore is {_told(fit)}: 2.5 times the cosine with their pictures.")
    if repeated := report.figure("texts.repeated"):
        found.append(f"{value_text(repeated)} of them are word for word one that was written before.")
    if right := report.figure("answers.exact_match"):
        found.append(f"{_told(right)} of {right.n:,} answers are those that most people gave.")
    return found


def _told(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return value_text(figure)
    return f"{value_text(figure)} ({figure.low:.3g}–{figure.high:.3g})"
