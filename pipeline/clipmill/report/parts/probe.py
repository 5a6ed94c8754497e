"""Classifiers trained on frozen embeddings as a part of the document."""

from clipmill.evaluation.classification.few_shot import DRAWS
from clipmill.evaluation.classification.supervised import Supervised
from clipmill.report.document import Figure, ProbePart, Report, ShotsPart, SweepPoint
from clipmill.report.parts.figures import figure

_LINEAR = (
    "of a linear probe: multinomial logistic regression on frozen embeddings, centred and scaled, with an L2 penalty "
    "chosen on the validation split, then trained on training and validation images (Radford et al. 2021, A.3)"
)
LINEAR = f"Share of test images given the right class, {_LINEAR}."
LINEAR_RECALL = f"Mean over classes of the share of their test images given the right class, {_LINEAR}."
NEIGHBOURS = (
    "Share of test images given the right class by the {k} most similar of the training and validation images, whose votes "
    "weigh exp(cosine / .07) (Wu et al. 2018)."
)
NEAREST = "Share of test images whose most similar training or validation image is of the right class."
SHOTS = (
    f"Share of test images given the right class by a linear probe of so few training images a class: mean of {DRAWS} "
    "random draws. The interval covers both the draws and the test images. The penalty is chosen on the whole validation "
    "split, with the first draw."
)
ZERO_SHOT = "acc1 of zero-shot classification on the same test images: no training images at all."


def probe_part(result: Supervised, column: str, trained_on: str | None) -> ProbePart:
    """Figures, the sweep, accuracy by shots, and zero-shot on the same images to compare with."""
    figures = [
        figure("linear_probe_acc1", "Linear probe", "proportion", LINEAR, result.linear),
        figure(
            "linear_probe_mean_per_class_recall",
            "Linear probe, class mean",
            "proportion",
            LINEAR_RECALL,
            result.linear_recall,
        ),
    ]
    for k, interval in result.neighbours.items():
        definition = NEAREST if k == 1 else NEIGHBOURS.format(k=k)
        figures.append(figure(f"knn{k}_acc1", f"k-NN, k = {k}", "proportion", definition, interval))
    return ProbePart(
        column=column,
        trained_on=trained_on,
        classes=result.classes,
        train=result.train,
        validation=result.validation,
        test=result.test,
        figures=figures,
        exponent=result.sweep.best,
        sweep=[SweepPoint(exponent=exponent, accuracy=accuracy) for exponent, accuracy in result.sweep.tried],
        shots=[
            ShotsPart(
                shots=one.shots,
                figure=figure(f"few_shot_{one.shots}_acc1", f"{one.shots} a class", "proportion", SHOTS, one.accuracy),
                draws=list(one.draws),
                exponent=one.exponent,
            )
            for one in result.few_shot
        ],
        zero_shot=(
            figure("zero_shot_on_test_acc1", "Zero-shot", "proportion", ZERO_SHOT, result.zero_shot)
            if result.zero_shot
            else None
        ),
    )


def classification_figures(report: Report) -> list[Figure]:
    """The figures of the report's classification that lie deeper than a part's own."""
    found = []
    if report.zero_shot:
        for part in (report.zero_shot.calibration, report.zero_shot.template_effect):
            found += part.figures if part else []
    if report.probe:
        found += [*report.probe.figures, *(shots.figure for shots in report.probe.shots)]
        found += [report.probe.zero_shot] if report.probe.zero_shot else []
    return found
