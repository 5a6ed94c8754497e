"""A metric that is added as docs/report.md says reaches every report and the comparison, and nothing else changes."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from captioned import identity, pairs
from clipmill.core.settings import CompareSettings
from clipmill.evaluation import figures
from clipmill.evaluation.retrieval import measures, retrieval
from clipmill.report.comparison.comparison import make_comparison
from clipmill.report.markdown import markdown_text
from clipmill.report.page import html_text
from reported import make_report

PAGE = (Path(__file__).parents[2] / "docs/report.md").read_text(encoding="utf-8")
IMAGES, CAPTIONS, ROWS = pairs(30, 3, noise=3.0)
DATASET = {"images": IMAGES, "captions": CAPTIONS, "caption_rows": ROWS, "model": identity(16), "paths": ["s3://b/one"]}


def block(language: str) -> str:
    """The first block of code of the section on adding a metric."""
    section = PAGE[PAGE.index("## How to add a metric") :]
    found = re.search(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Precision at 10, as the page adds it."""
    metrics = tmp_path / "metrics.yaml"
    metrics.write_text(figures.METRICS.read_text(encoding="utf-8") + block("yaml"), encoding="utf-8")
    name, function = next(iter(eval(f"{{{block('python')}}}", vars(measures)).items()))
    families = (*measures.FAMILIES, measures.Family({name: function}))
    monkeypatch.setattr(figures, "METRICS", metrics)
    monkeypatch.setattr(retrieval, "FAMILIES", families)
    figures._entries.cache_clear()
    yield
    figures._entries.cache_clear()


def test_a_metric_added_as_the_page_says_is_everywhere(tmp_path: Path, added: None) -> None:
    report = make_report(tmp_path, **DATASET)
    figure = report.figure("i2t.precision@10")
    assert figure is not None
    scores = IMAGES.astype(float) @ CAPTIONS.astype(float).T
    first = np.argsort(-scores, axis=1)[:, :10]
    assert figure.value == pytest.approx(np.mean(ROWS[first] == np.arange(30)[:, None]))
    assert figure.low is not None
    assert f"| Precision@10 | {figure.value:.2%} |" in markdown_text(report)
    page = html_text(report)
    assert page.count("Precision@10") >= 2
    assert "Share of the first 10 results that are positives" in page
    output = tmp_path / "comparison"
    reports = shutil.copytree(tmp_path / "r", tmp_path / "copy"), tmp_path / "r"
    settings = CompareSettings(reports=tuple(map(str, reports)), output=str(output), bootstrap_samples=1000)
    rows = make_comparison(settings).manifest.rows
    assert [row.higher_is_better for row in rows if row.title == "Precision@10"] == [True, True]


def test_without_it_nothing_knows_of_it(tmp_path: Path) -> None:
    report = make_report(tmp_path, **DATASET)
    assert report.figure("i2t.precision@10") is None
    assert "Precision@10" not in html_text(report)
