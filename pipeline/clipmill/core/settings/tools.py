"""Settings of commands that stand beside the stages: compare, sample, import, train."""

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
    )

    rows: Annotated[Count, Option(metavar="ROWS")] = Field(le=10**10, description="Number of scenes: 5000, 500k, 10M.")
    seed: int = Field(default=0, description="Row i of a seed is the same whatever --rows is.")
    split: Literal["train", "held-out"] = Field(
        default="held-out",
        description="The two share no scene. The built-in model was trained on the first.",
    )
    image_size: int = Field(default=96, ge=16, le=2048, description="Side of the square pictures in pixels.")


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


class TrainSettings(ImagePathSettings, OutputSettings):
    """Source Parquet to a checkpoint in open_clip's local-dir layout."""

    input: str = Field(description="Parquet with images and captions: file, folder, glob or s3:// prefix.")
    model: str | None = Field(
        default=None, description="Any open_clip model. Default: the architecture of the built-in small model."
    )
    pretrained: str | None = Field(
        default=None,
        description="Weights to start from: an open_clip tag, a file or a folder. Default: fresh ones.",
    )
    preprocessing: str | None = Field(
        default=None, description="Tag whose preprocessing is used, where open_clip knows several for the model."
    )
    validation: str | None = Field(
        default=None, description="Parquet with held-out images and captions, on which recall is measured."
    )
    steps: int = Field(default=1000, ge=1, description="Batches to learn from.")
    batch_size: int = Field(default=256, ge=2, description="Images per step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak; for fine-tuning about 1e-5.")
    warmup_steps: int = Field(default=100, ge=0, description="Steps up to the peak.")
    weight_decay: float = Field(default=0.1, ge=0, description="Of matrices; gains and biases have none.")
    negative_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of images that bring one of their `negative_caption` texts, where the input has that column.",
    )
    validate_every: int = Field(default=200, ge=1, description="Steps between validations.")
    weights_precision: Literal["fp32", "fp16"] = Field(
        default="fp32", description="Number format of the saved weights."
    )
    seed: int = Field(default=0, description="Decides fresh weights and the order of the data.")
    image_column: str | None = Field(default=None, description="Default: found by its name.")
    caption_column: str | None = Field(default=None, description="Default: found by its name.")
