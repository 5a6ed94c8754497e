"""What a user can set: one frozen model a stage, built alike by the command line, YAML and code, and checked up front."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    ValidationError,
)

from clipmill.core.errors import UserError

_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTP", start=1):
    _UNITS[f"{_letter}B"] = 1000**_power
    _UNITS[f"{_letter}iB"] = 1024**_power


def parse_bytes(text: str | int) -> int:
    """A size in bytes from text: ``24MB`` is 24·10⁶, ``4GiB`` is 4·2³⁰, a bare number counts bytes.

    Raises ValueError naming the text and the units that are understood.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a size: write a number and a unit, such as 24MB or 4GiB")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match.group(2) not in _UNITS:
        raise ValueError(f"{text!r} is not a size: write a number and a unit, such as 24MB or 4GiB")
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def _none_for_auto(value: Any) -> Any:
    return None if value == "auto" else value


def _names(value: Any) -> Any:
    """Names separated by commas, or a list of them."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return tuple(value) if isinstance(value, list) else value


def _share_or_count(value: Any) -> Any:
    """A share with a point in it (0.01) or a percent sign (1%), or a whole number of rejects."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.isdigit():
        return int(text)
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a number of rejects (100) nor a share of the rows (0.01, 1%)") from None


def _check_rejects(value: int | float | None) -> int | float | None:
    if value is not None and not value >= 0:
        raise ValueError("cannot be negative")
    if isinstance(value, float) and value > 1:
        raise ValueError("a share lies between 0 and 1 (0.01, or 1%); a number of rejects is written without a point")
    return value


def _check_gpus(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError("a share of one GPU (0.5), or a whole number of them")
    return value


def _check_reports(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) < 2:
        raise ValueError(f"give two reports or more to compare; {len(value)} given")
    if len(set(value)) < len(value):
        raise ValueError("the same report is given twice")
    return value


Rejects = Annotated[StrictInt | StrictFloat | None, BeforeValidator(_share_or_count), AfterValidator(_check_rejects)]
"""How many rejects are too many: an int counts them, a float is their share of the rows."""
Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]


class Settings(BaseModel):
    """Base of all settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(Settings):
    """Which CLIP model, and how it runs.

    ``model=None`` is the built-in small model. ``pretrained`` is an open_clip tag, a checkpoint file or ``local-dir:``.
    ``preprocessing`` names the open_clip tag whose preprocessing a checkpoint file was trained with, where open_clip
    knows several for that model.
    """

    model: str | None = None
    pretrained: str | None = None
    preprocessing: str | None = None
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    batch_size: int = Field(default=0, ge=0, description="images an encoder call; 0 chooses")

    @property
    def model_settings(self) -> "ModelSettings":
        """These settings without what a stage adds to them."""
        return ModelSettings(**{name: getattr(self, name) for name in ModelSettings.model_fields})


class ClusterSettings(Settings):
    """Where Ray runs and what it may use. Zeros choose from the cluster that is found."""

    address: str | None = None
    num_gpu_actors: int = Field(default=0, ge=0)
    gpus_per_actor: Annotated[float, AfterValidator(_check_gpus)] = Field(default=1.0, gt=0)
    cpus: int = Field(default=0, ge=0, description="cores of a local cluster; 0: those of this machine")
    stall_timeout: float = Field(default=900.0, gt=0, description="seconds without any progress that end a run")


class EmbedSettings(ModelSettings):
    """Source Parquet to an embeddings dataset."""

    input: str
    output: str
    image_column: str | None = None
    caption_column: str | None = None
    id_column: str | None = None
    keep_columns: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = Field(
        default=None, description="None keeps every other scalar column"
    )
    limit: int | None = Field(default=None, ge=1, description="first rows of the input only")
    thumbnails: int | None = Field(default=None, ge=16, le=1024, description="longer side in pixels")
    max_image_pixels: int = Field(default=178_956_970, ge=1, description="larger images are rejected unread")
    corrupt: str | None = Field(default=None, description="KIND:STRENGTH: pictures made worse, to measure robustness")
    max_rejects: Rejects = Field(default=None, description="more rejects than this end the run; None: any number")
    overwrite: bool = False


class IndexSettings(Settings):
    """Embeddings to a sharded, tuned FAISS index."""

    embeddings: str
    output: str
    gallery: Literal["images", "captions"] = "images"
    factory: str = "auto"
    foreign: str | None = Field(default=None, description="a FAISS file made elsewhere over the same vectors")
    shards: Annotated[int | None, BeforeValidator(_none_for_auto)] = Field(
        default=None, ge=1, description="None, or auto, chooses"
    )
    memory: Bytes = 4 * 1024**3
    target_recall: float = Field(default=0.95, gt=0, le=1)
    tuning_queries: int = Field(default=2000, ge=1, description="captions drawn to tune on; as many again confirm")
    k: int = Field(default=10, ge=1)
    seed: int = 0
    overwrite: bool = False


class DedupSettings(Settings):
    """Embeddings to their pairs and groups of near-duplicates."""

    embeddings: str
    output: str
    threshold: float = Field(default=0.95, ge=-1, le=1, description="least cosine of two near-duplicates")
    gallery: Literal["images", "captions"] = "images"
    keep: str = Field(default="first", description="first, largest, clip-score, or a kept column: its greatest value")
    overwrite: bool = False


class FilterSettings(Settings):
    """Embeddings to the rows that are kept and those that are dropped."""

    embeddings: str
    output: str
    min_clip_score: float | None = Field(default=None, ge=-1, le=1, description="of the best caption of a row")
    prompt: tuple[str, ...] = Field(default=(), description='texts, each with a bound if wanted: "a dog >= 0.25"')
    duplicates: str | None = Field(default=None, description="what dedup made: rows that it does not keep are dropped")
    where: str | None = Field(default=None, description="SQL condition that rows must meet")
    pretrained: str | None = Field(default=None, description="checkpoint of the embeddings' model, if it has moved")
    overwrite: bool = False


class EvaluateSettings(Settings):
    """Embeddings, and optionally an index over them, to a report."""

    embeddings: str
    output: str
    index: str | None = None
    label_column: str | None = Field(default=None, description="None uses the column `label` where there is one")
    class_names: str | None = Field(default=None, description="imagenet, or a file of names for the labels")
    templates: str = "simple"
    probe: bool = Field(default=True, description="train a linear probe, few-shot classifiers and k-NN on the labels")
    probe_train: str | None = Field(default=None, description="embeddings to train them on; None splits the evaluated")
    pretrained: str | None = Field(default=None, description="checkpoint of the embeddings' model, if it has moved")
    slice_by: tuple[str, ...] = Field(default=(), description="kept columns that every figure is parted by")
    robustness: tuple[str, ...] = Field(default=(), description="embeddings of the same input made with --corrupt")
    perturb_text: bool = Field(default=False, description="texts in other case and with typing errors, encoded again")
    bootstrap_samples: int = Field(default=1000, ge=0)
    fidelity_queries: int = Field(default=1000, ge=1)
    seed: int = 0
    overwrite: bool = False


class GateSettings(Settings):
    """Bars that a new version must reach before it is published; None: no bar."""

    min_t2i_recall_at_10: float | None = Field(default=None, ge=0, le=1)
    max_t2i_drop: float | None = Field(default=None, ge=0, le=1, description="of R@10, against the published version")
    max_rejects: Rejects = Field(default=None, description="among the images and captions that are new")
    min_index_recall: float | None = Field(default=None, ge=0, le=1, description="on queries that it was not tuned on")
    max_p99_milliseconds: float | None = Field(default=None, gt=0, description="of one query on one thread")
    max_row_change: Annotated[float | None, BeforeValidator(_share_or_count)] = Field(
        default=None, ge=0, description="share of the published rows that may come or go: 0.2"
    )


class CompareSettings(Settings):
    """Reports, the first of which is the baseline, to a comparison."""

    reports: Annotated[tuple[str, ...], AfterValidator(_check_reports)]
    output: str
    match: Literal["path", "id"] = Field(default="path", description="what makes two queries the same")
    bootstrap_samples: int = Field(default=2000, ge=1000)
    seed: int = 0
    max_drop: float | None = Field(default=None, ge=0, le=1, description="largest visible drop that is accepted")
    overwrite: bool = False


class SampleSettings(Settings):
    """Rendered scenes with captions and labels, as source Parquet."""

    output: str
    rows: int = Field(ge=1, le=10**10)
    seed: int = 0
    split: Literal["train", "held-out"] = "held-out"
    image_size: int = Field(default=96, ge=16, le=2048)
    overwrite: bool = False


class ImportSettings(Settings):
    """A dataset in another format to source Parquet."""

    source: str
    output: str
    split: str | None = Field(default=None, description="None takes all splits; COCO and Flickr8k have several")
    image_column: str | None = Field(default=None, description="of a CSV file")
    caption_column: str | None = Field(default=None, description="of a CSV file")
    overwrite: bool = False


class ImportVectorsSettings(Settings):
    """Vectors made elsewhere to an embeddings dataset."""

    images: str
    output: str
    texts: str | None = None
    text_image: str | None = None
    metadata: str | None = None
    caption_column: str | None = None
    id_column: str | None = None
    overwrite: bool = False


class TrainSettings(Settings):
    """Source Parquet to a checkpoint in open_clip's local-dir layout."""

    input: str
    output: str
    model: str | None = None
    pretrained: str | None = None
    preprocessing: str | None = None
    validation: str | None = None
    steps: int = Field(default=1000, ge=1)
    batch_size: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.1, ge=0)
    negative_share: float = Field(default=1.0, ge=0, le=1, description="images that bring a caption false of them")
    validate_every: int = Field(default=200, ge=1)
    weights_precision: Literal["fp32", "fp16"] = "fp32"
    seed: int = 0
    image_column: str | None = None
    caption_column: str | None = None
    overwrite: bool = False


SettingsModel = TypeVar("SettingsModel", bound=Settings)


def build(model: type[SettingsModel], values: Mapping[str, Any]) -> SettingsModel:
    """Settings from values, where a mistake is a UserError that names every option at fault."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            option = "--" + ".".join(str(part) for part in problem["loc"]).replace("_", "-")
            problems.append(f"{option}: {problem['msg'].removeprefix('Value error, ')}")
        raise UserError("; ".join(problems)) from None
