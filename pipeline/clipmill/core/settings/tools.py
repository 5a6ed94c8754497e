"""Settings of commands that stand beside the stages: compare, sample, import."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from clipmill.core.settings.base import OutputSettings
from clipmill.core.settings.shared import ImagePathSettings
from clipmill.core.values import Count, Option, check_reports


class CompareSettings(OutputSettings):
    """Reports, the first of which is the baseline, to a comparison."""

    CONTENT: ClassVar[tuple[str, ...]] = (
        "match",
        "bootstrap_samples",
        "seed",
    )

    reports: Annotated[
        tuple[str, ...], AfterValidator(check_reports), Option(argument=True, metavar="REPORT REPORT …")
    ] = Field(description="Folders of reports; the first is the baseline.")
    match: Literal["path", "id"] = Field(
        default="path",
        description="What makes two queries the same: source path and row number, or the id, where the files have moved.",
    )
    bootstrap_samples: int = Field(default=2000, ge=1000, description="Resamples for the intervals.")
    seed: int = Field(default=0, description="Decides which resamples are drawn.")
    max_drop: Annotated[float | None, Option(metavar="SHARE")] = Field(
        default=None,
        ge=0,
        le=1,
        description="Exit with 3 when a recall or accuracy is significantly worse by more than this share (0.01: one "
        "point).",
    )


class SampleSettings(OutputSettings):
    """Rendered scenes with captions and labels, as source Parquet."""

    CONTENT: ClassVar[tuple[str, ...]] = (
        "rows",
        "seed",
        "split",
        "image_size",
        "sounds",
    )

    rows: Annotated[Count, Option(metavar="ROWS")] = Field(le=10**10, description="Number of scenes: 5000, 500k, 10M.")
    seed: int = Field(default=0, description="Row i of a seed is the same whatever --rows is.")
    split: Literal["train", "held-out"] = Field(
        default="held-out",
        description="The two share no scene. The built-in model was trained on the first.",
    )
    image_size: int = Field(default=96, ge=16, le=2048, description="Side of the square pictures in pixels.")
    sounds: Literal["beside", "alternate", "shared"] | None = Field(
        default=None,
        description="Sounds of the scenes too: beside every picture, with captions of the sound; alternate: a picture or a "
        "sound in each row, to train on; shared: the same, half of them with captions that are true of both. Default: pictures "
        "alone.",
    )


class ImportSettings(ImagePathSettings, OutputSettings):
    """A dataset in another format to source Parquet."""

    CONTENT: ClassVar[tuple[str, ...]] = (
        "split",
        "image_column",
        "caption_column",
        "allow_outside",
    )

    source: Annotated[str, Option(argument=True, metavar="SRC")]
    split: str | None = Field(default=None, description="Take one split only. Default: all.")
    image_column: str | None = Field(
        default=None, description="Column with the image paths. Default: found by its name."
    )
    caption_column: str | None = Field(
        default=None, description="Column with the captions. Default: found by its name."
    )


class ImportVectorsSettings(OutputSettings):
    """Vectors made elsewhere to an embeddings dataset."""

    images: str = Field(description="A .npy file of image vectors (n, d), or a folder of them.")
    texts: str | None = Field(default=None, description="A .npy file of text vectors, or a folder of them.")
    text_image: str | None = Field(
        default=None,
        description="A .npy file: the image row of every text. Default: as the metadata lists captions, else row i belongs to "
        "row i.",
    )
    metadata: str | None = Field(
        default=None,
        description="CSV, Parquet or a folder of Parquet: one row per image, with a list of its captions where there are "
        "several or none, or one per text.",
    )
    caption_column: str | None = Field(
        default=None, description="Column of the metadata with the texts. Default: found by its name."
    )
    id_column: str | None = Field(
        default=None, description="Column of the metadata with ids. Default: id, key, uid …, else file and row."
    )
