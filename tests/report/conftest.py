"""Pages opened without a network, which tell what they do that they must not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from browsing import SIZES


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
