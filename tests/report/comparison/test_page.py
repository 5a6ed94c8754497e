"""The page and the summary of a comparison show everything, need nothing else, and cannot be broken by what they show."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from captioned import identity
from clipmill.core.settings import CompareSettings
from clipmill.report.comparison.comparison import make_comparison
from clipmill.report.comparison.document import Comparison
from clipmill.report.comparison.markdown import markdown_text
from clipmill.report.comparison.page import html_text
from html_page import Page

HOSTILE = (
    '</q><script>alert("caption")</script><img src=x onerror=alert(1)>{{ 7 * 7 }} | `x` [a](javascript:b) " onload="c'
)
MODEL = identity(16).model_copy(update={"name": "ViT-B-32", "pretrained": "openai"})


@pytest.fixture(scope="module")
def hostile(report: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two reports whose captions, ids, labels and paths are all hostile."""
    options = {
        "texts": [f"{HOSTILE} {number}" for number in range(240)],
        "ids": [f'<b>{number}"|`' for number in range(120)],
        "labels": [f"<i>{number % 3}</i>|`" for number in range(120)],
        "paths": [f"s3://b/{HOSTILE}"],
        "model": MODEL,
    }
    reports = (report(**options), report(noise=2.0, **options))
    output = tmp_path_factory.mktemp("comparison") / "c"
    return make_comparison(CompareSettings(reports=reports, output=str(output), bootstrap_samples=1000)).manifest


def test_captions_ids_and_labels_are_shown_as_text_and_nothing_else(hostile: Comparison) -> None:
    page = Page(html_text(hostile))
    assert page.open == []
    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert not {"q", "i", "img"} & {tag for tag, _ in page.tags}
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    text = " ".join(page.text)
    assert HOSTILE[:60] in text
    assert '"|`' in text


def test_the_page_asks_for_no_other_file_and_its_links_lead_somewhere(hostile: Comparison) -> None:
    content = html_text(hostile)
    page = Page(content)
    for _, attributes in page.tags:
        for name in ("src", "href"):
            link = attributes.get(name)
            assert link is None or link.startswith(("data:", "#"))
    assert "url(" not in content
    assert "@import" not in content
    places = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {attributes["href"].removeprefix("#") for tag, attributes in page.tags if tag == "a"}
    assert links <= places
    assert len(links) == 9


def test_every_tested_figure_is_there_with_its_interval_and_verdict(hostile: Comparison) -> None:
    text = re.sub(r"\s+", " ", " ".join(Page(html_text(hostile)).text))
    for task in hostile.candidates[0].tasks:
        for change in task.changes:
            if change.unit == "proportion":
                expected = f"{abs(100 * change.difference):.2f}"
                assert re.search(
                    rf"{change.title}\s+{100 * change.first:.2f}%\s+{100 * change.second:.2f}%.{{0,4}}", text
                )
                assert expected in text
    assert text.count("worse") >= 3


def test_published_figures_stand_apart_with_their_source(hostile: Comparison) -> None:
    content = html_text(hostile)
    published = content[content.index('id="published"') : content.index('id="settings"')]
    assert "Published, not measured here" in published
    assert "Flickr30k" in published
    assert "89fb801f" in published
    assert "Flickr30k" not in content.replace(published, "")
    assert "GFLOPs per image" in content[content.index('id="cost"') : content.index('id="published"')]


def test_no_row_of_the_summary_is_broken_by_text(hostile: Comparison) -> None:
    text = markdown_text(hostile)
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) >= 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    examples = [line for line in text.splitlines() if line.startswith("- lost: ")]
    assert examples
    for line in examples:
        assert re.fullmatch(r"- lost: (`+) ?[^\n]*? ?\1(, rank [\d,.]+ to [\d,.]+)?", line)


def test_a_comparison_without_tests_has_a_page(good: str, report: Callable[..., str], tmp_path: Path) -> None:
    elsewhere = report(paths=["s3://other/one.parquet"], labels=None, model=None)
    settings = CompareSettings(reports=(good, elsewhere), output=str(tmp_path / "c"), bootstrap_samples=1000)
    comparison = make_comparison(settings).manifest
    page = Page(html_text(comparison))
    assert page.open == []
    text = re.sub(r"\s+", " ", " ".join(page.text))
    assert text.count("side by side only, not tested") >= 3
    assert "No figures are known of these models" in text
    assert "not tested" in markdown_text(comparison)
