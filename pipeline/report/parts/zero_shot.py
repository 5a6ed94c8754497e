"""Zero-shot classification as a part of the document."""

import numpy as np

from pipeline.evaluate.zero_shot import ZeroShot
from pipeline.report.document import ClassPart, Confusion, ZeroShotPart
from pipeline.report.parts.figures import figure


def zero_shot_part(result: ZeroShot, column: str, templates_name: str, templates: tuple[str, ...]) -> ZeroShotPart:
    """Figures, classes from best to worst, and the most frequent confusions."""
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
    return ZeroShotPart(
        column=column,
        templates_name=templates_name,
        templates=list(templates),
        images=result.images,
        unlabelled=result.unlabelled,
        figures=figures,
        classes=[
            ClassPart(name=result.classes[i], support=int(result.support[i]), recall=float(recalls[i]))
            for i in np.argsort(-recalls, kind="stable")
        ],
        confusions=[Confusion(truth=truth, given=given, count=count) for truth, given, count in result.confusions],
    )
