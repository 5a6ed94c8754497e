"""Classification in ``report.json``: zero-shot with its calibration and templates, and trained classifiers."""

from clipmill.core.manifests import Record
from clipmill.evaluation.figures import Figure


class ClassPart(Record):
    """One class: its images, and the share of them that got it."""

    name: str
    support: int
    recall: float


class Confusion(Record):
    """Images of one class that were given another."""

    truth: str
    given: str
    count: int


class ReliabilityBin(Record):
    """Images whose confidence is in (``above``, ``up_to``]: mean confidence, and the share that was right with its 95%
    interval; these are null where there are no images."""

    above: float
    up_to: float
    images: int
    confidence: float | None
    accuracy: float | None
    low: float | None
    high: float | None


class CalibrationPart(Record):
    """How far the softmax over classes at ``logit_scale``, or the sigmoid at it and ``logit_bias``, can be taken for a
    probability."""

    logit_scale: float
    logit_bias: float | None = None
    figures: list[Figure]
    bins: list[ReliabilityBin]


class TemplatePart(Record):
    """One template used alone: acc1, and its paired difference from all templates together on the same images."""

    template: str
    acc1: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float


class TemplatesPart(Record):
    """What each template brings: ``figures`` of all together and of the mean one, and each, from best to worst."""

    figures: list[Figure]
    templates: list[TemplatePart]


class ZeroShotPart(Record):
    """Zero-shot classification by the labels in one column. ``classes`` in falling order of recall."""

    column: str
    templates_name: str
    templates: list[str]
    images: int
    unlabelled: int
    figures: list[Figure]
    classes: list[ClassPart]
    confusions: list[Confusion]
    without_images: int = 0
    calibration: CalibrationPart | None = None
    template_effect: TemplatesPart | None = None


class SweepPoint(Record):
    """Validation accuracy with C = 10^``exponent``, the inverse strength of the L2 penalty."""

    exponent: float
    accuracy: float


class ShotsPart(Record):
    """Few-shot accuracy with ``shots`` training images per class, over ``draws``; ``exponent`` is log₁₀ of C."""

    shots: int
    figure: Figure
    draws: list[float]
    exponent: float


class ProbePart(Record):
    """Classifiers trained on frozen embeddings: those of ``trained_on``, or a part of the evaluated ones where null."""

    column: str
    trained_on: str | None
    classes: int
    train: int
    validation: int
    test: int
    figures: list[Figure]
    exponent: float
    sweep: list[SweepPoint]
    shots: list[ShotsPart]
    zero_shot: Figure | None
