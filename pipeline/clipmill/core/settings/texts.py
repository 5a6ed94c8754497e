"""Settings of the evaluation of texts about pictures."""

from typing import ClassVar

from pydantic import Field

from clipmill.core.settings.base import OutputSettings
from clipmill.core.settings.shared import ImagePathSettings, ModelSettings


class TextEvaluationSettings(ImagePathSettings, ModelSettings, OutputSettings):
    """Texts about pictures to a report."""

    CONTENT: ClassVar[tuple[str, ...]] = (
        "reference_column",
        "answer_column",
        "clip_score",
        "image_column",
        "max_image_pixels",
        "allow_outside",
        "bootstrap_samples",
        "seed",
    )

    texts: str = Field(
        description="What `clipmill caption` or `clipmill ask` wrote, to evaluate in place of embeddings."
    )
    reference_column: str | None = Field(
        default=None,
        description="Column of the texts' input with right captions. Default: its captions, where texts are captions.",
    )
    answer_column: str | None = Field(
        default=None, description="Column with right answers: of one person, or a list of those of several."
    )
    clip_score: bool = Field(default=True, description="Measure how well texts fit their pictures, by a CLIP model.")
    input: str | None = Field(
        default=None, description="Where the input of the texts is now. Default: as their manifest says."
    )
    image_column: str | None = Field(default=None, description="Default: found by its name and type.")
    max_image_pixels: int = Field(default=178_956_970, ge=1, description="Larger images are not read.")
    bootstrap_samples: int = Field(default=1000, ge=0, description="Resamples for the intervals.")
    seed: int = Field(default=0, description="Decides what is drawn: resamples, queries, splits.")
