"""The result in sentences for someone who has never heard of recall."""

from clipmill.core.manifests import Counts
from clipmill.report.document import FidelityPart, Figure, ProbePart, RetrievalPart, ZeroShotPart
from clipmill.report.format import number_text, size_text

_VISIBLE = 0.005


def summary(
    counts: Counts,
    retrieval: list[RetrievalPart],
    zero_shot: ZeroShotPart | None,
    fidelity: FidelityPart | None,
    dimension: int,
    probe: ProbePart | None = None,
) -> list[str]:
    """What was embedded, how good the model is at it, and what the index keeps of that."""
    sentences = [_embedded(counts)]
    sentences += [_retrieval(part) for part in retrieval]
    if zero_shot:
        sentences.append(_zero_shot(zero_shot))
    if probe:
        sentences.append(_probe(probe))
    if fidelity:
        sentences.append(_fidelity(fidelity, dimension))
    return sentences


def _embedded(counts: Counts) -> str:
    text = f"{counts.images:,} images and {counts.captions:,} captions were embedded"
    rejected = [
        f"{count:,} {name}{'s' if count != 1 else ''}"
        for count, name in ((counts.rejected_images, "image"), (counts.rejected_captions, "caption"))
        if count
    ]
    return f"{text}; {' and '.join(rejected)} could not be used." if rejected else f"{text}; nothing was rejected."


def _retrieval(part: RetrievalPart) -> str:
    first, tenth = _figure(part.figures, "R@1"), _figure(part.figures, "R@10")
    if part.direction == "t2i":
        asked, right, answers, alike = (
            "Asked with a caption",
            "the right image",
            "images",
            "identical captions or images",
        )
    else:
        asked, right, answers, alike = (
            "Asked with an image",
            "a right caption",
            "captions",
            "identical images or captions",
        )
    text = (
        f"{asked}, the model puts {right} first in {_percent(first)} of {part.queries:,} cases and among the first ten "
        f"in {_percent(tenth)}, out of {part.gallery:,} {answers}."
    )
    if 1 - part.ceiling[1] >= _VISIBLE:
        text += f" As {alike} cannot be told apart, no model could expect more than {part.ceiling[1]:.1%} first places."
    return text


def _zero_shot(part: ZeroShotPart) -> str:
    acc1 = _figure(part.figures, "acc1")
    return (
        f"Given nothing but the names of {len(part.classes):,} classes, it names the right one for {_percent(acc1)} of "
        f"{part.images:,} images; guessing would get {1 / len(part.classes):.1%}."
    )


def _probe(part: ProbePart) -> str:
    text = (
        f"Shown {part.train + part.validation:,} labelled images of {part.classes:,} classes, a linear classifier on its "
        f"embeddings names the right one for {_percent(part.figures[0])} of {part.test:,} others"
    )
    if not part.shots:
        return f"{text}."
    last = part.shots[-1]
    return f"{text}; with {last.shots} a class, for {last.figure.value:.1%}."


def _fidelity(part: FidelityPart, dimension: int) -> str:
    recall, typical = part.figures[0], _figure(part.figures, "p50")
    size = _figure(part.figures, "Bytes a vector").value
    text = (
        f"The index returns {_percent(recall)} of what exact search would, in "
        f"{number_text(typical.value, 'milliseconds')} for a typical query on one core, with {size_text(size)} a vector "
        "in memory"
    )
    stored = 2 * dimension
    return f"{text} in place of {size_text(stored)}." if size < stored else f"{text}."


def _figure(figures: list[Figure], title: str) -> Figure:
    return next(figure for figure in figures if figure.title == title)


def _percent(figure: Figure) -> str:
    text = f"{figure.value:.1%}"
    if figure.low is not None and figure.high is not None:
        text += f" ({100 * figure.low:.1f}–{100 * figure.high:.1f})"
    return text
