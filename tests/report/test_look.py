"""One look: every page has the same colours, dark mode and print, from one source."""

import re
from datetime import datetime, timezone
from pathlib import Path

from captioned import pairs
from clipmill.report.look.styles import notebook_style, page_style
from clipmill.report.page import html_text
from clipmill.report.results.page import Asked, render_page
from clipmill.report.results.pictures import Pictures
from reported import make_report

PAGE = Path(__file__).parents[2] / "pipeline/clipmill/serve/page"


def test_pages_take_their_colours_from_one_place(tmp_path: Path) -> None:
    images, captions, rows = pairs(4, 1)
    report = html_text(make_report(tmp_path, images=images, captions=captions, caption_rows=rows))
    style = page_style()
    for wanted in ("prefers-color-scheme: dark", "@media print", "--paper:"):
        assert wanted in style
    asked = Asked("a dog", "clipmill search", datetime(2026, 1, 2, tzinfo=timezone.utc))
    for page in (report, render_page(asked, [], Pictures())):
        assert style in page
    served = (PAGE / "index.html").read_text()
    assert served.index("/page/look.css") < served.index("/page/page.css")


def test_no_other_style_sheet_sets_a_colour_of_its_own() -> None:
    report = Path(__file__).parents[2] / "pipeline/clipmill/report/templates/style.css"
    for sheet in (report, PAGE / "page.css"):
        assert re.findall(r"#[0-9a-f]{3,8}\b(?=[;\s}])", sheet.read_text()) == []
        assert "--paper:" not in sheet.read_text()


def test_in_a_notebook_the_style_stays_with_the_results() -> None:
    style = notebook_style()
    assert ":root" not in style
    assert "body" not in style
    outside = re.sub(r"\.clipmill \{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}", "", style)
    assert re.fullmatch(r"\s*(@media [^{]*\{\s*\}\s*)*", outside)
