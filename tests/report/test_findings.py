"""What to do next: planted faults are named with their counts, the most affected first; the commands that are told do it."""

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from captioned import unit, write_captioned
from clipmill.core.settings import EvaluateSettings
from clipmill.evaluation.suspects.find import Suspects
from clipmill.evaluation.suspects.labels import Confused
from clipmill.report.document import Report
from clipmill.report.findings import findings
from clipmill.report.markdown import markdown_text
from clipmill.report.page import html_text
from clipmill.report.terminal import report_lines
from clipmill_jobs.__main__ import main
from html_page import Page
from reported import evaluate, load_encoder

N, DIMENSION = 900, 48
LABELS = ("cat", "it's a dog", "bird")


def made(tmp_path: Path, seed: int, *faults: str, slices: bool = False) -> Report:
    """A report over pictures of three labels with a caption each, after planting 54 exchanged captions, 36 copies, 45 wrong
    labels, or captions of a label that the model does not know."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, DIMENSION))
    truth = rng.integers(0, 3, N)
    images = unit(0.6 * centres[truth] + rng.normal(size=(N, DIMENSION)))
    if "copies" in faults:
        images[N - 36 :] = images[:36]
        truth[N - 36 :] = truth[:36]
    captions = unit(images.astype(np.float64) + rng.normal(0, 0.06, (N, DIMENSION)))
    if "captions" in faults:
        moved = rng.permutation(N)[:54]
        captions[moved] = captions[np.roll(moved, 1)]
    labels = truth.copy()
    if "labels" in faults:
        labels[np.flatnonzero(truth == 1)[:45]] = 2
    if "slice" in faults:
        blurred = np.flatnonzero(truth == 1)
        captions[blurred] = unit(captions[blurred].astype(np.float64) + rng.normal(0, 0.3, (len(blurred), DIMENSION)))
    place = write_captioned(
        tmp_path / "e", images, captions, range(N), labels=[LABELS[one] for one in labels], clip_scores=True
    )
    settings = EvaluateSettings(
        embeddings=place,
        output=str(tmp_path / "r"),
        bootstrap_samples=0,
        probe=False,
        slice_by=("label",) if slices else (),
    )
    return evaluate(settings, load_encoder, tmp_path).manifest


@pytest.mark.parametrize("seed", range(3100, 3104))
def test_nothing_is_told_where_nothing_is_wrong(tmp_path: Path, seed: int) -> None:
    report = made(tmp_path, seed, slices=True)
    assert report.findings == []
    assert "What to do next" not in html_text(report)
    assert not [line for line in report_lines(report) if line.startswith("next")]


@pytest.mark.parametrize("seed", range(3200, 3203))
def test_faults_are_named_with_their_counts_the_most_affected_first(tmp_path: Path, seed: int) -> None:
    report = made(tmp_path, seed, "copies", "captions", "labels")
    told = {one.kind: one.affected for one in report.findings}
    assert told.keys() == {"captions", "labels", "duplicates"}
    for kind, planted in (("captions", 54), ("labels", 45), ("duplicates", 36)):
        assert told[kind] == pytest.approx(planted, rel=0.1)
    shares = [one.share for one in report.findings]
    assert shares == sorted(shares, reverse=True)
    page = Page(html_text(report))
    assert "What to do next" in page.text
    text = " ".join(" ".join(page.text).split())
    for one in report.findings:
        assert " ".join(one.text.split()) in text
        assert one.command in text
        assert one.text[:40] in " ".join(report_lines(report))
    assert "**What to do next**" in markdown_text(report)


def test_a_slice_that_does_worse_is_named_with_its_images(tmp_path: Path) -> None:
    report = made(tmp_path, 3300, "slice", slices=True)
    (found,) = [one for one in report.findings if one.kind == "slice"]
    assert "where label is it's a dog do worse than the rest" in found.text
    truth = np.random.default_rng(3300)
    truth.normal(size=(3, DIMENSION))
    assert found.affected == int(np.sum(truth.integers(0, 3, N) == 1))


def test_the_commands_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = made(tmp_path, 3400, "copies", "captions", "slice", slices=True)
    monkeypatch.chdir(tmp_path)
    for one in report.findings:
        for command in one.command.replace("--output kept", f"--output kept-{one.kind}").split(" && "):
            done = CliRunner().invoke(main, shlex.split(command)[1:])
            assert done.exit_code == 0, f"{command}\n{done.output}"
    kept = {
        kind: pq.read_table(tmp_path / f"kept-{kind}/kept").num_rows for kind in ("duplicates", "captions", "slice")
    }
    found = {one.kind: one.affected for one in report.findings}
    assert kept["duplicates"] == N - 36
    assert kept["slice"] == N - found["slice"]
    assert N - kept["captions"] == pytest.approx(found["captions"], abs=1)


def test_wrong_labels_are_shown_by_a_search_for_them(tmp_path: Path) -> None:
    report = made(tmp_path, 3500)
    suspects = Suspects(confused=(Confused(2, 1, 45, 300, True),), classes=LABELS, labelled=N)
    (found,) = findings(report, suspects)
    index, search = found.command.split(" && ")
    assert re.fullmatch(r"clipmill index --embeddings \S+ --output index", index)
    words = shlex.split(search)
    assert words[words.index("--where") + 1] == "label = 'bird'"
    assert words[words.index("--text") + 1] == "a photo of a it's a dog"
    named = Suspects(confused=(Confused(1, 2, 45, 300, False),), classes=LABELS, labelled=N)
    (found,) = findings(report, named)
    assert found.text.startswith("The class it's a dog is taken for bird in 45 of 300 images")
    assert found.command.endswith("--templates imagenet")


def test_an_older_report_is_read_without_them(tmp_path: Path) -> None:
    report = made(tmp_path, 3600)
    document = report.model_dump(mode="json", exclude={"findings", "caution"})
    assert Report.model_validate(document).findings == []
