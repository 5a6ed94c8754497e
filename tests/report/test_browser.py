"""The report in a real browser: every kind of it, light, dark, wide, narrow and printed, with no network, without scripts."""

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browsing import CUT, FITS, OVERLAPS, SIZES, until
from captioned import identity, pairs
from clipmill.report.page import html_text
from reported import make_report

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

HOSTILE = '</q><script>alert("caption")</script><img src=x onerror=alert(1)> ' + "long" * 60
RIGHT_ENDS = """tiles => Object.values(Object.groupBy(tiles.map((one) => one.getBoundingClientRect()), (one) => one.top))
  .map((row) => row.at(-1).right)"""


def thumbnail(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (24, 36, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def dataset(images: int, each: int, *, labels: int = 0, hostile: bool = False) -> dict[str, object]:
    pictures, captions, rows = pairs(images, max(1, each), noise=1.0)
    if not each:
        captions, rows = captions[:0], rows[:0]
    made: dict[str, object] = {"images": pictures, "captions": captions, "caption_rows": rows}
    made["thumbnails"] = [thumbnail(number % 20) for number in range(images)]
    if labels:
        name = HOSTILE if hostile else "a class of pictures"
        made |= {"labels": [f"{name} {number % labels}" for number in range(images)], "model": identity(16)}
        made["slice_by"] = ("label",)
    if hostile:
        made |= {
            "texts": [f"{HOSTILE} {number}" for number in range(len(rows))],
            "ids": [f"{HOSTILE}{number}" for number in range(images)],
        }
    return made


KINDS: dict[str, dict[str, object]] = {
    "captions": dataset(300, 2),
    "labels": dataset(300, 2, labels=7),
    "labels alone": dataset(300, 0, labels=30),
    "pictures alone": dataset(120, 0),
    "one row": dataset(1, 1),
    "nothing but rejects": {
        **dataset(1, 1),
        "images": dataset(1, 1)["images"][:0],
        "captions": dataset(1, 1)["captions"][:0],
        "caption_rows": [],
        "thumbnails": [],
        "rejected_images": 9,
    },
    "hostile": dataset(120, 2, labels=3, hostile=True),
    "many": {**dataset(20_000, 1), "thumbnails": None},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, given in KINDS.items():
        folder = tmp_path_factory.mktemp("report")
        made[name] = folder / "report.html"
        made[name].write_text(html_text(make_report(folder, **given)), encoding="utf-8")
    return made


@pytest.mark.parametrize("name", KINDS)
def test_labels_of_plots_do_not_touch_and_nothing_is_wider_than_the_window(
    opened: Callable, pages: dict[str, Path], name: str
) -> None:
    for size, scheme in itertools.product(SIZES, ("light", "dark")):
        page = opened(pages[name], size, scheme)
        assert page.evaluate(OVERLAPS) == []
        assert page.evaluate(CUT) == []
        assert page.evaluate(FITS)


@pytest.mark.parametrize("name", KINDS)
def test_printed_it_is_whole(opened: Callable, pages: dict[str, Path], name: str) -> None:
    for size in SIZES:
        page = opened(pages[name], size, "dark")
        page.emulate_media(media="print")
        assert page.evaluate(OVERLAPS) == []
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert len(page.pdf()) > 10_000


@pytest.mark.parametrize("name", KINDS)
def test_a_screen_reader_finds_nothing_wrong(opened: Callable, pages: dict[str, Path], name: str) -> None:
    for size, scheme in (("wide", "light"), ("narrow", "dark")):
        page = opened(pages[name], size, scheme)
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert axe.Axe().run(page).response["violations"] == []


@pytest.mark.parametrize("name", KINDS)
def test_tiles_leave_no_gap_in_their_last_row(opened: Callable, pages: dict[str, Path], name: str) -> None:
    for size in SIZES:
        page = opened(pages[name], size, "light")
        rows = page.locator(".tile").evaluate_all(RIGHT_ENDS)
        assert max(rows, default=0) - min(rows, default=0) < 1


def test_without_scripts_it_is_whole(opened: Callable, pages: dict[str, Path]) -> None:
    page = opened(pages["labels"], "wide", "light", scripts=False)
    assert page.locator("section h2").count() >= 8
    assert page.locator("svg.plot").count() >= 4
    assert page.locator("table.sieved tbody tr:visible").count() > 100
    assert page.locator("form.sieve").is_hidden()
    assert "drawn by the page's own script" in page.locator("#map").inner_text()


def test_queries_are_sorted_and_narrowed_by_hand(opened: Callable, pages: dict[str, Path]) -> None:
    page = opened(pages["labels"], "wide", "light")
    shown = page.locator("table.sieved tbody tr:visible")
    everything = shown.count()
    page.select_option('select[name="task"]', "t2i")
    page.select_option('select[name="beyond"]', "10")
    ranks = [float(text) for text in shown.locator("td:nth-child(3)").all_inner_texts()]
    assert 0 < len(ranks) < everything
    assert min(ranks) > 10
    heading = page.locator("table.sieved thead th", has_text="Rank")
    for order, reverse in (("ascending", False), ("descending", True)):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == order
        assert [float(text) for text in shown.locator("td:nth-child(3)").all_inner_texts()] == sorted(
            ranks, reverse=reverse
        )
    some = shown.locator("td:nth-child(2)").first.inner_text().split("id-")[0].strip()
    page.fill('input[name="text"]', some.upper())
    assert 1 <= shown.count() <= len(ranks)
    assert all(some in text for text in shown.locator("td:nth-child(2)").all_inner_texts())
    assert page.locator("form.sieve output").inner_text() == f"{shown.count()} of {everything}"
    page.click('form.sieve button[type="reset"]')
    until(page, f"document.querySelector('form.sieve output').value === '{everything} of {everything}'")


def test_a_bar_leads_to_its_queries(opened: Callable, pages: dict[str, Path]) -> None:
    page = opened(pages["labels"], "wide", "light")
    shown = page.locator("table.sieved tbody tr:visible")
    page.locator('svg a[data-task="i2t"][data-beyond="5"]').click()
    assert page.url.endswith("#queries")
    assert set(shown.locator("td:nth-child(1)").all_inner_texts()) == {"image → text"}
    assert all(float(text) > 5 for text in shown.locator("td:nth-child(3)").all_inner_texts())
    page.locator('svg a[data-label="a class of pictures 3"]').click()
    assert shown.count() > 0
    assert set(shown.locator("td:nth-child(3)").all_inner_texts()) == {"missed"}
    assert set(shown.locator("[data-label]").all_inner_texts()) == {"a class of pictures 3"}
    assert page.locator(".only").inner_text() == "label a class of pictures 3"


def test_a_picture_is_enlarged_and_left_by_keys(opened: Callable, pages: dict[str, Path]) -> None:
    page = opened(pages["labels"], "wide", "light")
    pictures, large = page.locator(".shot img"), page.locator("dialog.large")
    pictures.nth(2).focus()
    page.keyboard.press("Enter")
    assert large.is_visible()
    assert large.locator("img").get_attribute("src") == pictures.nth(2).get_attribute("src")
    page.keyboard.press("ArrowRight")
    assert large.locator("img").get_attribute("src") == pictures.nth(3).get_attribute("src")
    assert "(row " in large.locator("p").inner_text()
    page.keyboard.press("Escape")
    assert not large.is_visible()


def test_the_map_shows_what_lies_under_the_pointer(opened: Callable, pages: dict[str, Path]) -> None:
    page = opened(pages["labels"], "wide", "light")
    drawn = page.evaluate("JSON.parse(document.getElementById('data').textContent).map")
    assert page.locator('select[name="colour"] option').all_inner_texts()[:2] == ["nothing", "label"]
    canvas, here = page.locator(".sky > canvas"), page.locator(".here")
    page.locator("#map").scroll_into_view_if_needed()
    size = canvas.bounding_box()["width"]
    far = max(range(300), key=lambda number: drawn["x"][number])  # the last to the right: nothing lies on it
    place = {"x": 8 + drawn["x"][far] * (size - 16), "y": 8 + drawn["y"][far] * (size - 16)}
    assert here.is_hidden()
    canvas.hover(position=place)
    assert here.locator("b").inner_text() == drawn["ids"][far]
    assert here.locator("span").inner_text() == f"label: a class of pictures {far % 7}"
    pixels = "(tile) => new Set(tile.getContext('2d').getImageData(0, 0, 48, 48).data).size"
    until(page, f"({pixels})(document.querySelector('.here canvas')) > 20")
    before = canvas.evaluate("(one) => one.toDataURL()")
    page.select_option('select[name="colour"]', label="cosine with its captions")
    assert canvas.evaluate("(one) => one.toDataURL()") != before
    assert page.locator(".legend li").count() == 3


def test_without_captions_it_opens_with_pictures(opened: Callable, pages: dict[str, Path]) -> None:
    page = opened(pages["pictures alone"], "wide", "light")
    first = page.locator("main section[id]:not(#summary)").first
    assert first.get_attribute("id") == "space"
    assert first.locator("img").count() >= 8
    assert page.locator("section#retrieval").count() == 0
    assert page.locator("details.absent li").count() >= 5
