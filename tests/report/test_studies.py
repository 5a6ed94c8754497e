"""Slices, robustness and the shape of the space on the page and in the document, and reports from before there were any."""

import json
from pathlib import Path

import numpy as np

from captioned import identity, pairs, write_captioned
from clipmill.core.settings import EvaluateSettings
from clipmill.report.document import Report
from clipmill.report.page import html_text
from reported import evaluate, load_encoder

HOSTILE = '"><script>alert(1)</script>'
IMAGES, CAPTIONS, ROWS = pairs(40, 2)


def settings(tmp_path: Path, **values: object) -> EvaluateSettings:
    labels = [HOSTILE if number % 2 else "plain" for number in range(40)]
    if not (tmp_path / "e").exists():
        write_captioned(tmp_path / "e", IMAGES, CAPTIONS, ROWS, labels=labels, model=identity(16))
    given = {"embeddings": str(tmp_path / "e"), "output": str(tmp_path / "r"), "templates": "plain"}
    return EvaluateSettings(**{**given, "bootstrap_samples": 20, **values})


def test_hostile_values_of_a_column_are_shown_as_text(tmp_path: Path) -> None:
    made = evaluate(settings(tmp_path, slice_by=("label",), perturb_text=True), load_encoder, tmp_path).manifest
    content = html_text(made)
    assert content.count("<script") == content.count("</script>") == 2  # the page's data and its own
    assert "&lt;script&gt;" in content
    assert made.slices is not None
    assert made.slices.columns[0].slices[0].text == HOSTILE
    assert any("none does significantly worse" in sentence for sentence in made.summary)
    assert made.command.endswith("--slice-by label --perturb-text --bootstrap-samples 20")
    assert Report.model_validate_json(made.model_dump_json()) == made


def test_what_was_not_asked_for_is_named_with_its_option(tmp_path: Path) -> None:
    made = evaluate(settings(tmp_path), load_encoder, tmp_path).manifest
    why = {absence.what: absence.why for absence in made.absences}
    assert "--slice-by" in why["Slices"]
    assert "--robustness" in why["Robustness to worse pictures"]
    assert "--perturb-text" in why["Robustness to writing"]
    assert made.space is not None
    assert {figure.metric for figure in made.space.figures} >= {"modality_gap", "alignment", "effective_rank_images"}


def test_an_older_report_is_read_and_shown_and_is_the_same_evaluation(tmp_path: Path) -> None:
    asked = settings(tmp_path)
    evaluate(asked, load_encoder, tmp_path)
    place = tmp_path / "r" / "report.json"
    document = json.loads(place.read_text())
    for name in ("space", "slices", "corruption", "writing"):
        del document[name]
    for name in ("slice_by", "perturb_text"):
        del document["settings"][name]
    place.write_text(json.dumps(document))
    old = evaluate(asked, load_encoder, tmp_path)
    assert old.already
    assert old.manifest.space is None
    assert "Robustness" in html_text(old.manifest)


def test_a_slice_that_does_worse_is_marked(tmp_path: Path) -> None:
    images = IMAGES.copy()
    images[1::2] = images[1]
    write_captioned(tmp_path / "e", images, CAPTIONS, ROWS, labels=["a", "b"] * 20)
    made = evaluate(settings(tmp_path, slice_by=("label",)), load_encoder, tmp_path).manifest
    assert made.slices is not None
    marked = [
        (part.text, figure.key) for part in made.slices.columns[0].slices for figure in part.figures if figure.worse
    ]
    assert ("b", "t2i.recall@1") in marked
    assert {text for text, _ in marked} == {"b"}
    assert "Of 2 slices of the data by label, 1 does significantly worse than the rest." in made.summary
    assert 'class="worse" title=' in html_text(made)
    assert np.isclose(made.slices.level, 0.05)
