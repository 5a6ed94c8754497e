"""Classifiers trained on frozen embeddings as a part of the document."""

from clipmill.evaluation.classification.supervised import Supervised
from clipmill.report.schema.classification import ProbePart, ShotsPart, SweepPoint


def probe_part(result: Supervised, column: str, trained_on: str | None) -> ProbePart:
    """Figures, the sweep, accuracy by shots, and zero-shot on the same images to compare with."""
    return ProbePart(
        column=column,
        trained_on=trained_on,
        classes=result.classes,
        train=result.train,
        validation=result.validation,
        test=result.test,
        figures=result.figures,
        exponent=result.sweep.best,
        sweep=[SweepPoint(exponent=exponent, accuracy=accuracy) for exponent, accuracy in result.sweep.tried],
        shots=[
            ShotsPart(shots=one.shots, figure=one.figure, draws=list(one.draws), exponent=one.exponent)
            for one in result.few_shot
        ],
        zero_shot=result.zero_shot_figure,
    )
