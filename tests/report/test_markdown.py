"""report.md holds the figures, and nothing in it but ours is markup."""

import re
from pathlib import Path

from captioned import identity, pairs
from clipmill.core.forecasts import Forecast, ForecastFigure
from clipmill.report.document import Report
from clipmill.report.markdown import markdown_text
from clipmill.report.markdown_text import code, prose
from reported import make_report

IMAGES, CAPTIONS, ROWS = pairs(20, 2, noise=2.0)
HOSTILE = (
    "a|b `code` ``two`` <img src=x onerror=alert(1)> [x](javascript:alert(1)) @team \\| https://evil.example\n# big"
)


def test_every_figure_is_in_a_table_with_its_interval(tmp_path: Path) -> None:
    made = make_report(tmp_path, images=IMAGES, captions=CAPTIONS, caption_rows=ROWS, model=identity(16))
    lines = markdown_text(made).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    for part in made.retrieval:
        for figure in part.figures:
            if figure.unit == "proportion":
                value, low, high = (f"{100 * number:.2f}" for number in (figure.value, figure.low, figure.high))
                assert [figure.title, f"{value}%", f"{low}–{high}", f"{part.queries}"] in cells
    assert any("Zero-shot classification" in line and "no column" in line for line in lines)
    assert all(line in markdown_text(made) for line in ("`tiny` `tag`", "## Embedding report: `e`"))


def test_what_was_planned_stands_beside_what_it_was(tmp_path: Path) -> None:
    plan = Forecast(
        basis="as version 7 took",
        figures=[
            ForecastFigure(name="embed_seconds", planned=90, low=80, high=100, unit="s", actual=100),
            ForecastFigure(name="index_bytes", planned=2e6, low=1e6, high=3e6, unit="bytes"),
        ],
    )
    made = make_report(tmp_path, images=IMAGES, captions=CAPTIONS, caption_rows=ROWS, model=identity(16))
    lines = markdown_text(made.model_copy(update={"plan": plan})).splitlines()
    assert "| time to embed | 90.0 s | 100.0 s | -10.0% |" in lines
    assert "| index, on disk or S3 | 2 MB | not known |  |" in lines


def hostile(tmp_path: Path) -> Report:
    made = make_report(
        tmp_path,
        images=IMAGES,
        captions=CAPTIONS,
        caption_rows=ROWS,
        labels=[HOSTILE] * 20,
        model=identity(16).model_copy(update={"name": HOSTILE}),
    )
    return made.model_copy(update={"dataset": made.dataset.model_copy(update={"name": HOSTILE})})


def outside_code(line: str) -> str:
    """A line without its code spans, as CommonMark finds them: a run of backticks up to the next of the same length."""
    return re.sub(r"(?<![`\\])(`+)(?!`).*?(?<!`)\1(?!`)", "", line)


def test_names_and_labels_make_no_markup(tmp_path: Path) -> None:
    text = markdown_text(hostile(tmp_path))
    assert "one class only" in text
    for line in text.splitlines():
        rest = outside_code(line)
        assert not re.search(r"(?<!\\)<", rest)
        assert not re.search(r"(?<!\\)\]\(", rest)
        assert "https://" not in rest
        assert not re.search(r"(?<!\w)@\w", rest)
        assert not line.startswith("# ")
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert tables
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_a_code_span_ends_only_where_we_end_it() -> None:
    for text in ("`", "``` a ``", "a`", HOSTILE, "", "\u202eabc", "x" * 500):
        span = code(text)
        assert outside_code(span) == ""
        assert "|" not in span
        assert "\n" not in span
        assert "\u202e" not in span
        assert len(span) < 180


def test_sentences_keep_their_words() -> None:
    assert prose("R@10 of user@host: 5–6 (at 95%)") == "R@10 of user@host: 5–6 (at 95%)"
    assert prose("@all *now* | <b>") == "@\u200ball \\*now\\* \\| \\<b\\>"
