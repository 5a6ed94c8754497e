"""Labels of a dataset to figures: names from elsewhere, training data of their own, and why something is absent."""

import json
from pathlib import Path

import numpy as np
import pytest

from captioned import identity, pairs, unit, write_captioned
from clipmill.core.errors import UserError
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.classification.labels import read_labels
from clipmill.evaluation.classification.zero_shot import Encode
from clipmill.evaluation.quality import Quality, measure_quality

NAMES = ("red fox", "owl", "wolf")
WORDS = pairs(3, 1)[0]
NUMBERS = np.arange(90) % 2
IMAGES = unit(WORDS[NUMBERS].astype(np.float64) + np.random.default_rng(0).standard_normal((90, 16)) * 0.2)
NONE = IMAGES[:0]


def encoder() -> Encode:
    return lambda texts: np.array([WORDS[NAMES.index(text)] for text in texts], np.float32)


def written(folder: Path, labels: list[str | None], images: np.ndarray = IMAGES, **values: object) -> str:
    return write_captioned(folder, images, NONE, [], labels=labels, **{"model": identity(16), **values})


def quality(place: str, tmp_path: Path, **settings: object) -> Quality:
    given = {"templates": "plain", "bootstrap_samples": 50, **settings}
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return measure_quality(
        Embeddings.open(place), EvaluateSettings(embeddings=place, output="unused", **given), encoder, scratch
    )


def why(found: Quality) -> dict[str, str]:
    return {absence.what: absence.why for absence in found.absences}


def test_integer_labels_get_names_and_classes_without_images_may_be_answers(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES))
    place = written(tmp_path / "e", [str(number) for number in NUMBERS])
    found = quality(place, tmp_path, class_names=str(names))
    assert found.zero_shot is not None
    assert found.zero_shot.classes == NAMES
    assert found.zero_shot.support.tolist() == [45, 45, 0]
    given = (IMAGES.astype(np.float64) @ WORDS.astype(np.float64).T).argmax(axis=1)
    assert found.zero_shot.acc1 == pytest.approx(np.mean(given == NUMBERS))
    assert any("1 of the 3 classes have no image" in note for note in found.notes)
    assert not any("labels are numbers" in note for note in found.notes)
    assert found.zero_shot.calibration is not None
    assert found.zero_shot.calibration.logit_scale == 100


def test_classes_of_the_same_name_are_shown_with_their_label(tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"a": "owl", "b": "owl", "c": "wolf"}))
    place = written(tmp_path / "e", ["a" if number else "b" for number in NUMBERS])
    found = quality(place, tmp_path, class_names=str(names))
    assert found.zero_shot is not None
    assert found.zero_shot.classes == ("owl (a)", "owl (b)", "wolf")


def test_a_label_that_has_no_name_is_refused(tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text('{"0": "owl"}')
    place = written(tmp_path / "e", [str(number) for number in NUMBERS])
    with pytest.raises(UserError, match=r"--class-names .*: '1'"):
        quality(place, tmp_path, class_names=str(names))


def test_vectors_from_elsewhere_have_a_probe_and_no_zero_shot(tmp_path: Path) -> None:
    found = quality(written(tmp_path / "e", [NAMES[number] for number in NUMBERS], model=None), tmp_path)
    assert "made elsewhere" in why(found)["Zero-shot classification"]
    assert found.supervised is not None
    assert found.supervised.zero_shot is None
    assert found.supervised.linear.value > 0.8


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([None] * 90, "null or empty"),
        (["owl"] * 90, "fewer than two classes"),
        (["owl"] * 88 + ["wolf"] * 2, "fewer than two classes"),
    ],
)
def test_without_two_classes_there_is_no_probe(tmp_path: Path, labels: list[str | None], said: str) -> None:
    assert said in why(quality(written(tmp_path / "e", labels), tmp_path))["Linear probe, few-shot and k-NN"]


def test_no_probe_is_trained_where_none_is_wanted(tmp_path: Path) -> None:
    found = quality(written(tmp_path / "e", [NAMES[number] for number in NUMBERS]), tmp_path, probe=False)
    assert found.supervised is None
    assert "--no-probe" in why(found)["Linear probe, few-shot and k-NN"]


def test_training_data_of_their_own(tmp_path: Path) -> None:
    labels: list[str | None] = [NAMES[number] for number in NUMBERS]
    place = written(tmp_path / "e", labels[:30], IMAGES[:30])
    train = written(tmp_path / "t", [*labels[30:80], *["cat"] * 10], IMAGES[30:])
    found = quality(place, tmp_path, probe_train=train).supervised
    assert found is not None
    assert (found.test, found.train + found.validation, found.classes) == (30, 60, 3)
    assert found.zero_shot is not None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": None}, "only one of the two"),
        ({"model": identity(16).model_copy(update={"weights_sha256": "c" * 64})}, "weights_sha256"),
    ],
)
def test_training_data_of_another_model_are_refused(tmp_path: Path, values: dict[str, object], said: str) -> None:
    labels: list[str | None] = [NAMES[number] for number in NUMBERS]
    place = written(tmp_path / "e", labels)
    with pytest.raises(UserError, match=said):
        quality(place, tmp_path, probe_train=written(tmp_path / "t", labels, **values))
    with pytest.raises(UserError, match="evaluated embeddings themselves"):
        quality(place, tmp_path, probe_train=place)


def test_labels_of_training_data_must_be_there(tmp_path: Path) -> None:
    labels: list[str | None] = [NAMES[number] for number in NUMBERS]
    train = write_captioned(tmp_path / "t", IMAGES, NONE, [], model=identity(16))
    with pytest.raises(UserError, match="no such column"):
        quality(written(tmp_path / "e", labels), tmp_path, probe_train=train)


def test_nan_is_no_label(tmp_path: Path) -> None:
    place = written(tmp_path / "e", ["1"] * 90)
    embeddings = Embeddings.open(place)
    batches = embeddings.batches

    def numbers(part: str, columns: list[str], rows: int = 65_536):  # type: ignore[no-untyped-def]
        import pyarrow as pa

        for batch in batches(part, columns, rows):
            yield pa.record_batch({"label": pa.array([float("nan"), 3.0] * batch.num_rows, pa.float64())})

    object.__setattr__(embeddings, "batches", numbers)
    found = read_labels(embeddings, "label")
    assert found.values == ("3",)
    assert found.numbers[:2].tolist() == [-1, 0]
