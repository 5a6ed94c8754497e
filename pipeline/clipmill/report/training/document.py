"""The content of a training report, from which JSON and HTML are made."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from clipmill.core.manifests import Record

MEASURED = {
    "loss": ("Loss", "Nats per image, of the step's own batch."),
    "gradient_norm": ("Length of the gradient", "Before it is shortened to 1, over all trained weights."),
    "logit_scale": ("Inverse temperature", "What products of unit vectors are multiplied with; at most 100."),
    "images_per_second": ("Images per second", "Of all workers together, since this start."),
}
"""What is noted of steps: a title and a definition."""
VALIDATED = {
    "t2i_r@1": (
        "text to image R@1",
        "Share of held-out captions whose image is the nearest of the validation's images.",
    ),
    "i2t_r@1": ("image to text R@1", "Share of held-out images one of whose captions is the nearest of all captions."),
    "acc1": ("acc1", "Share of held-out images whose label is the most probable of all that occur."),
    "negative_accuracy": (
        "true told from false",
        "Share of pairs of a true and a false caption in which the true one is nearer.",
    ),
}
"""What is measured by validations: a title and a definition."""


class Set(Record):
    """The model on one dataset: what changed, tested on the same queries, or only where the model is now."""

    name: str
    uri: str
    trained_for: bool
    """Whether it is the validation set; else one that tells what was forgotten."""
    sentences: tuple[str, ...]
    page: str
    """The page with everything, relative to this report."""


class TrainingReport(Record):
    """``training.json`` beside the page."""

    kind: ClassVar[str] = "training"

    created: datetime
    model: str
    output: str
    steps: int
    rows: int
    seconds: float
    workers: int
    hardware: Mapping[str, Any]
    losses: Sequence[Mapping[str, Any]]
    validations: Sequence[Mapping[str, Any]]
    sets: tuple[Set, ...]
    software: Mapping[str, str]
