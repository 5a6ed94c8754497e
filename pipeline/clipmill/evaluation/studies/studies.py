"""What is measured besides retrieval and classification: the space itself, slices of the data, and robustness."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.classification.zero_shot import Encode
from clipmill.evaluation.figures import metric
from clipmill.evaluation.outcomes import PART_OF, Outcomes
from clipmill.evaluation.progress import Absence, Progress
from clipmill.evaluation.results import RobustnessPart, SlicesPart, VariationPart
from clipmill.evaluation.retrieval.measures import hit_rate_of
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.retrieval.retrieval import answerable
from clipmill.evaluation.statistics.by_query import ByQuery
from clipmill.evaluation.studies.clusters import Clusters, find_clusters
from clipmill.evaluation.studies.corrupted import measure_corruption, open_corrupted
from clipmill.evaluation.studies.map import Map, draw_map
from clipmill.evaluation.studies.outliers import Outliers, find_outliers
from clipmill.evaluation.studies.slices import measure_slices
from clipmill.evaluation.studies.slicing import check_columns, read_slicing
from clipmill.evaluation.studies.space import Space, describe_space
from clipmill.evaluation.studies.variations import Asked, Classes, ask
from clipmill.evaluation.studies.widths import check_widths, measure_widths
from clipmill.evaluation.studies.writing import draw_captions, measure_writing
from clipmill.evaluation.vectors import Vectors
from clipmill.stage.checkpoints import Checkpoint

SPACE, OUTLIERS = "Shape of the space", "Outliers and near-duplicates"
SLICES, CORRUPTION, WRITING = "Slices", "Robustness to worse pictures", "Robustness to writing"
WIDTHS = "Shorter vectors"
_SLICED_AT = {"t2i": (1, 10), "i2t": (1, 10), "zero-shot": (1,)}
"""The K of the hits that slices are compared in."""


@dataclass(frozen=True)
class Studied:
    """What the studies read: both sides, how their queries came out, the ranks of captions, the labelled images."""

    embeddings: Embeddings
    images: Vectors
    captions: Vectors
    outcomes: Sequence[Outcomes]
    ranks: Ranks | None
    classes: Classes | None


@dataclass(frozen=True)
class Studies:
    """What was measured; each is None, and has an `Absence`, where it was not asked for or the data does not allow it."""

    space: Space | None = None
    outliers: Outliers | None = None
    map: Map | None = None
    clusters: Clusters | None = None
    slices: SlicesPart | None = None
    corruption: RobustnessPart | None = None
    writing: RobustnessPart | None = None
    widths: RobustnessPart | None = None
    absences: list[Absence] = field(default_factory=list)


def check_studies(embeddings: Embeddings, settings: EvaluateSettings) -> None:
    """Raises UserError for a column to slice by that the dataset lacks, a width that vectors do not have, or a corrupted
    dataset that is of another one."""
    check_columns(embeddings, settings.slice_by)
    check_widths(settings.widths or (), embeddings.manifest.dimension)
    open_corrupted(embeddings, settings.robustness)


def not_asked_for(settings: EvaluateSettings) -> list[Absence]:
    """The studies that would need an option."""
    asked = {
        SLICES: (
            settings.slice_by,
            "no --slice-by was given: a column, such as a source or a year, to group images by",
        ),
        CORRUPTION: (settings.robustness, "no --robustness was given: embeddings that `clipmill embed --corrupt` made"),
        WRITING: (settings.perturb_text, "--perturb-text was not given, which encodes texts again"),
        WIDTHS: (settings.widths, "no --widths were given: numbers of components to cut vectors to"),
    }
    return [Absence(what, why) for what, (given, why) in asked.items() if not given]


def measure_studies(
    of: Studied,
    settings: EvaluateSettings,
    text_encoder: Callable[[], Encode],
    scratch: Path,
    progress: Progress,
    checkpoint: Checkpoint,
) -> Studies:
    """All studies that were asked for; each goes through ``checkpoint``. ``scratch`` holds what memory cannot."""
    images, captions, seed = of.images, of.captions, settings.seed
    absences = []
    space = checkpoint("space", Space, lambda: describe_space(images, captions, of.ranks, seed))
    if space.images is None and space.captions is None:
        absences.append(Absence(SPACE, "the dataset has no vectors"))
    outliers = drawn = clusters = None
    if len(images) < 2:
        absences.append(Absence(OUTLIERS, f"they take two images, and the dataset has {len(images)}"))
    else:
        with progress(len(images), "outliers") as step:
            outliers = checkpoint("outliers", Outliers, lambda: find_outliers(images, seed=seed, progress=step))
        drawn = checkpoint("map", Map, lambda: draw_map(images, seed))
        clusters = checkpoint("clusters", Clusters, lambda: find_clusters(images, drawn.positions, seed))
    asked = Asked.draw(images, captions, of.classes, seed)
    nothing = "no caption belongs to an image that was embedded, and no image was classified"
    measurable = of.ranks is not None or asked.classes is not None
    slices = corruption = writing = None
    if settings.slice_by and measurable:
        slices = checkpoint("slices", SlicesPart, lambda: _slices(of, settings, progress))
    elif settings.slice_by:
        absences.append(Absence(SLICES, nothing))
    if settings.robustness and len(images):
        corruption = _corruption(of, asked, settings, scratch, progress, checkpoint)
    elif settings.robustness:
        absences.append(Absence(CORRUPTION, "the dataset has no images"))
    if settings.perturb_text and (why := _no_writing(of, measurable, nothing)):
        absences.append(Absence(WRITING, why))
    elif settings.perturb_text:
        writing = checkpoint("writing", RobustnessPart, lambda: _writing(of, asked, settings, text_encoder()))
    widths = None
    if settings.widths and measurable:
        widths = checkpoint("widths", RobustnessPart, lambda: _widths(of, asked, settings, scratch, progress))
    elif settings.widths:
        absences.append(Absence(WIDTHS, nothing))
    return Studies(space, outliers, drawn, clusters, slices, corruption, writing, widths, absences)


def _no_writing(of: Studied, measurable: bool, nothing: str) -> str | None:
    if of.embeddings.manifest.model is None:
        return "these vectors were made elsewhere, so no text encoder is known that could embed texts again"
    return None if measurable else nothing


def _slices(of: Studied, settings: EvaluateSettings, progress: Progress) -> SlicesPart:
    figures = []
    for outcome in of.outcomes:
        side = of.captions if PART_OF[outcome.task] == "captions" else of.images
        for k in _SLICED_AT[outcome.task]:
            hits = metric("zero-shot.acc1") if outcome.task == "zero-shot" else hit_rate_of(outcome.task, k)
            figures.append(ByQuery(hits, side.rows[outcome.positions], outcome.hits[k], outcome.weights))
    if of.ranks is not None:
        figures.append(ByQuery(metric("alignment.clip_score"), of.ranks.rows, of.ranks.score, of.ranks.weights))
    slicings = [read_slicing(of.embeddings, column) for column in settings.slice_by]
    with progress(len(figures) * len(slicings), "slices") as step:
        return measure_slices(of.images.rows, figures, slicings, seed=settings.seed, progress=step)


def _corruption(
    of: Studied,
    asked: Asked,
    settings: EvaluateSettings,
    scratch: Path,
    progress: Progress,
    checkpoint: Checkpoint,
) -> RobustnessPart:
    samples, seed = settings.bootstrap_samples, settings.seed
    before = ask(of.images, of.captions, asked)
    variations = []
    corrupted = open_corrupted(of.embeddings, settings.robustness)
    with progress(len(corrupted), "worse pictures") as step:
        for dataset in corrupted:
            corruption = dataset.corruption
            name = f"corruption-{corruption.kind}-{corruption.strength}"
            with TemporaryDirectory(dir=scratch) as folder:
                variations.append(
                    checkpoint(
                        name,
                        VariationPart,
                        lambda dataset=dataset, folder=folder: measure_corruption(  # type: ignore[misc]
                            dataset, of.images, of.captions, asked, before, Path(folder), samples, seed
                        ),
                    )
                )
            step(1)
    return RobustnessPart(clean=[figure.figure for figure in before.values()], variations=variations)


def _widths(of: Studied, asked: Asked, settings: EvaluateSettings, scratch: Path, progress: Progress) -> RobustnessPart:
    widths, samples, seed = settings.widths or (), settings.bootstrap_samples, settings.seed
    with progress(len(widths), "shorter vectors") as step:
        return measure_widths(of.images, of.captions, asked, widths, scratch, samples, seed, step)


def _writing(of: Studied, asked: Asked, settings: EvaluateSettings, encode: Encode) -> RobustnessPart:
    texts: list[str] = []
    rows = of.captions.rows[:0]
    if of.ranks is not None:
        positions, texts = draw_captions(of.embeddings, answerable(of.captions, of.images), settings.seed)
        rows = of.captions.rows[positions]
    return measure_writing(encode, of.images, rows, texts, asked.classes, settings.bootstrap_samples, settings.seed)
