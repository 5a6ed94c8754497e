"""Everything that is measured of a model with a dataset's own captions and labels as truth, and why what is absent is."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

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
from clipmill.evaluation.outcomes import Outcomes, outcomes_of_classes, outcomes_of_ranks
from clipmill.evaluation.progress import Absence, Progress, silent
from clipmill.evaluation.results import ProtocolPart
from clipmill.evaluation.retrieval.alignment import Alignment, align
from clipmill.evaluation.retrieval.ceiling import (
    Ceiling,
    hash_captions,
    hash_vectors,
    image_to_text_ceiling,
    text_to_image_ceiling,
)
from clipmill.evaluation.retrieval.examples import Example, choose_examples
from clipmill.evaluation.retrieval.folds import coco_protocols
from clipmill.evaluation.retrieval.measures import RECALL_AT
from clipmill.evaluation.retrieval.ranks import Ranks
from clipmill.evaluation.retrieval.retrieval import Direction, Retrieval, retrieve
from clipmill.evaluation.retrieval.through_index import Asked, draw_asked
from clipmill.evaluation.studies.studies import Studied, Studies, check_studies, measure_studies
from clipmill.evaluation.studies.variations import Classes
from clipmill.evaluation.vectors import Vectors, read_vectors
from clipmill.stage.checkpoints import Checkpoint, no_checkpoints


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


def measure_quality(
    embeddings: Embeddings,
    settings: EvaluateSettings,
    text_encoder: Callable[[], Encode],
    scratch: Path,
    progress: Progress = silent,
    checkpoint: Checkpoint = no_checkpoints,
    prompts: PromptCache | None = None,
    prompt_tower: LoadTower | None = None,
) -> Quality:
    """Retrieval, ceilings, alignment and zero-shot of one dataset.

    ``text_encoder`` loads the dataset's own model and is called only for zero-shot; ``scratch`` is an empty folder.
    What takes long goes through ``checkpoint``, and the vectors of class names through ``prompts``; ``prompt_tower`` loads what
    learns prompts. Raises UserError for
    a label column or a template file that is not there.
    """
    column = check_settings(embeddings, settings)
    classified = measure_zero_shot(embeddings, settings, column, text_encoder, checkpoint, prompts)
    zero_shot, templates = classified.zero_shot, classified.templates
    images = read_vectors(embeddings, "images", scratch)
    captions = read_vectors(embeddings, "captions", scratch)
    supervised, no_probe, probe_notes = measure_probe(
        embeddings, settings, classified, images, scratch, progress, checkpoint, prompt_tower
    )
    measured = _retrieval(embeddings, settings, images, captions, progress, checkpoint)
    outcomes = measured.outcomes + ([outcomes_of_classes(zero_shot)] if zero_shot else [])
    classes = Classes.of(zero_shot, classified.labels.names, templates) if zero_shot and classified.labels else None
    studied = Studied(embeddings, images, captions, outcomes, measured.caption_ranks, classes)
    studies = measure_studies(studied, settings, text_encoder, scratch, progress, checkpoint)
    return replace(
        measured,
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
    check_classification(embeddings, settings)
    check_studies(embeddings, settings)
    return find_column(embeddings, settings.label_column)


def _retrieval(
    embeddings: Embeddings,
    settings: EvaluateSettings,
    images: Vectors,
    captions: Vectors,
    progress: Progress,
    checkpoint: Checkpoint,
) -> Quality:
    """Both directions, and what follows from the ranks of captions."""
    why = _no_retrieval(embeddings, images, captions)
    if why:
        names = ("Retrieval", "Alignment of the two towers", "Example retrievals")
        return Quality(absences=[Absence(name, why) for name in names])
    samples, seed, model = settings.bootstrap_samples, settings.seed, embeddings.manifest.model
    sides: dict[Direction, tuple[Vectors, Vectors]] = {"t2i": (captions, images), "i2t": (images, captions)}
    retrieval: dict[Direction, Retrieval] = {}
    ranked: dict[Direction, Ranks] = {}
    for direction, side in sides.items():
        with progress(len(side[0]), f"retrieval {direction}") as step:
            found = retrieve(direction, *side, samples=samples, seed=seed, progress=step, checkpoint=checkpoint)
        assert found is not None  # some caption has its image
        retrieval[direction], ranked[direction] = found
    of_captions = ranked["t2i"]
    temperature = 1 / model.logit_scale if model and model.logit_scale else None
    return Quality(
        retrieval,
        ceilings=checkpoint("ceilings", dict[Direction, Ceiling], lambda: _ceilings(embeddings, images, captions)),
        alignment=checkpoint(
            "alignment",
            Alignment,
            lambda: align(
                captions,
                images,
                of_captions,
                temperature=temperature,
                bias=model.logit_bias if model else None,
                seed=seed,
            ),
        ),
        examples=checkpoint(
            "examples", list[Example], lambda: choose_examples(of_captions, captions, images, seed=seed)
        ),
        notes=[*_unknown_captions(embeddings), *(note for result in retrieval.values() for note in _notes(result))],
        outcomes=[outcomes_of_ranks(direction, ranks) for direction, ranks in ranked.items()],
        caption_ranks=of_captions,
        protocols=checkpoint("protocols", list[ProtocolPart], lambda: coco_protocols(images, captions, seed)),
        asked={
            direction: draw_asked(ranks, sides[direction][0], settings.fidelity_queries, seed)
            for direction, ranks in ranked.items()
        },
    )


def _ceilings(embeddings: Embeddings, images: Vectors, captions: Vectors) -> dict[Direction, Ceiling]:
    texts = (text for batch in embeddings.batches("captions", ["caption"]) for text in batch.column(0).to_pylist())
    sources = (hash_captions(texts, captions.values), captions.rows, hash_vectors(images.values), images.rows)
    return {
        "t2i": text_to_image_ceiling(*sources, RECALL_AT),
        "i2t": image_to_text_ceiling(*sources, RECALL_AT),
    }


def _unknown_captions(embeddings: Embeddings) -> list[str]:
    unknown = sum(batch.column(0).null_count for batch in embeddings.batches("captions", ["caption"]))
    told = f"the text of {unknown:,} captions is not known; none of them counts as a copy of another in the ceiling."
    return [told] if unknown else []


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
    queries, items = ("caption", "image") if result.direction == "t2i" else ("image", "caption")
    trivial = " and ".join(f"R@{k}" for k in RECALL_AT if k >= result.gallery)
    notes = {
        f"{result.without_positive:,} {queries}s have no {items} and are not queries.": result.without_positive,
        f"{result.gallery_only:,} {items}s are no query's answer; they are in the gallery only.": result.gallery_only,
        f"the gallery has {result.gallery:,} {items}s, so {trivial} cannot fail.": trivial,
        f"for {result.ties:,} queries other {items}s score exactly as high as the right one; their hits are expected "
        "numbers over a random order.": result.ties,
    }
    return [f"{result.direction}: {note}" for note, holds in notes.items() if holds]
