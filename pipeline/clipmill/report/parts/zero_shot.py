"""Zero-shot classification as a part of the document."""

import numpy as np
from scipy.stats import beta

from clipmill.core.intervals import LEVEL
from clipmill.evaluation.classification.calibration import BINS, Calibration
from clipmill.evaluation.classification.zero_shot import TemplateEffect, ZeroShot
from clipmill.report.schema.classification import (
    CalibrationPart,
    ClassPart,
    Confusion,
    ReliabilityBin,
    TemplatePart,
    TemplatesPart,
    ZeroShotPart,
)


def zero_shot_part(result: ZeroShot, column: str, templates_name: str, templates: tuple[str, ...]) -> ZeroShotPart:
    """Figures, classes from best to worst, the most frequent confusions, calibration, and what each template brings."""
    recalls = result.class_recall
    there = np.flatnonzero(result.support)
    return ZeroShotPart(
        column=column,
        templates_name=templates_name,
        templates=list(templates),
        images=result.images,
        unlabelled=result.unlabelled,
        figures=result.figures,
        classes=[
            ClassPart(name=result.classes[i], support=int(result.support[i]), recall=float(recalls[i]))
            for i in there[np.argsort(-recalls[there], kind="stable")]
        ],
        confusions=[Confusion(truth=truth, given=given, count=count) for truth, given, count in result.confusions],
        without_images=len(result.classes) - len(there),
        calibration=_calibration(result.calibration) if result.calibration else None,
        template_effect=_templates(result.templates, templates) if result.templates else None,
    )


def _calibration(calibration: Calibration) -> CalibrationPart:
    bins = [
        _bin(number, int(n), float(confidence), float(right))
        for number, (n, confidence, right) in enumerate(
            zip(calibration.counts, calibration.confidence, calibration.correct, strict=True)
        )
    ]
    return CalibrationPart(
        logit_scale=calibration.logit_scale, logit_bias=calibration.logit_bias, figures=calibration.figures, bins=bins
    )


def _bin(number: int, n: int, confidence: float, right: float) -> ReliabilityBin:
    """A bin with the sums of confidence and of right answers of its ``n`` images, and Clopper and Pearson's interval."""
    above, up_to, tail = number / BINS, (number + 1) / BINS, (1 - LEVEL) / 2
    if not n:
        return ReliabilityBin(above=above, up_to=up_to, images=0, confidence=None, accuracy=None, low=None, high=None)
    return ReliabilityBin(
        above=above,
        up_to=up_to,
        images=n,
        confidence=confidence / n,
        accuracy=right / n,
        low=float(beta.ppf(tail, right, n - right + 1)) if right > 0 else 0.0,
        high=float(beta.ppf(1 - tail, right + 1, n - right)) if right < n else 1.0,
    )


def _templates(effect: TemplateEffect, templates: tuple[str, ...]) -> TemplatesPart:
    parts = [
        TemplatePart(
            template=template,
            acc1=alone.value,
            low=alone.low,
            high=alone.high,
            difference=difference.value,
            difference_low=difference.low,
            difference_high=difference.high,
        )
        for template, alone, difference in zip(templates, effect.alone, effect.differences, strict=True)
    ]
    return TemplatesPart(figures=effect.figures, templates=sorted(parts, key=lambda part: -part.acc1))
