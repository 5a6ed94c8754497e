"""What labels brought is on the page, with definitions and intervals, and an older report without it is still read."""

import re
from pathlib import Path

import numpy as np
import pytest

from captioned import identity, unit, write_captioned
from clipmill.core.settings import EvaluateSettings
from clipmill.report.document import Report
from clipmill.report.page import defined, html_text
from clipmill.report.page_shell import definitions
from clipmill.report.terminal import report_lines
from reported import WORDS, evaluate, load_encoder

HOSTILE = '<img src=x onerror="alert(1)">{{ 7 * 7 }}'
NUMBERS = np.arange(60) % 3
LABELS = [(HOSTILE, "dog & co", "owl")[number] for number in NUMBERS]
IMAGES = unit(WORDS[NUMBERS].astype(np.float64) + np.random.default_rng(0).standard_normal((60, 16)) * 0.4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    (folder / "templates.txt").write_text('{}\n<script>alert("{}")</script>\na photo of a {}\n')
    place = write_captioned(folder / "e", IMAGES, IMAGES[:0], [], labels=LABELS, model=identity(16))
    settings = EvaluateSettings(
        embeddings=place, output=str(folder / "r"), templates=str(folder / "templates.txt"), bootstrap_samples=50
    )
    return evaluate(settings, load_encoder, folder).manifest


def test_every_figure_has_its_interval_and_a_definition_on_the_page(made: Report) -> None:
    assert made.probe is not None
    assert made.zero_shot is not None
    assert made.zero_shot.calibration is not None
    assert made.zero_shot.template_effect is not None
    figures = [*made.probe.figures, *(shots.figure for shots in made.probe.shots), *made.zero_shot.calibration.figures]
    explained = {definition for _, definition in definitions(defined(made))}
    for figure in figures:
        assert figure.low is not None
        assert figure.low <= figure.value <= figure.high
        assert figure.definition in explained
    assert {figure.metric for figure in figures} >= {
        "linear_probe_acc1",
        "knn20_acc1",
        "knn1_acc1",
        "calibration_error",
    }
    assert [shots.shots for shots in made.probe.shots] == [1, 2, 4, 8]
    assert sum(bin.images for bin in made.zero_shot.calibration.bins) == 60


def test_labels_and_templates_are_shown_as_text(made: Report) -> None:
    content = html_text(made)
    assert content.count("<script") == content.count("</script>") == 2  # the page's data and its own
    assert "<img src=x" not in content
    assert content.count("&lt;img src=x") >= 1
    assert "{{ 7 * 7 }}" in content
    assert "&lt;script&gt;" in content


def test_plots_are_drawn(made: Report) -> None:
    content = html_text(made)
    probe = content[content.index('id="probe"') :].partition("</section>")[0]
    assert len(re.findall("<title>", probe)) == 4 + 2
    assert "zero-shot:" in probe
    zero_shot = content[content.index('id="zero-shot"') : content.index('id="probe"')]
    assert made.zero_shot is not None
    assert made.zero_shot.calibration is not None
    filled = [bin for bin in made.zero_shot.calibration.bins if bin.images]
    assert zero_shot.count("images, mean confidence") == len(filled)


def test_many_templates_are_shown_by_the_best_and_the_worst(made: Report) -> None:
    assert made.zero_shot is not None
    effect = made.zero_shot.template_effect
    assert effect is not None
    many = [effect.templates[0].model_copy(update={"template": f"number {n} of {{}}"}) for n in range(80)]
    effect = effect.model_copy(update={"templates": many})
    zero_shot = made.zero_shot.model_copy(update={"template_effect": effect})
    content = html_text(made.model_copy(update={"zero_shot": zero_shot}))
    assert [int(number) for number in re.findall(r"number (\d+) of", content)] == [*range(5), *range(75, 80)]


def test_the_terminal_and_the_summary_tell_of_the_probe(made: Report) -> None:
    lines = report_lines(made)
    assert any(line.startswith("trained") and "Linear probe" in line for line in lines)
    assert any(line.startswith("few-shot") for line in lines)
    assert any("a linear classifier on its embeddings" in sentence for sentence in made.summary)


def test_a_report_from_before_is_read_and_shown(made: Report) -> None:
    old = made.model_dump(mode="json")
    del old["probe"]
    for name in ("calibration", "template_effect", "without_images"):
        del old["zero_shot"][name]
    read = Report.model_validate(old)
    assert 'id="zero-shot"' in html_text(read)
    assert 'id="probe"' not in html_text(read)
    assert "Reliability" not in html_text(read)


def test_the_command_of_a_report_without_a_probe_makes_one_without(tmp_path: Path) -> None:
    place = write_captioned(tmp_path / "e", IMAGES, IMAGES[:0], [], labels=LABELS, model=identity(16))
    settings = EvaluateSettings(embeddings=place, output=str(tmp_path / "r"), templates="plain", probe=False)
    report = evaluate(settings, load_encoder, tmp_path).manifest
    assert report.command.endswith("--no-probe")
    assert evaluate(settings, load_encoder, tmp_path).already
