"""Zero-shot classification as a part of the document."""

import numpy as np
from scipy.stats import beta

from clipmill.evaluation.classification.calibration import BINS, Calibration
from clipmill.evaluation.classification.zero_shot import TemplateEffect, ZeroShot
from clipmill.evaluation.statistics.bootstrap import LEVEL
from clipmill.report.document import (
    CalibrationPart,
    ClassPart,
    Confusion,
    Figure,
    ReliabilityBin,
    TemplatePart,
    TemplatesPart,
    ZeroShotPart,
)
from clipmill.report.parts.figures import definition_of, figure


def zero_shot_part(result: ZeroShot, column: str, templates_name: str, templates: tuple[str, ...]) -> ZeroShotPart:
    """Figures, classes from best to worst, the most frequent confusions, calibration, and what each template brings."""
    intervals = result.intervals
    figures = [figure("acc1", "acc1", "proportion", ZeroShot.acc1, intervals["acc1"])]
    if result.acc5 is not None:
        figures.append(figure("acc5", "acc5", "proportion", ZeroShot.acc5, intervals["acc5"]))
    figures.append(
        figure(
            "mean_per_class_recall",
            "Mean per-class recall",
            "proportion",
            ZeroShot.mean_per_class_recall,
            intervals["mean_per_class_recall"],
        )
    )
    recalls = result.class_recall
    there = np.flatnonzero(result.support)
    return ZeroShotPart(
        column=column,
        templates_name=templates_name,
        templates=list(templates),
        images=result.images,
        unlabelled=result.unlabelled,
        figures=figures,
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
    intervals, tail = calibration.intervals, (1 - LEVEL) / 2
    bins = []
    for number in range(BINS):
        n, right = int(calibration.counts[number]), float(calibration.correct[number])
        accuracy = right / n if n else None
        bins.append(
            ReliabilityBin(
                above=number / BINS,
                up_to=(number + 1) / BINS,
                images=n,
                confidence=float(calibration.confidence[number]) / n if n else None,
                accuracy=accuracy,
                low=None if not n else float(beta.ppf(tail, right, n - right + 1)) if right > 0 else 0.0,
                high=None if not n else float(beta.ppf(1 - tail, right + 1, n - right)) if right < n else 1.0,
            )
        )
    return CalibrationPart(
        logit_scale=calibration.logit_scale,
        figures=[
            figure("calibration_error", "Calibration error", "proportion", Calibration.error, intervals["error"]),
            figure(
                "mean_confidence",
                "Mean confidence",
                "proportion",
                Calibration.mean_confidence,
                intervals["mean_confidence"],
            ),
        ],
        bins=bins,
    )


def _templates(effect: TemplateEffect, templates: tuple[str, ...]) -> TemplatesPart:
    together = "acc1 of all templates together, on the images on which each was also tried alone."
    mean = Figure(
        name="template_mean_acc1",
        title="One template, on average",
        unit="proportion",
        definition=definition_of(TemplateEffect.mean),
        value=effect.mean,
        n=effect.together.n,
    )
    pairs = zip(templates, effect.alone, effect.differences, strict=True)
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
        for template, alone, difference in pairs
    ]
    return TemplatesPart(
        figures=[figure("template_ensemble_acc1", "All together", "proportion", together, effect.together), mean],
        templates=sorted(parts, key=lambda part: -part.acc1),
    )
