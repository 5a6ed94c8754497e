"""Worse pictures are compared with the clean ones on the same queries, and only where they are the same pictures."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from captioned import identity, pairs, unit, write_captioned
from clipmill.core.errors import UserError
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.figures import Figure
from clipmill.evaluation.quality import Quality, measure_quality
from clipmill.evaluation.studies.corrupted import open_corrupted

IMAGES, CAPTIONS, ROWS = pairs(40, 2)
LABELS = ["cat" if number % 2 else "dog" for number in range(40)]


def dataset(folder: Path, images: np.ndarray = IMAGES, rows: list[int] | None = None, **configuration: object) -> str:
    """Embeddings that say in their manifest how they were made."""
    place = write_captioned(folder, images, CAPTIONS, ROWS, image_rows=rows, labels=LABELS, model=identity(16))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["configuration"] = {"inputs_digest": "d", "limit": None, **configuration}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return place


def worse(share: float) -> np.ndarray:
    """Image vectors, the last of them mixed up."""
    images = IMAGES.copy()
    images[int(40 * (1 - share)) :] = unit(np.random.default_rng(99).standard_normal((int(40 * share), 16)))
    return images


def measure(tmp_path: Path, clean: str, **settings: object) -> Quality:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    values = EvaluateSettings(embeddings=clean, output="unused", templates="plain", bootstrap_samples=50, **settings)
    return measure_quality(Embeddings.open(clean), values, lambda: encode, scratch)


def values(figures: Iterable[Figure]) -> dict[str, float]:
    return {figure.key: figure.value for figure in figures}


def encode(texts: list[str]) -> np.ndarray:
    return np.array([IMAGES[int("cat" in text.lower())] for text in texts], np.float32)


def test_figures_are_those_of_the_worse_pictures_with_the_clean_captions(tmp_path: Path) -> None:
    clean = dataset(tmp_path / "clean")
    places = [
        dataset(tmp_path / "same", corrupt="blur:1"),
        dataset(tmp_path / "half", worse(0.5), corrupt="noise:3:7"),
    ]
    found = measure(tmp_path, clean, robustness=tuple(places))
    assert found.studies.corruption is not None
    blur, noise = found.studies.corruption.variations
    assert (blur.name, blur.strength, noise.name, noise.strength) == ("blur", 1, "noise", 3)
    before = values(found.studies.corruption.clean)
    assert before["t2i.recall@1"] == found.retrieval["t2i"].recall(1)
    assert before["i2t.recall@1"] == found.retrieval["i2t"].recall(1)
    assert found.zero_shot is not None
    assert before["zero-shot.acc1"] == found.zero_shot.acc1
    assert values(blur.figures)["robustness.cosine"] == pytest.approx(1, abs=1e-3)
    assert values(blur.changes) == {f"{key}_change": 0 for key in before}
    scores = CAPTIONS.astype(np.float64) @ worse(0.5).astype(np.float64).T
    expected = float(np.mean(scores.argmax(axis=1) == ROWS))
    assert values(noise.figures)["t2i.recall@1"] == pytest.approx(expected)
    assert values(noise.changes)["t2i.recall@1_change"] == pytest.approx(expected - before["t2i.recall@1"])
    cosines = np.einsum("ij,ij->i", IMAGES.astype(np.float64), worse(0.5).astype(np.float64))
    assert values(noise.figures)["robustness.cosine"] == pytest.approx(cosines.mean())


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({}, "as they were"),
        ({"corrupt": "fog:1"}, "KIND:STRENGTH"),
        ({"corrupt": "blur:1", "inputs_digest": "other"}, "another input"),
        ({"corrupt": "blur:1", "limit": 5}, "another limit"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, configuration: dict, said: str) -> None:
    clean = Embeddings.open(dataset(tmp_path / "clean"))
    with pytest.raises(UserError, match=said):
        open_corrupted(clean, [dataset(tmp_path / "other", **configuration)])


def test_two_of_one_strength_and_other_images_are_refused(tmp_path: Path) -> None:
    clean = dataset(tmp_path / "clean")
    twice = [dataset(tmp_path / name, corrupt="blur:1") for name in "ab"]
    with pytest.raises(UserError, match="blur:1 already"):
        open_corrupted(Embeddings.open(clean), twice)
    moved = dataset(tmp_path / "moved", rows=list(range(1, 41)), corrupt="crop:1")
    with pytest.raises(UserError, match="not the same images"):
        measure(tmp_path, clean, robustness=(moved,))


def test_slices_and_writing_are_measured_where_they_are_asked_for(tmp_path: Path) -> None:
    clean = dataset(tmp_path / "clean")
    found = measure(tmp_path, clean, slice_by=("label",), perturb_text=True).studies
    assert found.slices is not None
    assert [figure.key for figure in found.slices.figures] == [
        "t2i.recall@1",
        "t2i.recall@10",
        "i2t.recall@1",
        "i2t.recall@10",
        "zero-shot.acc1",
        "alignment.clip_score",
    ]
    assert [part.text for part in found.slices.columns[0].slices] == ["cat", "dog"]
    assert found.writing is not None
    assert set(values(found.writing.clean)) == {"t2i.recall@1", "zero-shot.acc1"}
    assert found.absences == []


def test_a_dataset_of_nothing_says_why_there_are_no_studies(tmp_path: Path) -> None:
    place = write_captioned(tmp_path / "e", IMAGES[:1], CAPTIONS[:0], [], labels=LABELS[:1])
    found = measure(tmp_path, place, slice_by=("label",), perturb_text=True).studies
    why = {absence.what: absence.why for absence in found.absences}
    assert "two images" in why["Outliers and near-duplicates"]
    assert "no caption belongs" in why["Slices"]
    assert "made elsewhere" in why["Robustness to writing"]
