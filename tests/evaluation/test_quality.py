"""What a dataset allows is measured, and what it does not is named with its reason."""

from pathlib import Path

import numpy as np
import pytest

from captioned import identity, pairs, write_captioned
from clipmill.core.errors import UserError
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation import vectors
from clipmill.evaluation.classification.zero_shot import Encode
from clipmill.evaluation.quality import Quality, measure_quality

IMAGES, CAPTIONS, ROWS = pairs(24, 2)
LABELS = [("cat", "dog", None, "")[number % 4] for number in range(24)]


def no_encoder() -> Encode:
    raise AssertionError("the text encoder was loaded where no class name is to be encoded")


def encoder() -> Encode:
    return lambda texts: np.array([IMAGES[int("dog" in text)] for text in texts], np.float32)


def quality(place: str, tmp_path: Path, load: object = no_encoder, **settings: object) -> Quality:
    values = {"embeddings": place, "output": "unused", "templates": "plain", "bootstrap_samples": 50, **settings}
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return measure_quality(Embeddings.open(place), EvaluateSettings(**values), load, scratch)


def why(found: Quality) -> dict[str, str]:
    return {absence.what: absence.why for absence in found.absences}


def test_everything_is_measured_where_there_is_everything(tmp_path: Path) -> None:
    place = write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS, labels=LABELS, model=identity(16))
    found = quality(place, tmp_path, encoder)
    assert found.absences == []
    assert found.zero_shot is not None
    assert (found.zero_shot.classes, found.zero_shot.images, found.zero_shot.unlabelled) == (("cat", "dog"), 12, 12)
    assert found.retrieval["t2i"].queries == 48
    assert found.retrieval["i2t"].queries == 24
    assert len({example.query for example in found.examples}) == 12
    assert any("12 images have no label" in note for note in found.notes)
    assert any("acc5 needs five classes" in note for note in found.notes)


def test_vectors_from_elsewhere_have_no_text_encoder(tmp_path: Path) -> None:
    place = write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS, labels=LABELS)
    found = quality(place, tmp_path)
    assert "made elsewhere" in why(found)["Zero-shot classification"]
    assert found.alignment is not None
    assert [loss.temperature for loss in found.alignment.losses] == [0.07]


@pytest.mark.parametrize(
    ("images", "captions", "shift", "said"),
    [
        (0, 48, 0, "no images: all 3"),
        (24, 0, 0, "no captions"),
        (0, 0, 0, "no images"),
        (24, 48, 99, "no caption belongs"),
    ],
)
def test_without_pairs_there_is_no_retrieval(tmp_path: Path, images: int, captions: int, shift: int, said: str) -> None:
    place = write_captioned(
        tmp_path / "e",
        IMAGES[:images],
        CAPTIONS[:captions],
        ROWS[:captions] + shift,
        labels=LABELS[:images],
        model=identity(16),
        rejected_images=3,
    )
    found = quality(place, tmp_path, encoder)
    for name in ("Retrieval", "Alignment of the two towers", "Example retrievals"):
        assert said in why(found)[name]
    assert found.retrieval == {}
    assert (found.zero_shot is None) == (images == 0)


def test_one_pair_is_measured_and_called_trivial(tmp_path: Path) -> None:
    place = write_captioned(tmp_path / "e", IMAGES[:1], CAPTIONS[:1], [0], labels=["cat"], model=identity(16))
    found = quality(place, tmp_path, encoder)
    assert found.retrieval["t2i"].recall(1) == 1
    assert found.retrieval["t2i"].intervals["recall@1"].low == pytest.approx(0.025)
    assert any("R@1 and R@5 and R@10 cannot fail" in note for note in found.notes)
    assert any("one class only (cat)" in note for note in found.notes)


def test_labels_that_are_all_null_are_said_to_be(tmp_path: Path) -> None:
    place = write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS, labels=[None] * 24, model=identity(16))
    assert "null or empty" in why(quality(place, tmp_path))["Zero-shot classification"]


def test_a_label_column_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    place = write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS, labels=LABELS, model=identity(16))
    with pytest.raises(UserError, match=r"--label-column breed: .* it has label"):
        quality(place, tmp_path, label_column="breed")


def test_a_dataset_larger_than_memory_gives_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS, model=identity(16))
    in_memory = quality(place, tmp_path)
    monkeypatch.setattr(vectors, "IN_MEMORY", 0)
    mapped = quality(place, tmp_path)
    assert (tmp_path / "scratch" / "images.npy").exists()
    assert mapped.retrieval == in_memory.retrieval
    assert mapped.ceilings == in_memory.ceilings
