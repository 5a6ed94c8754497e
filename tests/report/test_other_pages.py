"""Comparisons and search pages in a real browser: light, dark, wide, narrow and printed, with no network, without scripts."""

import base64
import io
import itertools
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browsing import CUT, FITS, OVERLAPS, SIZES
from captioned import identity
from clipmill.core.settings import CompareSettings
from clipmill.report.comparison.comparison import make_comparison
from clipmill.report.results.page import Asked, picture_uri, render_page
from clipmill.report.results.pictures import Pictures
from reported import make_report
from two_models import IMAGES, PATHS, ROWS, captions_with

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
HOSTILE = '</p></li><script>alert("id")</script><img src=x onerror=alert(1)> ' + "long" * 60


def thumbnail(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (24, 36, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def comparison(folder: Path, text: str) -> Path:
    """Of two models whose noise differs; ids and captions begin with a text."""
    reports = []
    for noise in (0.5, 1.5):
        place = folder / str(noise)
        make_report(
            place,
            images=IMAGES,
            captions=captions_with(noise),
            caption_rows=ROWS,
            paths=PATHS,
            labels=["abc"[number % 3] for number in range(120)],
            ids=[f"{text}{number}" for number in range(120)],
            texts=[f"{text}{number}" for number in range(240)],
            thumbnails=[thumbnail(number) for number in range(120)],
            model=identity(16).model_copy(update={"name": "ViT-B-32", "pretrained": "openai"}),
        )
        reports.append(str(place / "r"))
    make_comparison(CompareSettings(reports=tuple(reports), output=str(folder / "c"), bootstrap_samples=1000))
    return folder / "c/comparison.html"


def search_page(folder: Path, text: str) -> Path:
    results = [
        {
            "rank": rank,
            "score": 1 / rank,
            "row": rank,
            "id": f"{text}{rank}",
            "label": f"{text} label",
            "taken with which camera": "an old one",
        }
        for rank in range(1, 9)
    ]
    asked = Asked(
        query=f"like {text}",
        command=f"clipmill search --id '{text}'",
        made=datetime(2026, 1, 2, tzinfo=timezone.utc),
        picture=picture_uri(thumbnail(0)),
        facts={"Model": "tiny tag", "Index": f"/data/{text}", "Version": "20260102T000000Z"},
    )
    page = folder / "search.html"
    pictures = Pictures({row: thumbnail(row) for row in range(1, 6)}, {6: "the source cannot be read"})
    page.write_text(render_page(asked, results, pictures), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp("page") for name in NAMES}
    makers = {"comparison": comparison, "search": search_page}
    return {
        name: makers[name.split()[-1]](folder, HOSTILE if name.startswith("hostile") else "picture ")
        for name, folder in folders.items()
    }


NAMES = ("comparison", "hostile comparison", "search", "hostile search")


@pytest.mark.parametrize("name", NAMES)
def test_labels_do_not_touch_and_nothing_is_wider_than_the_window(
    opened: Callable, pages: dict[str, Path], name: str
) -> None:
    for size, scheme in itertools.product(SIZES, ("light", "dark")):
        page = opened(pages[name], size, scheme)
        assert page.evaluate(OVERLAPS) == []
        assert page.evaluate(CUT) == []
        assert page.evaluate(FITS)
        page.emulate_media(media="print")
        assert page.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("size", SIZES)
def test_names_of_columns_stay_on_one_line_with_their_colon(
    opened: Callable, pages: dict[str, Path], size: str
) -> None:
    page = opened(pages["search"], size, "light")
    names = page.locator(".card dt")
    assert "taken with which camera" in names.all_inner_texts()
    heights = names.evaluate_all(
        "all => all.map((one) => one.clientHeight / parseFloat(getComputedStyle(one).lineHeight))"
    )
    assert max(heights) < 1.5


@pytest.mark.parametrize("name", NAMES)
def test_a_screen_reader_finds_nothing_wrong(opened: Callable, pages: dict[str, Path], name: str) -> None:
    for size, scheme in (("wide", "light"), ("narrow", "dark")):
        assert axe.Axe().run(opened(pages[name], size, scheme)).response["violations"] == []


@pytest.mark.parametrize("name", ["comparison", "search"])
def test_pictures_are_enlarged(opened: Callable, pages: dict[str, Path], name: str) -> None:
    page = opened(pages[name], "wide", "light")
    picture = page.locator(":is(.pic, .card) img").nth(1)
    picture.click()
    large = page.locator("dialog.large img")
    assert large.get_attribute("src") == picture.get_attribute("src")
    shown = Image.open(io.BytesIO(base64.b64decode(large.get_attribute("src").partition(",")[2])))
    assert shown.size[0] > shown.size[1]


@pytest.mark.parametrize("name", NAMES)
def test_without_scripts_all_is_there(opened: Callable, pages: dict[str, Path], name: str) -> None:
    texts = [
        opened(pages[name], "wide", "light", scripts=scripts).locator("main").inner_text() for scripts in (True, False)
    ]
    assert texts[0] == texts[1]
