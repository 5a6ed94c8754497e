"""Robustness to worse pictures and to writing as parts of the document."""

from clipmill.core.manifests import Interval
from clipmill.evaluation.classification.zero_shot import ZeroShot
from clipmill.evaluation.retrieval.retrieval import Retrieval
from clipmill.evaluation.studies.variations import Robustness, Variation
from clipmill.report.document import Figure, RobustnessPart, Unit, VariationPart
from clipmill.report.parts.figures import definition_of, figure
from clipmill.source.corrupt import STRENGTHS

_FIGURES: dict[str, tuple[str, Unit, object]] = {
    "t2i_recall@1": ("t2i R@1", "proportion", Retrieval.recall),
    "i2t_recall@1": ("i2t R@1", "proportion", Retrieval.recall),
    "acc1": ("acc1", "proportion", ZeroShot.acc1),
    "cosine": ("Cosine", "cosine", "Mean cosine of an image's vector with that of the same image made worse."),
}
_CHANGE = (
    "How much it is higher than without the variation, on the same queries: paired differences, images resampled. "
)
_AMOUNTS = {
    "blur": "σ {:.1%} of the shorter side",
    "noise": "σ {:.0%} of the range",
    "jpeg": "quality {:.0f}",
    "brightness": "+{:.0%} of the range",
    "crop": "{:.0%} of each side",
    "rotation": "{:.0f}°",
    "greyscale": "{:.0%} of the colour left",
}


def robustness_part(robustness: Robustness) -> RobustnessPart:
    """The unvaried figures, then every variation's."""
    return RobustnessPart(
        clean=_figures(robustness.clean),
        variations=[_variation_part(variation) for variation in robustness.variations],
    )


def _figures(intervals: dict[str, Interval]) -> list[Figure]:
    return [figure(name, *_FIGURES[name], interval) for name, interval in intervals.items()]


def _variation_part(variation: Variation) -> VariationPart:
    amount = ""
    if variation.strength:
        amount = _AMOUNTS[variation.name].format(STRENGTHS[variation.name][variation.strength - 1])
    changes = []
    for name, interval in variation.changes.items():
        title, unit, definition = _FIGURES[name]
        text = definition if isinstance(definition, str) else definition_of(definition)
        changes.append(figure(f"{name}_change", f"{title}, change", unit, _CHANGE + text, interval))
    return VariationPart(
        name=variation.name,
        strength=variation.strength,
        amount=amount,
        example=variation.example,
        figures=_figures(variation.figures),
        changes=changes,
    )


def corruption_sentence(part: RobustnessPart) -> str | None:
    """What the worst of the corruptions takes away, for the summary."""
    if not part.clean or not part.variations:
        return None
    first = part.clean[0]
    worst = min(part.variations, key=lambda variation: variation.figures[0].value)
    return (
        f"With worse pictures, {first.title} falls from {first.value:.1%} to as little as {worst.figures[0].value:.1%} "
        f"({worst.name} at strength {worst.strength} of 5, on {first.n:,} queries)."
    )
