"""Everything that is measured of a model with a dataset's own captions and labels as truth, and why what is absent is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.core.schemas import GalleryName
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.classification.classification import (
    LoadTower,
    check_classification,
    measure_probe,
    measure_zero_shot,
)
from clipmill.evaluation.classification.labels import find_column
from clipmill.evaluation.classification.prompt_cache import PromptCache
from clipmill.evaluation.classification.supervised import Supervised
from clipmill.evaluation.classification.templates import NAMED, load_templates
from clipmill.evaluation.classification.zero_shot import Encode, ZeroShot
from clipmill.evaluation.directions import ITEMS, PAIRS, Direction, direction_of, sides_of
from clipmill.evaluation.outcomes import Outcomes, outcomes_of_classes, outcomes_of_ranks
from clipmill.evaluation.progress import Absence, Progress, silent
from clipmill.evaluation.results import ProtocolPart
from clipmill.evaluation.retrieval.alignment import Alignment, align
from clipmill.evaluation.retrieval.ceiling import (
    Ceiling,
    hash_captions,
    hash_vectors,
    image_to_text_ceiling,
    open_ceiling,
    text_to_image_ceiling,
)
from clipmill.evaluation.retrieval.examples import Example, choose_examples
from clipmill.evaluation.retrieval.folds import coco_protocols
from clipmill.evaluation.retrieval.measures import RECALL_AT
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.retrieval.retrieval import Rank, Retrieval, answerable, rank_here, retrieve
from clipmill.evaluation.retrieval.through_index import Asked, draw_asked
from clipmill.evaluation.sampling import sample_of
from clipmill.evaluation.shown import Measured, Shown, choose_shown
from clipmill.evaluation.studies.slices import worse_images
from clipmill.evaluation.studies.slicing import Slicing, read_slicing
from clipmill.evaluation.studies.studies import Studied, Studies, check_studies, measure_studies
from clipmill.evaluation.studies.variations import Classes
from clipmill.evaluation.suspects.find import Suspects, find_suspects
from clipmill.evaluation.vectors import Vectors, read_vectors
from clipmill.stage.checkpoints import Checkpoint, no_checkpoints

_OF_RANKS = ("Retrieval", "Alignment of the two towers", "Example retrievals")
Ranking = Callable[[], AbstractContextManager[Rank]]
"""Gives what ranks queries, for as long as there are some to rank."""
CLIP_PARTS: tuple[GalleryName, ...] = ("audio", "videos")


@contextmanager
def ranking_here() -> Iterator[Rank]:
    """In this process."""
    yield rank_here


@dataclass(frozen=True)
class Quality:
    """What was measured; each part is None, and has an `Absence`, where the dataset does not allow it."""

    retrieval: dict[Direction, Retrieval] = field(default_factory=dict)
    ceilings: dict[Direction, Ceiling] = field(default_factory=dict)
    alignment: Alignment | None = None
    examples: list[Example] = field(default_factory=list)
    zero_shot: ZeroShot | None = None
    label_column: str | None = None
    templates: tuple[str, ...] = ()
    absences: list[Absence] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    outcomes: list[Outcomes] = field(default_factory=list)
    caption_ranks: Ranks | None = None
    protocols: list[ProtocolPart] = field(default_factory=list)
    asked: dict[Direction, Asked] = field(default_factory=dict)
    studies: Studies = field(default_factory=Studies)
    supervised: Supervised | None = None
    suspects: Suspects = field(default_factory=Suspects)
    shown: Shown = field(default_factory=Shown)


def measure_quality(
    embeddings: Embeddings,
    settings: EvaluateSettings,
    text_encoder: Callable[[], Encode],
    scratch: Path,
    progress: Progress = silent,
    checkpoint: Checkpoint = no_checkpoints,
    prompts: PromptCache | None = None,
    prompt_tower: LoadTower | None = None,
    ranking: Ranking = ranking_here,
) -> Quality:
    """Retrieval, ceilings, alignment and zero-shot of one dataset.

    ``text_encoder`` loads the dataset's own model and is called only for zero-shot; ``scratch`` is an empty folder.
    What takes long goes through ``checkpoint``, and the vectors of class names through ``prompts``; ``prompt_tower`` loads what
    learns prompts. ``ranking`` gives what ranks queries, for as long as there are some to rank. Raises UserError for a label
    column or a template file that is not there.
    """
    column = check_settings(embeddings, settings)
    classified = measure_zero_shot(embeddings, settings, column, text_encoder, checkpoint, prompts)
    zero_shot, templates = classified.zero_shot, classified.templates
    images = read_vectors(embeddings, "images", scratch)
    captions = read_vectors(embeddings, "captions", scratch)
    parts: dict[GalleryName, Vectors] = {"images": images, "captions": captions}
    for part in CLIP_PARTS:
        if embeddings.count(part):
            parts[part] = read_vectors(embeddings, part, scratch)
    supervised, no_probe, probe_notes = measure_probe(
        embeddings, settings, classified, images, scratch, progress, checkpoint, prompt_tower
    )
    slicings = [read_slicing(embeddings, one) for one in settings.slice_by] if len(images) else []
    measured = _retrieval(embeddings, settings, parts, slicings, progress, checkpoint, ranking)
    outcomes = measured.outcomes + ([outcomes_of_classes(zero_shot)] if zero_shot else [])
    classes = Classes.of(zero_shot, classified.labels.names, templates) if zero_shot and classified.labels else None
    of_images = [outcome for outcome in outcomes if outcome.task in ("t2i", "i2t", "zero-shot")]
    studied = Studied(embeddings, images, captions, of_images, measured.caption_ranks, classes)
    studies = measure_studies(studied, settings, text_encoder, scratch, progress, checkpoint)
    apart = worse_images(studies.slices, slicings) if studies.slices else None
    suspects = checkpoint(
        "suspects",
        Suspects,
        lambda: find_suspects(images, measured.caption_ranks, classified.labels, zero_shot, settings.seed, apart),
    )
    found = Measured(embeddings, images, captions, classified.labels, zero_shot, slicings, outcomes)
    return replace(
        measured,
        suspects=suspects,
        shown=choose_shown(found, studies.map, studies.clusters, settings.seed),
        zero_shot=zero_shot,
        supervised=supervised,
        label_column=column,
        templates=templates,
        absences=[*measured.absences, *classified.absences, *no_probe, *studies.absences],
        notes=[*measured.notes, *classified.notes, *probe_notes],
        outcomes=outcomes,
        studies=studies,
    )


def check_settings(embeddings: Embeddings, settings: EvaluateSettings) -> str | None:
    """The label column, if there is one. Raises UserError for one, or for a template file, that is not there; a bad
    file is refused even where it turns out not to be needed."""
    if settings.templates not in NAMED:
        load_templates(settings.templates)
    if settings.queries is not None and settings.index is None:
        raise UserError("--queries are what an index is measured with: give --index too")
    check_classification(embeddings, settings)
    check_studies(embeddings, settings)
    return find_column(embeddings, settings.label_column)


def _retrieval(
    embeddings: Embeddings,
    settings: EvaluateSettings,
    parts: dict[GalleryName, Vectors],
    slicings: Sequence[Slicing],
    progress: Progress,
    checkpoint: Checkpoint,
    ranking: Ranking,
) -> Quality:
    """Every direction that there is, and what follows from the ranks of captions among images."""
    images, captions, samples, seed = parts["images"], parts["captions"], settings.bootstrap_samples, settings.seed
    why = _no_retrieval(embeddings, images, captions)
    sides: dict[Direction, tuple[Vectors, Vectors]] = {}
    for one, other in PAIRS:
        if one in parts and other in parts and np.isin(parts[one].rows, parts[other].rows).any():
            sides[direction_of(one, other)] = parts[one], parts[other]
            if other != "videos" or not embeddings.manifest.keeps_frames:  # a picture out of a video is no query for it
                sides[direction_of(other, one)] = parts[other], parts[one]
    retrieval: dict[Direction, Retrieval] = {}
    ranked: dict[Direction, Ranks] = {}
    with ranking() if sides else nullcontext(rank_here) as rank:
        for direction, side in sides.items():
            asked = answerable(*side)
            sample = sample_of(embeddings, direction, side[0], asked, images.rows, slicings, settings)
            with progress(len(asked if sample is None else sample), f"retrieval {direction}") as step:
                found = retrieve(
                    direction,
                    *side,
                    positions=asked,
                    sample=sample,
                    rank=rank,
                    samples=samples,
                    seed=seed,
                    progress=step,
                    checkpoint=checkpoint,
                )
            assert found is not None  # some query has its answer
            retrieval[direction], ranked[direction] = found
    names = ("Alignment of the two towers", "Example retrievals") if sides else _OF_RANKS
    made = Quality(
        retrieval,
        ceilings=checkpoint("ceilings", dict[Direction, Ceiling], lambda: _ceilings(embeddings, sides))
        if sides
        else {},
        absences=[Absence(name, why) for name in names] if why else [],
        notes=[
            *_unknown_captions(embeddings),
            *_cut_captions(embeddings),
            *(note for result in retrieval.values() for note in _notes(result)),
        ],
        outcomes=[outcomes_of_ranks(direction, ranks) for direction, ranks in ranked.items()],
        asked={
            direction: draw_asked(ranks, sides[direction][0], settings.fidelity_queries, seed)
            for direction, ranks in ranked.items()
        },
    )
    return made if why else _with_alignment(made, embeddings, images, captions, ranked["t2i"], seed, checkpoint)


def _with_alignment(
    made: Quality,
    embeddings: Embeddings,
    images: Vectors,
    captions: Vectors,
    ranks: Ranks,
    seed: int,
    checkpoint: Checkpoint,
) -> Quality:
    """What is measured of captions and images alone."""
    model = embeddings.manifest.model
    temperature, bias = (
        1 / model.logit_scale if model and model.logit_scale else None,
        model.logit_bias if model else None,
    )
    return replace(
        made,
        alignment=checkpoint(
            "alignment",
            Alignment,
            lambda: align(captions, images, ranks, temperature=temperature, bias=bias, seed=seed),
        ),
        examples=checkpoint("examples", list[Example], lambda: choose_examples(ranks, captions, images, seed=seed)),
        caption_ranks=ranks,
        protocols=checkpoint("protocols", list[ProtocolPart], lambda: coco_protocols(images, captions, seed)),
    )


def _ceilings(embeddings: Embeddings, sides: dict[Direction, tuple[Vectors, Vectors]]) -> dict[Direction, Ceiling]:
    """Captions are the same by their texts, anything else by its vector."""
    found: dict[Direction, Ceiling] = {}
    for direction, (queries, gallery) in sides.items():
        asked, searched = sides_of(direction)
        if searched == "videos" and embeddings.manifest.keeps_frames:
            found[direction] = open_ceiling(_hashes(embeddings, queries, asked), queries.rows, gallery.rows, RECALL_AT)
        elif searched == "captions":
            sources = _hashes(embeddings, gallery, searched), gallery.rows, hash_vectors(queries.values), queries.rows
            found[direction] = image_to_text_ceiling(*sources, RECALL_AT)
        else:
            sources = _hashes(embeddings, queries, asked), queries.rows, hash_vectors(gallery.values), gallery.rows
            found[direction] = text_to_image_ceiling(*sources, RECALL_AT)
    return found


def _hashes(embeddings: Embeddings, vectors: Vectors, part: str) -> NDArray[np.uint64]:
    if part != "captions":
        return hash_vectors(vectors.values)
    texts = (text for batch in embeddings.batches(part, ["caption"]) for text in batch.column(0).to_pylist())
    return hash_captions(texts, vectors.values)


def _unknown_captions(embeddings: Embeddings) -> list[str]:
    unknown = sum(batch.column(0).null_count for batch in embeddings.batches("captions", ["caption"]))
    told = f"the text of {unknown:,} captions is not known; none of them counts as a copy of another in the ceiling."
    return [told] if unknown else []


def _cut_captions(embeddings: Embeddings) -> list[str]:
    cut, captions = embeddings.manifest.truncated_captions or 0, embeddings.manifest.counts.captions
    told = f"{cut:,} of {captions:,} captions are longer than the model reads; what follows there was not encoded."
    return [told] if cut else []


def _no_retrieval(embeddings: Embeddings, images: Vectors, captions: Vectors) -> str | None:
    counts = embeddings.manifest.counts
    for there, rejected, name in (
        (len(images), counts.rejected_images, "images"),
        (len(captions), counts.rejected_captions, "captions"),
    ):
        if not there:
            rejects = f": all {rejected:,} of its input were rejected" if rejected else ""
            return f"the dataset has no {name}{rejects}"
    if not np.isin(captions.rows, images.rows).any():
        return "no caption belongs to an image that was embedded"
    return None


def _notes(result: Retrieval) -> list[str]:
    """What a reader should know of the queries and the gallery of one direction."""
    queries, items = (ITEMS[side] for side in sides_of(result.direction))
    drawn = " that were drawn" if result.of else ""
    trivial = " and ".join(f"R@{k}" for k in RECALL_AT if k >= result.gallery)
    notes = {
        f"{result.without_positive:,} {queries}s have no {items} and are not queries.": result.without_positive,
        f"{result.gallery_only:,} {items}s are no query's answer; they are in the gallery only.": result.gallery_only,
        f"the gallery has {result.gallery:,} {items}s, so {trivial} cannot fail.": trivial,
        f"for {result.ties:,} queries{drawn} other {items}s score exactly as high as the right one; their hits are expected "
        "numbers over a random order.": result.ties,
    }
    return [f"{result.direction}: {note}" for note, holds in notes.items() if holds]
