"""The script of a page and the data that it reads: in the page itself, and allowed by its hash alone."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

_FILE = Path(__file__).parent / "templates" / "page.js"


@dataclass(frozen=True)
class Script:
    """``hash`` as a Content-Security-Policy names it, the ``text``, and ``data`` as JSON in which no tag can end."""

    hash: str
    text: Markup
    data: Markup


def script_with(data: Mapping[str, Any]) -> Script:
    """The page's script over ``data``."""
    text = _text()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(
        f"sha256-{digest}", Markup(text), htmlsafe_json_dumps(data, separators=(",", ":"), ensure_ascii=False)
    )


@cache
def _text() -> str:
    return _FILE.read_text(encoding="utf-8")
