"""The result in sentences for someone who has never heard of recall."""

from clipmill.core.manifests import Counts
from clipmill.evaluation.directions import ITEMS, sides_of
from clipmill.evaluation.figures import Figure
from clipmill.evaluation.results import RobustnessPart, SlicesPart
from clipmill.report.document import Report
from clipmill.report.format import number_text, size_text
from clipmill.report.schema.classification import ProbePart, ZeroShotPart
from clipmill.report.schema.index import FidelityPart
from clipmill.report.schema.retrieval import RetrievalPart

_VISIBLE = 0.005
"""A ceiling that is nearer than this to 1 is not worth a sentence."""
_ASKED = {"captions": "a caption", "images": "an image", "audio": "a sound", "videos": "a video"}
_PLURAL = {"captions": "captions", "images": "images", "audio": "sounds", "videos": "videos"}


def summary(report: Report) -> list[str]:
    """What was embedded, how good the model is at it, what the index keeps of that, and what the studies found."""
    sentences = [_embedded(report.dataset.counts, elsewhere=report.model is None)]
    sentences += [_retrieval(report, part) for part in report.retrieval]
    if report.zero_shot:
        sentences.append(_zero_shot(report, report.zero_shot))
    if report.probe:
        sentences.append(_probe(report, report.probe))
    if report.fidelity:
        sentences.append(_fidelity(report, report.fidelity))
    if report.slices:
        sentences.append(_slices(report.slices))
    if report.corruption and report.corruption.clean and report.corruption.variations:
        sentences.append(_corruption(report.corruption))
    return sentences


def _embedded(counts: Counts, *, elsewhere: bool) -> str:
    text = f"{counts.in_words} were {'embedded elsewhere' if elsewhere else 'embedded'}"
    rejected = [
        f"{count:,} {name}{'s' if count != 1 else ''}"
        for count, name in (
            (counts.rejected_images, "image"),
            *((one.rejected, _PLURAL[part][:-1]) for part, one in counts.clips.items()),
            (counts.rejected_captions, "caption"),
        )
        if count
    ]
    return f"{text}; {' and '.join(rejected)} could not be used." if rejected else f"{text}; nothing was rejected."


def _retrieval(report: Report, part: RetrievalPart) -> str:
    queries, gallery = sides_of(part.direction)
    several = queries != "captions" and gallery == "captions"
    asked = f"Asked with {_ASKED[queries]}"
    right = "a right caption" if several else f"the right {ITEMS[gallery]}"
    answers, alike = _PLURAL[gallery], f"identical {_PLURAL[queries]} or {_PLURAL[gallery]}"
    text = (
        f"{asked}, the model puts {right} first in {_percent(report, f'{part.direction}.recall@1')} of {_cases(part)} "
        f"and among the first ten in {_percent(report, f'{part.direction}.recall@10')}, out of {part.gallery:,} "
        f"{answers}."
    )
    if 1 - part.ceiling[1] >= _VISIBLE:
        text += f" As {alike} cannot be told apart, no model could expect more than {part.ceiling[1]:.1%} first places."
    return text


def _cases(part: RetrievalPart) -> str:
    if part.sampled is None:
        return f"{part.queries:,} cases"
    return f"{part.sampled.of:,} cases (estimated from {part.queries:,} that were drawn)"


def _zero_shot(report: Report, part: ZeroShotPart) -> str:
    return (
        f"Given nothing but the names of {len(part.classes):,} classes, it names the right one for "
        f"{_percent(report, 'zero-shot.acc1')} of {part.images:,} images; guessing would get {1 / len(part.classes):.1%}."
    )


def _probe(report: Report, part: ProbePart) -> str:
    text = (
        f"Shown {part.train + part.validation:,} labelled images of {part.classes:,} classes, a linear classifier on its "
        f"embeddings names the right one for {_percent(report, 'probe.linear_probe_acc1')} of {part.test:,} others"
    )
    if not part.shots:
        return f"{text}."
    last = part.shots[-1]
    return f"{text}; with {last.shots} per class, for {last.figure.value:.1%}."


def _fidelity(report: Report, part: FidelityPart) -> str:
    size, stored = _figure(report, "index.bytes_per_vector").value, 2 * report.dataset.dimension
    latency = number_text(_figure(report, "index.latency_p50").value, "milliseconds")
    text = (
        f"Asked with {part.asked_with}, the index returns {_percent(report, part.figures[0].key)} of what exact search "
        f"would, in {latency} for a typical query on one core, with {size_text(size)} per vector in memory"
    )
    if part.rerank:
        text += f" and {size_text(stored)} on disk for re-ranking"
    text = f"{text}." if part.rerank or size >= stored else f"{text} in place of {size_text(stored)}."
    if part.slices and (least := _least_found(part.slices)):
        text += f" {least}"
    if part.asks_as_users:
        return text
    return (
        f"{text} What {'images' if part.gallery == 'captions' else 'captions'} would find is not known: there are none."
    )


def _least_found(part: SlicesPart) -> str:
    """The slice of which the index finds least; empty where nothing is sliced."""
    found = [
        (
            figure.value,
            f"{column.column} is {one.text}" if one.kind == "value" else f"{column.column}: {one.kind} {one.text}",
        )
        for column in part.columns
        for one in column.slices
        for figure in one.figures
    ]
    if not found:
        return ""
    value, where = min(found)
    return f"Of one slice it returns {value:.1%}, the least of {len(found):,} ({where.strip()})."


def _slices(part: SlicesPart) -> str:
    slices = [one for column in part.columns for one in column.slices]
    worse = sum(any(figure.worse for figure in one.figures) for one in slices)
    columns = ", ".join(column.column for column in part.columns)
    found = f"{worse:,} {'does' if worse == 1 else 'do'}" if worse else "none does"
    return f"Of {len(slices):,} slices of the data by {columns}, {found} significantly worse than the rest."


def _corruption(part: RobustnessPart) -> str:
    first = part.clean[0]
    worst = min(part.variations, key=lambda variation: variation.figures[0].value)
    return (
        f"With worse pictures, {first.title} falls from {first.value:.1%} to as little as {worst.figures[0].value:.1%} "
        f"({worst.name} at strength {worst.strength} of 5, on {first.n:,} queries)."
    )


def _figure(report: Report, key: str) -> Figure:
    figure = report.figure(key)
    assert figure is not None  # its part was measured
    return figure


def _percent(report: Report, key: str) -> str:
    figure = _figure(report, key)
    text = f"{figure.value:.1%}"
    if figure.low is not None and figure.high is not None:
        text += f" ({100 * figure.low:.1f}–{100 * figure.high:.1f})"
    return text
