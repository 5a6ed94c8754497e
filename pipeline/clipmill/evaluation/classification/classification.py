"""What a dataset's labels allow to be measured: zero-shot classification, and classifiers trained on frozen embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipmill.core.errors import UserError
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.classification.class_names import ClassNames, load_class_names
from clipmill.evaluation.classification.labels import Labels, find_column, labelled_batches, read_labels
from clipmill.evaluation.classification.learned_prompts import PromptTower, learn_prompts
from clipmill.evaluation.classification.prompt_cache import PromptCache
from clipmill.evaluation.classification.supervised import Labelled, Learn, Supervised, measure_supervised, part_images
from clipmill.evaluation.classification.templates import load_templates
from clipmill.evaluation.classification.zero_shot import (
    TEMPLATE_IMAGES,
    Encode,
    ZeroShot,
    classify,
    ensemble,
    template_vectors,
)
from clipmill.evaluation.progress import Absence, Progress
from clipmill.evaluation.vectors import Vectors, read_vectors
from clipmill.stage.checkpoints import Checkpoint

ZERO_SHOT, SUPERVISED = "Zero-shot classification", "Linear probe, few-shot and k-NN"
LEARNED = "Learned prompts"

LoadTower = Callable[[], PromptTower | None]
"""Loads the text tower of the dataset's model; None where its words cannot be replaced."""


@dataclass(frozen=True)
class Classified:
    """Zero-shot, or why there is none; the labels that it used, or ``no_labels``: why there are none."""

    zero_shot: ZeroShot | None = None
    labels: Labels | None = None
    no_labels: str = ""
    templates: tuple[str, ...] = ()
    absences: tuple[Absence, ...] = ()
    notes: tuple[str, ...] = ()


def measure_zero_shot(
    embeddings: Embeddings,
    settings: EvaluateSettings,
    column: str | None,
    text_encoder: Callable[[], Encode],
    checkpoint: Checkpoint,
    prompts: PromptCache | None = None,
) -> Classified:
    """Reads the labels in ``column`` and classifies by their names, whose vectors come from ``prompts`` where it has them."""
    why, labels = _labels(embeddings, settings, column)
    if labels is None:
        return Classified(no_labels=why, absences=(Absence(ZERO_SHOT, why),))
    model = embeddings.manifest.model
    if model is None:
        why = "these vectors were made elsewhere, so no text encoder is known that could embed class names"
        return Classified(labels=labels, absences=(Absence(ZERO_SHOT, why),))
    templates = load_templates(settings.templates)

    def measure() -> ZeroShot:
        if prompts is None:
            by_template = template_vectors(text_encoder(), labels.names, templates)
        else:
            by_template = prompts.vectors(model, labels.names, templates, text_encoder)
        return classify(
            labelled_batches(embeddings, labels),
            labels.classes,
            ensemble(by_template),
            settings.bootstrap_samples,
            settings.seed,
            logit_scale=model.logit_scale,
            logit_bias=model.logit_bias,
            by_template=by_template if len(templates) > 1 else None,
            template_share=min(1.0, TEMPLATE_IMAGES / max(1, int(np.sum(labels.numbers >= 0)))),
        )

    result = checkpoint("zero-shot", ZeroShot, measure)
    return Classified(result, labels, templates=templates, notes=tuple(_notes(result, labels)))


def _labels(embeddings: Embeddings, settings: EvaluateSettings, column: str | None) -> tuple[str, Labels | None]:
    if column is None:
        return "the dataset has no column `label`, and --label-column names no other", None
    if not embeddings.count("images"):
        return "the dataset has no images", None
    labels = read_labels(embeddings, column, _class_names(settings))
    if not np.any(labels.numbers >= 0):
        return f"every value of the column {column} is null or empty", None
    return "", labels


def _class_names(settings: EvaluateSettings) -> ClassNames | None:
    return load_class_names(settings.class_names) if settings.class_names else None


def _notes(result: ZeroShot, labels: Labels) -> list[str]:
    notes = []
    classes = labels.classes
    if len(classes) == 1:
        notes.append(f"Zero-shot: there is one class only ({classes[0]}), so every answer is right: a trivial 1.")
    elif len(classes) < 5:
        notes.append(f"Zero-shot: acc5 needs five classes, and there are {len(classes)}.")
    elif len(classes) == 5:
        notes.append("Zero-shot: there are five classes, so acc5 cannot fail.")
    if result.unlabelled:
        notes.append(f"Zero-shot: {result.unlabelled:,} images have no label and were left out.")
    without = int(np.sum(result.support == 0))
    if without:
        notes.append(f"Zero-shot: {without:,} of the {len(classes):,} classes have no image; they may be answers only.")
    if all(name.strip().lstrip("-").isdigit() for name in labels.names):
        notes.append(
            "Zero-shot: the labels are numbers, which are poor class names; name them with --class-names, or choose a "
            "column of names."
        )
    return notes


def check_classification(embeddings: Embeddings, settings: EvaluateSettings) -> None:
    """Raises UserError for a file of class names, or a dataset to train on, that cannot be used."""
    _class_names(settings)
    if settings.probe_train:
        open_training_data(embeddings, settings.probe_train)


def open_training_data(embeddings: Embeddings, uri: str) -> Embeddings:
    """The embeddings at ``--probe-train``. Raises UserError where they are the evaluated ones, or of another model."""
    train = Embeddings.open(uri)
    if train.manifest_sha256 == embeddings.manifest_sha256:
        raise UserError(
            f"--probe-train {uri}: these are the evaluated embeddings themselves; without --probe-train they are split"
        )
    ours, theirs = embeddings.manifest.model, train.manifest.model
    differences = ours.differences(theirs) if ours and theirs else []
    if (ours is None) != (theirs is None):
        differences = ["only one of the two says which model made it"]
    elif embeddings.manifest.dimension != train.manifest.dimension:
        differences = [f"dimension: {embeddings.manifest.dimension} and {train.manifest.dimension}"]
    if differences:
        raise UserError(
            f"--probe-train {uri}: it was not made by the model of the evaluated embeddings ({'; '.join(differences)})"
        )
    return train


def measure_probe(
    embeddings: Embeddings,
    settings: EvaluateSettings,
    classified: Classified,
    images: Vectors,
    scratch: Path,
    progress: Progress,
    checkpoint: Checkpoint,
    prompt_tower: LoadTower | None = None,
) -> tuple[Supervised | None, list[Absence], list[str]]:
    """Trained classifiers on the images that ``classified`` has labels of; else why there are none. ``prompt_tower`` is
    needed where prompts are to be learned too."""
    if not settings.probe:
        return None, [Absence(SUPERVISED, "--no-probe was given")], []
    if classified.labels is None:
        return None, [Absence(SUPERVISED, classified.no_labels)], []
    labels, tested = classified.labels, Labelled(images, classified.labels.numbers)
    classes, trained, names = labels.values, None, labels.names
    if settings.probe_train:
        source = open_training_data(embeddings, settings.probe_train)
        column = find_column(source, labels.column)
        assert column is not None  # a column that is asked for and absent is an error
        theirs = read_labels(source, column)
        classes = tuple(dict.fromkeys([*labels.values, *theirs.values]))
        names = (*names, *classes[len(names) :])
        places = {value: number for number, value in enumerate(classes)}
        numbers = np.array([*(places[value] for value in theirs.values), -1], np.int64)[theirs.numbers]
        folder = scratch / "probe-train"
        folder.mkdir(exist_ok=True)
        trained = Labelled(read_vectors(source, "images", folder), numbers)
    parts = part_images(tested, trained, len(classes), settings.seed)
    if isinstance(parts, str):
        return None, [Absence(SUPERVISED, parts)], []
    vectors = classified.zero_shot.vectors if classified.zero_shot else None

    def measure() -> Supervised:
        learn = _learn(settings, prompt_tower, names)
        samples, seed = settings.bootstrap_samples, settings.seed
        return measure_supervised(parts, len(classes), vectors, samples, seed, progress, learn)

    found = checkpoint("supervised", Supervised, measure)
    absences = []
    if settings.learn_prompts and found.learned is None:
        absences = [
            Absence(LEARNED, "the words of this model's prompts cannot be replaced: models of open_clip learn them")
        ]
    return found, absences, _probe_notes(found)


def _learn(settings: EvaluateSettings, prompt_tower: LoadTower | None, names: Sequence[str]) -> Learn | None:
    tower = prompt_tower() if settings.learn_prompts and prompt_tower else None
    if tower is None:
        return None
    return lambda train, validation, step: learn_prompts(tower, names, train, validation, settings.seed, step)


def _probe_notes(found: Supervised) -> list[str]:
    notes = []
    if found.sampled < found.labelled:
        notes.append(
            f"Linear probe: {found.sampled:,} of {found.labelled:,} labelled images were drawn, as many as the solver has "
            "memory for."
        )
    if found.left_out:
        notes.append(
            f"Linear probe: {found.left_out:,} labelled images were left out: their class has too few for every split, "
            "or the training data lack it."
        )
    if found.repeated:
        notes.append(
            f"Linear probe: {found.repeated:,} of {found.test:,} test images have exactly the vector of a training image, "
            "which flatters the probe and k-NN."
        )
    short = [shots for shots in found.few_shot if shots.short]
    if short:
        notes.append(
            f"Few-shot: {short[-1].short:,} of {found.classes:,} classes have fewer than {short[-1].shots} training images; "
            "they gave all they have."
        )
    return notes
