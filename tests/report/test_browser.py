"""The report in a real browser: every kind of it, light, dark, wide, narrow and printed, with no network, without scripts."""

import io
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioned import identity, pairs
from clipmill.report.page import html_text
from reported import make_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed")

HOSTILE = '</q><script>alert("caption")</script><img src=x onerror=alert(1)> ' + "long" * 60
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}
OVERLAPS = """() => [...document.querySelectorAll("svg.plot")].flatMap((plot) => {
  const texts = [...plot.querySelectorAll("text")].filter((one) => one.textContent.trim());
  const boxes = texts.map((one) => ({ says: one.textContent, at: one.getBoundingClientRect() }));
  const across = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5;
  const down = (a, b) => Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.5;
  const name = plot.getAttribute("aria-label");
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => across(a.at, b.at) && down(a.at, b.at))
    .map((b) => `${name}: ${a.says} / ${b.says}`));
})"""
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


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: object) -> Iterator[Callable[..., object]]:
    """Opens a file with no network; at the end its console must be empty and nothing asked for besides it."""
    contexts, told, asked = [], [], []

    def open_page(path: Path, size: str, scheme: str, *, scripts: bool = True) -> object:
        context = browser.new_context(
            viewport=SIZES[size], color_scheme=scheme, offline=True, java_script_enabled=scripts
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert told == []
    assert all(url.startswith(("file:", "data:")) for url in asked)


@pytest.mark.parametrize("name", KINDS)
def test_labels_of_plots_do_not_touch_and_nothing_is_wider_than_the_window(
    opened: Callable, pages: dict[str, Path], name: str
) -> None:
    for size, scheme in itertools.product(SIZES, ("light", "dark")):
        page = opened(pages[name], size, scheme)
        assert page.evaluate(OVERLAPS) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("name", KINDS)
def test_printed_it_is_whole(opened: Callable, pages: dict[str, Path], name: str) -> None:
    page = opened(pages[name], "wide", "light")
    page.emulate_media(media="print")
    assert page.evaluate(OVERLAPS) == []
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


def test_without_captions_it_opens_with_pictures(opened: Callable, pages: dict[str, Path]) -> None:
    page = opened(pages["pictures alone"], "wide", "light")
    first = page.locator("main section[id]:not(#summary)").first
    assert first.get_attribute("id") == "space"
    assert first.locator("img").count() >= 8
    assert page.locator("section#retrieval").count() == 0
    assert page.locator("details.absent li").count() >= 5
