"""Settings of the stages from source Parquet to a report, and of what is done between them."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from clipmill.core.near_pairs import Linkage
from clipmill.core.schemas import GalleryName, RerankKind
from clipmill.core.settings.base import OutputSettings, Settings
from clipmill.core.settings.shared import TRUST, ImagePathSettings, ModelSettings, ProductSettings
from clipmill.core.values import (
    Bytes,
    Count,
    CountOrAll,
    CountOrAuto,
    Frames,
    Names,
    Numbers,
    Option,
    Rejects,
    Share,
    size_text,
)

_MEMORY = 4 * 1024**3
DEFAULT_QUERY_SAMPLE = 100_000
"""R@K of so many queries is known to ±.003, which is less than what most changes of a model make."""
_MOVED_WEIGHTS = "Where the weights of the embeddings' model are now. Default: as their manifest says."


class EmbedSettings(ImagePathSettings, ModelSettings, OutputSettings):
    """Source Parquet to an embeddings dataset."""

    GROUP: ClassVar[str] = "Input"
    CONTENT: ClassVar[tuple[str, ...]] = (
        "image_column",
        "caption_column",
        "id_column",
        "keep_columns",
        "limit",
        "thumbnails",
        "max_image_pixels",
        "allow_outside",
        "audio_column",
        "video_column",
        "window",
        "frames",
    )

    input: str = Field(
        description="Folder, file, glob or prefix: Parquet, pictures, sounds, videos, a CSV or JSONL list, a saved Hugging "
        "Face dataset, WebDataset archives, a Lance table; local or s3://."
    )
    image_column: str | None = Field(default=None, description="Default: found by its name and type.")
    caption_column: str | None = Field(default=None, description="Default: found by its name and type.")
    audio_column: str | None = Field(default=None, description="Of sounds. Default: found by its name and type.")
    video_column: str | None = Field(default=None, description="Of videos. Default: found by its name and type.")
    window: Annotated[float | None, Option(metavar="SECONDS")] = Field(
        default=None,
        gt=0,
        description="Hear the whole of long sounds, in windows of this length whose vectors are averaged. Default: a sound is "
        "heard from its beginning, as long as the model hears at once.",
    )
    frames: Frames = Field(
        default=None,
        description="Pictures, evenly over its time, whose vectors are averaged to that of a video; keep: one a second, each "
        "with a vector and a time of its own. Default: 8.",
    )
    id_column: str | None = Field(
        default=None, description="Default: id, key, uid, image_id …; without one, ids are made from file and row."
    )
    keep_columns: Names = Field(
        default=None, description="Columns to carry along, separated by commas. Default: every scalar column."
    )
    limit: Annotated[Count | None, Option(metavar="ROWS")] = Field(
        default=None, description="Embed only the first rows of the input: 5000, 500k, 10M."
    )
    thumbnails: Annotated[int | None, Option(metavar="PX")] = Field(
        default=None, ge=16, le=1024, description="Keep a JPEG of each image whose longer side has this many pixels."
    )
    max_image_pixels: int = Field(default=178_956_970, ge=1, description="Larger images are rejected unread.")
    decode: Literal["auto", "cpu", "gpu"] = Field(
        default="auto",
        description="What decodes JPEGs: cores, or with gpu the GPU that encodes them, which was not measured yet and is never "
        "chosen by auto.",
    )
    corrupt: Annotated[str | None, Option(metavar="KIND:STRENGTH")] = Field(
        default=None,
        description="Degrade every image first, to measure robustness: blur, noise, jpeg, brightness, crop, rotation or "
        "greyscale, at a strength from 1 to 5 (blur:2).",
    )
    max_rejects: Rejects = Field(
        default=None,
        description="End the run when more images and captions than this are rejected: a number (500) or a share "
        "(0.01, 1%).",
    )


class IndexSettings(OutputSettings, ProductSettings):
    """Embeddings to a sharded, tuned FAISS index."""

    CONTENT: ClassVar[tuple[str, ...]] = (
        "gallery",
        "factory",
        "shards",
        "memory",
        "target_recall",
        "tuning_queries",
        "k",
        "tune_k",
        "rerank_vectors",
        "seed",
    )

    embeddings: str = Field(description="Embeddings dataset to index, or an output of `clipmill run`; local or s3://.")
    gallery: GalleryName = Field(default="images", description="Which vectors are indexed.")
    factory: str = Field(default="auto", description="A FAISS factory string instead of a planned index.")
    foreign: Annotated[str | None, Option(metavar="FILE")] = Field(
        default=None,
        description="Take over this FAISS file, made elsewhere over the same vectors in the same order. Only from a "
        "source you trust.",
    )
    shards: Annotated[CountOrAuto, Option(metavar="N|auto", default="auto")] = Field(
        default=None, ge=1, description="Number of shards, each built by a task of its own."
    )
    memory: Annotated[Bytes, Option(metavar="SIZE", default=size_text(_MEMORY))] = Field(
        default=_MEMORY, description="What search may keep resident: 24MB, 4GiB."
    )
    target_recall: float = Field(
        default=0.95, gt=0, le=1, description="k-recall@k to tune for. When given and missed, the exit code is 3."
    )
    tuning_queries: int = Field(
        default=2000, ge=1, description="Captions to tune on; the result is confirmed on as many others."
    )
    tune_on: Annotated[str | None, Option(metavar="FILE")] = Field(
        default=None,
        description="Searches to tune on in place of captions: Parquet with a column `embedding`, as `clipmill serve "
        "--log-queries` keeps it, or .npy.",
    )
    k: Annotated[int, Option(name="-k")] = Field(
        default=10, ge=1, description="Results per query that the recall is measured on."
    )
    tune_k: Numbers = Field(
        default=None,
        description="Numbers of results to tune for beside -k, each with a promise of its own: 100,1000. Default: 10 times -k.",
    )
    rerank_vectors: Annotated[
        RerankKind | None,
        AfterValidator(lambda kind: None if kind == "float16" else kind),
        Option(metavar="float16|int8|none", default="float16"),
    ] = Field(
        default=None,
        description="How vectors are stored for re-ranking: as embedded, in half of the bytes, or not at all. Without them "
        "results have the order of their codes, and nothing is searched by id.",
    )
    seed: int = Field(default=0, description="Decides which vectors and captions are drawn.")


class DedupSettings(OutputSettings, ProductSettings):
    """Embeddings to their pairs and groups of near-duplicates."""

    CONTENT: ClassVar[tuple[str, ...]] = (
        "threshold",
        "gallery",
        "keep",
    )

    embeddings: str = Field(description="Embeddings dataset to search for duplicates; local or s3://.")
    threshold: float = Field(default=0.95, ge=-1, le=1, description="Least cosine similarity of two near-duplicates.")
    gallery: GalleryName = Field(default="images", description="Which vectors are compared.")
    keep: Annotated[str, Option(metavar="RULE")] = Field(
        default="first",
        description="Which row of a group is kept: first, largest (in pixels), clip-score (the best), or the name of a "
        "kept column, whose greatest value wins.",
    )
    method: Literal["auto", "exact", "clusters"] = Field(
        default="auto",
        description="exact compares every row with every other and finds all pairs. clusters compares rows within clusters: it "
        "finds nearly all in far less time, and measures what share. auto is clusters for more than 100,000 rows and a "
        "threshold of .9 or more, else exact.",
    )
    linkage: Linkage = Field(
        default="chain",
        description="What makes a group: chain, rows that a chain of pairs connects; complete, rows of which every two are a "
        "pair.",
    )


class FilterSettings(OutputSettings):
    """Embeddings to the rows that are kept and those that are dropped."""

    CONTENT: ClassVar[tuple[str, ...]] = (
        "min_clip_score",
        "prompt",
        "where",
    )

    embeddings: str = Field(description="Embeddings dataset to filter; local or s3://.")
    min_clip_score: float | None = Field(
        default=None, ge=-1, le=1, description="Drop images whose best caption is less similar than this."
    )
    prompt: Annotated[tuple[str, ...], Option(metavar="TEXT[>=X]")] = Field(
        default=(),
        description='Score images against a text; "a dog >= 0.25" drops what is less similar, "a weapon < 0.25" what is '
        "more. May be given several times.",
    )
    duplicates: str | None = Field(
        default=None, description="What `clipmill dedup` made of these images: drop what it does not keep."
    )
    where: str | None = Field(default=None, description="Drop rows that do not meet this SQL condition.")
    pretrained: str | None = Field(default=None, description=_MOVED_WEIGHTS)
    trust_remote_code: bool | None = Field(default=None, description=TRUST)


class EvaluateSettings(OutputSettings, ProductSettings):
    """Embeddings, and optionally an index over them, to a report."""

    CONTENT: ClassVar[tuple[str, ...]] = (
        "label_column",
        "class_names",
        "templates",
        "probe",
        "learn_prompts",
        "slice_by",
        "perturb_text",
        "widths",
        "query_sample",
        "bootstrap_samples",
        "fidelity_queries",
        "resident",
        "seed",
        "trec",
        "mteb",
    )

    embeddings: str = Field(description="Embeddings dataset to evaluate; local or s3://.")
    index: str | None = Field(default=None, description="An index over these embeddings, to compare with exact search.")
    queries: Annotated[str | None, Option(metavar="FILE")] = Field(
        default=None,
        description="Searches to measure the index with in place of captions: Parquet with a column `embedding`, as `clipmill "
        "serve --log-queries` keeps it, or .npy.",
    )
    label_column: str | None = Field(
        default=None, description="Column of class names for zero-shot classification. Default: label, if there."
    )
    class_names: Annotated[str | None, Option(metavar="imagenet|FILE")] = Field(
        default=None,
        description="Names for the labels: imagenet, a file with a name per line, JSON label to name, or CSV of label, "
        "name. Default: the labels.",
    )
    templates: Annotated[str, Option(metavar="NAME|FILE")] = Field(
        default="simple",
        description="Prompts for class names: imagenet (80), simple (7), cifar10 (18), plain, or a file with one per "
        "line, {} in it.",
    )
    probe: bool = Field(default=True, description="Train a linear probe, few-shot classifiers and k-NN on the labels.")
    probe_train: Annotated[str | None, Option(metavar="URI")] = Field(
        default=None, description="Embeddings to train them on. Default: a part of the evaluated embeddings."
    )
    learn_prompts: bool | None = Field(
        default=None,
        description="Learn the words before class names from the probe's training images too (CoOp), beside the probe: "
        "minutes, more with many classes.",
    )
    pretrained: str | None = Field(default=None, description=_MOVED_WEIGHTS)
    trust_remote_code: bool | None = Field(default=None, description=TRUST)
    slice_by: Annotated[tuple[str, ...], Option(metavar="COLUMN")] = Field(
        default=(), description="Report every figure per value of a kept column. May be given several times."
    )
    robustness: Annotated[tuple[str, ...], Option(metavar="URI")] = Field(
        default=(),
        description="Embeddings of the same input that `clipmill embed --corrupt` made. May be given several times.",
    )
    perturb_text: bool = Field(
        default=False, description="Encode captions and class prompts again, in other case and with typing errors."
    )
    widths: Numbers = Field(
        default=None,
        description="Measure what vectors cut to their first N components would lose: 256,128,64.",
    )
    query_sample: CountOrAll = Field(
        default=None,
        description="Rank at most so many queries of each direction of retrieval. Of more, so many are drawn, relatively more "
        "in small slices of --slice-by; figures are then estimates, and their intervals cover the draw. all: rank every query. "
        f"Default: {DEFAULT_QUERY_SAMPLE:,}.",
    )
    bootstrap_samples: int = Field(default=1000, ge=0, description="Resamples for the intervals.")
    fidelity_queries: int = Field(default=1000, ge=1, description="Queries that the index is measured with.")
    resident: bool | None = Field(
        default=None,
        description="Measure the index with its vectors for re-ranking in memory. Default: they are mapped, as in a search.",
    )
    seed: int = Field(default=0, description="Decides what is drawn: resamples, queries, splits.")
    trec: Annotated[int | None, Option(metavar="N")] = Field(
        default=None,
        ge=1,
        description="Write the first N results of every query that is ranked as TREC runs, and the right answers as qrels, for "
        "others to score.",
    )
    mteb: bool | None = Field(
        default=None,
        description="Write each task's figures as MTEB computes them, in files that it reads. Every query is ranked for it.",
    )

    @property
    def ranked_at_most(self) -> int | None:
        """Queries of a direction that are ranked at most; None: all."""
        asked = DEFAULT_QUERY_SAMPLE if self.query_sample is None else self.query_sample
        return None if asked == "all" else asked


class GateSettings(Settings):
    """Quality bars that a new version must reach before it is published. None: no bar."""

    min_t2i_recall_at_10: float | None = Field(
        default=None, ge=0, le=1, description="Least text-to-image R@10 of the new version."
    )
    max_t2i_drop: float | None = Field(
        default=None, ge=0, le=1, description="Largest drop of text-to-image R@10 against the published version."
    )
    max_rejects: Rejects = Field(
        default=None, description="Most rejects among new images and captions: a number (500) or a share (0.01, 1%)."
    )
    min_index_recall: float | None = Field(
        default=None, ge=0, le=1, description="Least recall of the index, on queries that it was not tuned on."
    )
    max_p99_milliseconds: float | None = Field(
        default=None, gt=0, description="Highest 99th percentile of the time of one query on one thread."
    )
    max_row_change: Share = Field(
        default=None, ge=0, description="Largest share of the published rows that may be added or removed (0.2, 20%)."
    )
    max_row_loss: Share = Field(
        default=0.2,
        ge=0,
        description="Largest share of the published rows that may be missing from the input now. Growth is no loss.",
    )
