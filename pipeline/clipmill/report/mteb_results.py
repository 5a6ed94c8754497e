"""What an evaluation found as files that MTEB reads: a ``TaskResult`` for each direction of retrieval and for zero-shot.

``report.t2i.mteb.json`` is what MTEB itself would write of a task with these queries, this gallery and these answers: every
query that has an answer is ranked, also where the report draws some.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clipmill import storage
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.classification.zero_shot import ZeroShot
from clipmill.evaluation.directions import sides_of
from clipmill.evaluation.retrieval.ranks import Answers
from clipmill.evaluation.vectors import Vectors, blocks, read_vectors
from clipmill.report.document import MtebPart, Report
from clipmill.report.mteb_scores import DEPTH, Array, Scores, classification_scores, query_scores, retrieval_scores
from clipmill.report.ranked import ranked_blocks
from clipmill.storage import Location

MTEB_VERSION = "2.26.24"
"""Whose definitions these are."""
_LANGUAGE = "und-Zyyy"
"""Undetermined (ISO 639-3, ISO 15924): it is not known which language captions and class names are in."""
_QUERIES = 1024
_IMAGES = 8192


def write_mteb(
    folder: Location, embeddings: Embeddings, report: Report, zero_shot: ZeroShot | None, scratch: Path
) -> MtebPart | None:
    """Writes a file for each task that the report has; None, and no file, where it has none. ``scratch`` is an empty folder for
    what memory cannot hold."""
    vectors = {
        part: read_vectors(embeddings, part, scratch)
        for part in dict.fromkeys(side for one in report.retrieval for side in sides_of(one.direction))
    }
    made: dict[str, Scores] = {}
    for one in report.retrieval:
        queries, gallery = (vectors[side] for side in sides_of(one.direction))
        made[one.direction] = _retrieval(queries, gallery)
    if zero_shot is not None:
        made["zero-shot"] = _zero_shot(read_vectors(embeddings, "images", scratch), zero_shot)
    files = {}
    for task, scores in made.items():
        name = f"report.{task}.mteb.json"
        text = json.dumps(_task_result(task, scores, embeddings, report), indent=2) + "\n"
        files[name] = storage.write_bytes(folder / name, text.encode()).sha256
    return MtebPart(files=files) if files else None


def task_name(title: str, task: str) -> str:
    """What a task of a dataset is called, as MTEB calls its own: ``Flickr30kT2IRetrieval``."""
    kind = "ZeroShot" if task == "zero-shot" else f"{task.upper()}Retrieval"
    return re.sub(r"[^A-Za-z0-9]+", "_", title).strip("_") + kind


def _task_result(task: str, scores: Scores, embeddings: Embeddings, report: Report) -> dict[str, object]:
    split = {**scores, "hf_subset": "default", "languages": [_LANGUAGE], "mteb_version": MTEB_VERSION}
    return {
        "dataset_revision": embeddings.manifest_sha256,
        "task_name": task_name(report.dataset.title, task),
        "mteb_version": MTEB_VERSION,
        "scores": {"test": [split]},
        "evaluation_time": report.seconds,
        "kg_co2_emissions": None,
        "date": report.created.timestamp(),
        "evaluation_phases": None,
    }


def _retrieval(queries: Vectors, gallery: Vectors) -> Scores:
    _, count = Answers.of(gallery).stretches(queries.rows)
    asked = np.flatnonzero(count > 0)

    def scored() -> Iterator[dict[str, Array]]:
        for block in ranked_blocks(queries, gallery, asked, DEPTH, _QUERIES):
            relevant = gallery.rows[block.found] == queries.rows[block.asked][:, None]
            yield query_scores(relevant, count[block.asked], block.scores)

    return retrieval_scores(scored(), len(asked))


def _zero_shot(images: Vectors, zero_shot: ZeroShot) -> Scores:
    classes = zero_shot.vectors.astype(np.float64).T
    count = len(zero_shot.positions)
    given, second = np.empty(count, np.int64), np.empty(count)  # of a million images all scores would fill memory
    for part in blocks(count, _IMAGES):
        scores = images.values[zero_shot.positions[part]] @ classes
        given[part], second[part] = scores.argmax(axis=1), scores[:, min(1, scores.shape[1] - 1)]
    return classification_scores(zero_shot.truth, given, second if classes.shape[1] == 2 else None)
