"""Settings of `clipmill train`."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from clipmill.core.settings.base import OutputSettings
from clipmill.core.settings.shared import ImagePathSettings
from clipmill.core.values import Gpus, Names, Option, Span, Workers


class TrainSettings(ImagePathSettings, OutputSettings):
    """Source Parquet to a model in open_clip's local-dir layout.

    ``HOW`` names those that do not decide the outcome but for rounding; models made before a setting existed have what
    ``BEFORE`` says of it.
    """

    HOW: ClassVar[tuple[str, ...]] = (
        "output",
        "overwrite",
        "workers",
        "gpus_per_worker",
        "micro_batch",
        "checkpoint_every",
        "checkpoint_activations",
        "precision",
        "report",
        "compare_on",
    )
    BEFORE: ClassVar[dict[str, Any]] = {"temperature_rate": 1.0}

    input: str = Field(description="Images with captions, as `clipmill embed --input` reads them.")
    model: str | None = Field(
        default=None,
        description="Any open_clip model, or a folder with an open_clip_config.json. Default: the architecture of the built-in "
        "small model.",
    )
    pretrained: str | None = Field(
        default=None,
        description="Weights to start from: an open_clip tag, a file or a folder. Default: fresh ones.",
    )
    preprocessing: str | None = Field(
        default=None, description="Tag whose preprocessing is used, where open_clip knows several for the model."
    )
    validation: str | None = Field(
        default=None, description="Held-out images with captions, on which recall is measured."
    )
    loss: Literal["clip", "siglip", "coca", "lm", "itm"] = Field(
        default="clip",
        description="clip: each finds its own among all of the batch; siglip: each pair on its own; coca: as clip, and a "
        "decoder learns to write the caption; lm: a model that writes (LLaVA) learns to answer questions, or to caption; itm: "
        "towers and a head that looks at both (BLIP) learn which texts are true.",
    )
    steps: int = Field(default=1000, ge=1, description="Batches to learn from.")
    batch_size: int = Field(default=256, ge=2, description="Images per step, of all workers together.")
    micro_batch: int = Field(
        default=0,
        ge=0,
        description="Images per pass through the network, where a worker's part of the batch is larger than its memory; the "
        "loss is still that of the whole batch. Default: the whole part.",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak; for fine-tuning about 1e-5.")
    image_rate: float = Field(default=1.0, ge=0, description="Factor of the peak for the image tower.")
    text_rate: float = Field(default=1.0, ge=0, description="Factor of the peak for the text tower.")
    temperature_rate: float = Field(
        default=10.0, ge=0, description="Factor of the peak for the temperature and the bias."
    )
    warmup_steps: int = Field(default=100, ge=0, description="Steps up to the peak.")
    weight_decay: float = Field(default=0.1, ge=0, description="Of matrices; gains and biases have none.")
    freeze: Literal["none", "image", "text"] = Field(
        default="none", description="A tower to leave as it is while the other learns to match it."
    )
    lora: int = Field(
        default=0,
        ge=0,
        description="Rank of low-rank updates that are trained in place of whole matrices. Default: none.",
    )
    average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Keep a moving average of the weights with this decay (.999), and validate and save that.",
    )
    interpolate: Span = Field(
        default=None,
        description="Measure mixtures of the starting and the trained weights on --validation, such as 0:1:.1, and save the "
        "best.",
    )
    augment: Names = Field(default=(), description="How pictures are altered, with commas: crop, flip, colour.")
    negative_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of images that bring one false caption: of their `negative_caption`, where the input has that "
        "column, else as --hard-negatives says.",
    )
    hard_negatives: Annotated[str, Option(metavar="none|words|INDEX")] = Field(
        default="none",
        description="False captions: words, for images that bring none the true one with words exchanged (left for right, the "
        "colours of two things, two things); or an index of the input's captions, the nearest ones of other images.",
    )
    near_duplicates: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Leave out training pictures whose vectors by the starting model have at least this cosine with one of "
        "--validation (.95). Default: only those that are the same byte for byte.",
    )
    report: Annotated[str | None, Option(metavar="URI")] = Field(
        default=None,
        description="Folder for training.html: curves, and the model before and after on --validation and --compare-on.",
    )
    compare_on: Annotated[tuple[str, ...], Option(metavar="URI")] = Field(
        default=(),
        description="Held-out images of another kind, which tell in the report what the model forgets. May be given several "
        "times.",
    )
    validate_every: int = Field(default=200, ge=1, description="Steps between validations.")
    stop_after: int = Field(
        default=0,
        ge=0,
        description="End when so many validations in a row were not better than the best by more than chance (95%), and save "
        "the best. Default: never.",
    )
    checkpoint_every: int = Field(default=0, ge=0, description="Steps between checkpoints. Default: once a minute.")
    checkpoint_activations: bool = Field(
        default=False, description="Compute activations again on the way back: less memory, more time."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="Number format of the passes through the network; auto: bf16 on GPUs, else fp32."
    )
    weights_precision: Literal["fp32", "fp16"] = Field(
        default="fp32", description="Number format of the saved weights."
    )
    workers: Workers = Field(
        default=None,
        description="Processes that share each batch, on Ray. With a range, a run goes on with fewer when some are lost. "
        "Default: one per GPU of the cluster that is named, else this process alone.",
    )
    gpus_per_worker: Gpus = Field(default=1.0, gt=0, description="GPUs per worker, where workers run on GPUs.")
    seed: int = Field(default=0, description="Decides fresh weights, the order of the data, and how it is altered.")
    image_column: str | None = Field(default=None, description="Default: found by its name.")
    caption_column: str | None = Field(default=None, description="Default: found by its name.")
    audio_column: str | None = Field(
        default=None,
        description="Column of sounds, whose spectrograms the image tower learns to see in rows without a picture; the model "
        "hears from then on. Default: none, but for a model that hears, found by its name.",
    )
    question_column: str | None = Field(
        default=None,
        description="With --loss lm: column of questions, one or a list, each with an answer at its place.",
    )
    answer_column: str | None = Field(default=None, description="With --loss lm: column of the answers.")
    label_column: str | None = Field(
        default=None, description="Column of class names, of which --templates make captions, in place of captions."
    )
    templates: Annotated[str, Option(metavar="NAME|FILE")] = Field(
        default="simple", description="Prompts that make captions of labels, as for `clipmill evaluate`."
    )

    @property
    def mines(self) -> bool:
        """Whether hard negatives come from an index."""
        return self.hard_negatives not in ("none", "words")

    def content(self) -> dict[str, Any]:
        """The settings that decide the outcome, as JSON types."""
        return {name: value for name, value in self.recorded().items() if name not in self.HOW}

    def content_before(self) -> dict[str, Any]:
        """What those settings were for models that were made before they existed."""
        fields = type(self).model_fields
        plain = {name: field.get_default() for name, field in fields.items() if not field.is_required()}
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in {**plain, **self.BEFORE}.items()
        }
