"""The picture at the beginning of the README: what a search of photographs shows.

    python docs/make_pictures.py clothing/validation.parquet ID docs/results.jpg

The photographs are a Parquet file whose pictures may be shown; ID is the row that is asked with. Needs Chromium.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner
from playwright.sync_api import sync_playwright

from clipmill_jobs.__main__ import main

SIZE = {"width": 1100, "height": 760}
RESULTS = 10


def make_picture(photographs: str, identifier: str, picture: Path) -> None:
    """Embeds, indexes and searches with the built-in model, and takes the picture of the page."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "results.html"
        embeddings, index = f"{folder}/embeddings", f"{folder}/index"
        for words in (
            ["embed", "--input", photographs, "--output", embeddings, "--thumbnails", "240"],
            ["index", "--embeddings", embeddings, "--output", index],
            ["search", "--index", index, "--id", identifier, "-k", str(RESULTS), "--html", str(page)],
        ):
            done = CliRunner().invoke(main, words)
            if done.exit_code:
                raise SystemExit(done.output)
        with sync_playwright() as started:
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            shown = browser.new_page(viewport=SIZE, offline=True)
            shown.goto(page.as_uri())
            shown.locator(".asked tr", has_text="Index").evaluate("row => row.remove()")  # a folder of this machine
            shown.screenshot(path=picture, type="jpeg", quality=80)
            browser.close()


if __name__ == "__main__":
    make_picture(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
