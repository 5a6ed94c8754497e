"""A report of texts measures what there is, says what there is not, and shows it with pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from blocks import write_pictures
from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ModelSettings, TextEvaluationSettings
from clipmill.encoders.model import load_model
from clipmill.evaluation.texts import cosines
from clipmill.report.document import Report
from clipmill.runs.text_stages import evaluate_texts_stage
from clipmill.source.decode import decode_image
from clipmill.verification.dataset import verify
from clipmill_jobs.evaluate import command
from texts_written import write_texts

ROWS = 300
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    captions = [[f"a {COLOURS[row % 3]} block", f"one block, {row}"] for row in range(ROWS)]
    answers = [[COLOURS[row % 3]] * 7 + ["grey"] * 3 for row in range(ROWS)]
    visible = ["yes" if row % 2 else "no" for row in range(ROWS)]
    folder = tmp_path_factory.mktemp("in") / "pictures"
    return write_pictures(folder, ROWS, caption=captions, answers=answers, visible=visible)


@pytest.fixture(scope="module")
def texts(pictures: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    said = {row: [f"a {COLOURS[row % 2]} block"] for row in range(ROWS) if row != 5}
    return write_texts(tmp_path_factory.mktemp("texts") / "texts", pictures, said)


@pytest.fixture(scope="module")
def made(texts: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    output = tmp_path_factory.mktemp("report") / "out"
    settings = TextEvaluationSettings(texts=texts, output=str(output), answer_column="answers")
    return output, evaluate_texts_stage(settings, Silent()).manifest


def value(report: Report, key: str) -> float:
    figure = report.figure(key)
    assert figure is not None, key
    return figure.value


def test_figures_are_those_of_the_texts(made: tuple[Path, Report]) -> None:
    report = made[1]
    same = [row % 2 == row % 3 for row in range(ROWS) if row != 5]
    assert value(report, "texts.rouge_l") == pytest.approx(np.mean([1 if one else 2 / 3 for one in same]))
    assert value(report, "texts.bleu_1") == pytest.approx(np.mean([1 if one else 2 / 3 for one in same]))
    assert value(report, "texts.words") == 3
    assert value(report, "texts.repeated") == pytest.approx(1 - 2 / 299)
    assert value(report, "texts.distinct_2") == pytest.approx(4 / (2 * 299))
    assert value(report, "texts.cut") == 0
    assert report.texts is not None
    assert (report.texts.texts, report.texts.with_references, report.texts.with_answers) == (299, 299, 299)
    for key in ("texts.cider_d", "texts.bleu_4", "texts.clip_score", "texts.ref_clip_score"):
        figure = report.figure(key)
        assert figure is not None
        assert figure.low is not None
        assert figure.low <= figure.value <= (figure.high or 0), key


def test_scores_of_a_clip_model_are_those_of_its_vectors(made: tuple[Path, Report], pictures: str) -> None:
    table = pq.read_table(pictures)
    model = load_model(ModelSettings(), device="cpu")
    rows = [row for row in range(ROWS) if row != 5]
    encoded = table.column("image").to_pylist()
    import torch

    seen = model.encode_images(
        torch.stack([model.preprocessing.prepare(decode_image(encoded[row], 10**8)) for row in rows])
    )
    read = model.encode_texts([f"a {COLOURS[row % 2]} block" for row in rows])
    score = 2.5 * np.maximum(np.einsum("ij,ij->i", seen, read), 0)
    assert value(made[1], "texts.clip_score") == pytest.approx(score.mean(), abs=1e-4)
    captions = table.column("caption").to_pylist()
    alike = np.array([max(0, *(model.encode_texts(captions[row]) @ one)) for row, one in zip(rows, read, strict=True)])
    both = np.where(score > 0, 2 * score * alike / np.maximum(score + alike, 1e-9), 0)
    assert value(made[1], "texts.ref_clip_score") == pytest.approx(both.mean(), abs=1e-4)


def test_answers_are_compared_with_those_of_people(pictures: str, tmp_path: Path) -> None:
    said = {row: ["The green." if row < 100 else COLOURS[row % 3]] for row in range(ROWS)}
    texts = write_texts(tmp_path / "texts", pictures, said, prompt="which colour?")
    settings = TextEvaluationSettings(
        texts=texts, output=str(tmp_path / "out"), answer_column="answers", clip_score=False, bootstrap_samples=50
    )
    report = evaluate_texts_stage(settings, Silent()).manifest
    right = np.mean([row >= 100 or row % 3 == 1 for row in range(ROWS)])
    assert value(report, "answers.exact_match") == pytest.approx(right)
    assert value(report, "answers.vqa_accuracy") == pytest.approx(right)
    assert report.figure("answers.yes_rate") is None
    assert report.model is None
    assert any(absence.what == "Fit to pictures" for absence in report.absences)


def test_yes_and_no_have_figures_of_their_own(pictures: str, tmp_path: Path) -> None:
    said = {row: ["yes" if row % 4 in (1, 2) else "maybe" if row % 4 == 0 else "no"] for row in range(ROWS)}
    texts = write_texts(tmp_path / "texts", pictures, said)
    settings = TextEvaluationSettings(
        texts=texts, output=str(tmp_path / "out"), answer_column="visible", clip_score=False, bootstrap_samples=200
    )
    report = evaluate_texts_stage(settings, Silent()).manifest
    expected = {
        "yes_no_accuracy": 1 / 4,
        "yes_precision": 1 / 2,
        "yes_recall": 1 / 2,
        "yes_f1": 1 / 2,
        "yes_rate": 1 / 2,
    }
    assert {name: value(report, f"answers.{name}") for name in expected} == pytest.approx(expected)
    assert any(absence.what == "VQA accuracy" for absence in report.absences)
    figure = report.figure("answers.yes_f1")
    assert figure is not None
    assert (figure.low or 1) < 0.5 < (figure.high or 0)


def test_the_page_shows_examples_with_their_pictures(made: tuple[Path, Report]) -> None:
    output, report = made
    assert report.texts is not None
    assert {example.kind for example in report.texts.examples} == {"best", "worst", "disagreeing"}
    assert (report.texts.ranked_by, report.texts.against) == ("CIDEr-D", "CLIPScore")
    best = [one.values["CIDEr-D"] for one in report.texts.examples if one.kind == "best"]
    worst = [one.values["CIDEr-D"] for one in report.texts.examples if one.kind == "worst"]
    assert min(best) > max(worst)
    assert set(report.pictures) == {example.row for example in report.texts.examples}
    text = (output / "report.html").read_text()
    assert text.count('src="data:image/jpeg;base64,') == len(report.texts.examples)
    for figure in report.texts.figures:
        assert figure.title in text
    assert "CIDEr-D" in (output / "report.md").read_text()


def test_the_report_is_verified_against_its_texts(made: tuple[Path, Report], tmp_path: Path) -> None:
    assert verify(str(made[0]), quick=False, reporter=Silent()).faults == []
    document = json.loads((made[0] / "report.json").read_text())
    document["dataset"]["counts"]["captions"] += 1
    for file in made[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "report.json").write_text(json.dumps(document))
    faults = verify(str(tmp_path), quick=False, reporter=Silent()).faults
    assert any("those of the texts are" in fault for fault in faults)


def test_an_interrupted_evaluation_measures_no_picture_twice(
    texts: str, made: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TextEvaluationSettings(texts=texts, output=str(tmp_path / "out"), answer_column="answers")
    plain, units = cosines._of_unit, []

    def stops(*arguments: Any) -> Any:
        if len(units) == 1:
            raise KeyboardInterrupt
        units.append(arguments[-1])
        return plain(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(cosines, "_of_unit", stops)
        with pytest.raises(KeyboardInterrupt):
            evaluate_texts_stage(settings, Silent())
    with monkeypatch.context() as patched:
        patched.setattr(cosines, "_of_unit", lambda *arguments: units.append(arguments[-1]) or plain(*arguments))
        again = evaluate_texts_stage(settings, Silent()).manifest
    assert len(units) == len(set(units)) > 1
    assert [figure.value for figure in again.figures] == [figure.value for figure in made[1].figures]
    assert evaluate_texts_stage(settings, Silent()).already
    with pytest.raises(OutputDiffers, match="answer column: was answers, now visible"):
        evaluate_texts_stage(settings.model_copy(update={"answer_column": "visible"}), Silent())


def test_mistakes_are_one_sentence(texts: str, pictures: str, tmp_path: Path) -> None:
    def evaluate(**options: Any) -> None:
        evaluate_texts_stage(TextEvaluationSettings(output=str(tmp_path / "out"), **options), Silent())

    with pytest.raises(UserError, match=r"--answer-column colours: .* has no such column; there are"):
        evaluate(texts=texts, answer_column="colours")
    with pytest.raises(UserError, match=r"--reference-column nothing: .* has no such column; there are"):
        evaluate(texts=texts, reference_column="nothing")
    with pytest.raises(UserError, match="make one with `clipmill caption`"):
        evaluate(texts=pictures)
    with pytest.raises(UserError, match=r"and not about the files that .* now holds"):
        evaluate(texts=texts, input=write_pictures(tmp_path / "others", 3))
    assert not (tmp_path / "out").exists()


def test_the_command_takes_texts_or_embeddings(texts: str, tmp_path: Path) -> None:
    run = CliRunner().invoke(command, ["--texts", texts, "--output", str(tmp_path / "out"), "--no-clip-score"])
    assert run.exit_code == 0, run.output
    assert "CIDEr-D" in run.output
    assert "not measured  Right answers" in run.output
    mixed = CliRunner().invoke(command, ["--texts", texts, "--output", "x", "--label-column", "label"])
    assert "--label-column is not for --texts" in str(mixed.output) + str(mixed.exception)
    alone = CliRunner().invoke(command, ["--embeddings", "x", "--output", "x", "--answer-column", "answers"])
    assert "--answer-column is not for commands without --texts" in str(alone.output) + str(alone.exception)
    neither = CliRunner().invoke(command, ["--output", "x"])
    assert "--embeddings is missing" in str(neither.output) + str(neither.exception)
