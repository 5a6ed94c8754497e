"""The pictures of the documentation, taken with Chromium.

    python docs/make_pictures.py results clothing/validation.parquet ID    docs/results.jpg: a search of photographs
    python docs/make_pictures.py pages                                     docs/report.png, serve.png, serve-narrow.png

The photographs are a Parquet file whose pictures may be shown; ID is the row that is asked with. Pages are those of `clipmill
demo`.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from playwright.sync_api import sync_playwright

from clipmill_jobs.__main__ import main

DOCS = Path(__file__).parent
RESULTS = 10
ASKED = "#text=two+green+triangles"


def run(*words: str) -> None:
    """A command of clipmill. Ends the script where it fails."""
    done = CliRunner().invoke(main, words)
    if done.exit_code:
        raise SystemExit(done.output)


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


def take_results(photographs: str, identifier: str) -> None:
    """Embeds, indexes and searches with the built-in model, and takes the picture of the page."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "results.html"
        embeddings, index = f"{folder}/embeddings", f"{folder}/index"
        run("embed", "--input", photographs, "--output", embeddings, "--thumbnails", "240")
        run("index", "--embeddings", embeddings, "--output", index)
        run("search", "--index", index, "--id", identifier, "-k", str(RESULTS), "--html", str(page))
        with browser() as opened:
            shown = opened.new_page(viewport={"width": 1100, "height": 760}, offline=True)
            shown.goto(page.as_uri())
            shown.locator(".asked tr", has_text="Index").evaluate("row => row.remove()")  # a folder of this machine
            shown.screenshot(path=DOCS / "results.jpg", type="jpeg", quality=80)


def take_pages() -> None:
    """The first page of the demo's report, and the page of `clipmill explore` on it, wide, and dark on a telephone."""
    with tempfile.TemporaryDirectory() as folder, browser() as opened:
        run("demo", "--output", f"{folder}/demo")
        report = opened.new_page(viewport={"width": 1000, "height": 1250}, offline=True)
        report.goto(Path(f"{folder}/demo/report/report.html").as_uri())
        report.screenshot(path=DOCS / "report.png")
        with explored(f"{folder}/demo/index") as address:
            for name, width, height, scheme in (("serve", 1280, 860, "light"), ("serve-narrow", 390, 844, "dark")):
                page = opened.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(address + ASKED)
                page.wait_for_load_state("networkidle")
                page.screenshot(path=DOCS / f"{name}.png")


@contextmanager
def explored(index: str) -> Iterator[str]:
    """The address at which `clipmill explore` answers."""
    command = [sys.executable, "-m", "clipmill_jobs", "explore", index, "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield next(word for word in process.stdout.readline().split() if word.startswith("http"))
    process.terminate()
    process.wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["results", photographs, identifier]:
            take_results(photographs, identifier)
        case ["pages"]:
            take_pages()
        case _:
            raise SystemExit(__doc__)
