"""What shorter vectors lose is measured from one embedding, on the same queries."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from captioned import identity, pairs, write_captioned
from clipmill.core.errors import UserError
from clipmill.core.settings import EvaluateSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.quality import Quality, check_settings, measure_quality
from clipmill.evaluation.studies.widths import cut
from clipmill.evaluation.vectors import Vectors
from clipmill.report.document import Report
from clipmill.report.page import html_text
from reported import evaluate, load_encoder

IMAGES, CAPTIONS, ROWS = pairs(60, 2, noise=2.5)
LABELS = ["cat" if number % 2 else "dog" for number in range(60)]


@pytest.fixture
def place(tmp_path: Path) -> str:
    return write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS, labels=LABELS, model=identity(16))


def encode(texts: list[str]) -> np.ndarray:
    return np.array([IMAGES[int("cat" in text.lower())] for text in texts], np.float32)


def measure(place: str, scratch: Path, widths: str) -> Quality:
    settings = EvaluateSettings.model_validate(
        {"embeddings": place, "output": "unused", "templates": "plain", "bootstrap_samples": 50, "widths": widths}
    )
    return measure_quality(Embeddings.open(place), settings, lambda: encode, scratch)


def shortened(vectors: np.ndarray, width: int) -> np.ndarray:
    short = vectors[:, :width].astype(np.float64)
    return (short / np.linalg.norm(short, axis=1, keepdims=True)).astype(np.float16).astype(np.float64)


def test_each_width_has_the_recall_of_vectors_cut_to_it(place: str, tmp_path: Path) -> None:
    found = measure(place, tmp_path, "4,8")
    widths = found.studies.widths
    assert widths is not None
    assert [part.name for part in widths.variations] == ["8", "4"]
    before = {figure.key: figure.value for figure in widths.clean}
    assert before["t2i.recall@1"] == found.retrieval["t2i"].recall(1)
    assert "zero-shot.acc1" in before
    for part in widths.variations:
        images, captions = (shortened(side, int(part.name)) for side in (IMAGES, CAPTIONS))
        expected = float(np.mean((captions @ images.T).argmax(axis=1) == ROWS))
        figures = {figure.key: figure.value for figure in part.figures}
        assert figures["t2i.recall@1"] == pytest.approx(expected)
        changes = {figure.key: figure.value for figure in part.changes}
        assert changes["t2i.recall@1_change"] == pytest.approx(expected - before["t2i.recall@1"])
        asked = shortened(np.stack([IMAGES[0], IMAGES[1]]), int(part.name))
        guessed = (images @ asked.T).argmax(axis=1)
        assert figures["zero-shot.acc1"] == pytest.approx(np.mean(guessed == [label == "cat" for label in LABELS]))


def test_vectors_are_of_unit_length_again() -> None:
    short = cut(Vectors(np.arange(60), IMAGES), 5, Path("unused")).values.astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=2e-3)


@pytest.mark.parametrize("widths", ["16", "8,8", "17"])
def test_a_width_that_the_vectors_do_not_have_is_refused(place: str, widths: str) -> None:
    settings = EvaluateSettings.model_validate({"embeddings": place, "output": "unused", "widths": widths})
    with pytest.raises(UserError, match="--widths"):
        check_settings(Embeddings.open(place), settings)


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        EvaluateSettings.model_validate({"embeddings": "e", "output": "unused", "widths": "8,0"})


def test_the_page_shows_them_and_the_command_says_how(place: str, tmp_path: Path) -> None:
    values = {"embeddings": place, "output": str(tmp_path / "r"), "templates": "plain", "bootstrap_samples": 50}
    report = evaluate(EvaluateSettings.model_validate({**values, "widths": "8,4"}), load_encoder, tmp_path).manifest
    assert "--widths 8,4" in report.command
    assert "To shorter vectors" in html_text(report)
    again = Report.model_validate_json((tmp_path / "r" / "report.json").read_text())
    assert again.widths == report.widths
    other = evaluate(EvaluateSettings(**{**values, "output": str(tmp_path / "n")}), load_encoder, tmp_path).manifest
    assert other.widths is None
    assert "To shorter vectors" not in html_text(other)
