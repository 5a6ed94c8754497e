"""Search results as one HTML page that opens with no network, and looks as reports do. Everything shown is escaped."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment

from clipmill.core.environment import software
from clipmill.core.schemas import FRAME, TIMESTAMP
from clipmill.core.values import clock_text
from clipmill.report.page_shell import page_environment
from clipmill.report.results.pictures import Pictures
from clipmill.report.script import script_with

_TYPES = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"RIFF": "webp", b"GIF8": "gif"}


@dataclass(frozen=True)
class Asked:
    """What was asked and of what: the ``query`` in words, its ``picture`` as a ``data:`` URI where it is one, the ``command``,
    the time (UTC), and ``facts`` to tell by their names, such as the model and the index."""

    query: str
    command: str
    made: datetime
    picture: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def render_page(asked: Asked, results: Sequence[Mapping[str, Any]], pictures: Pictures) -> str:
    """A page of ``results`` (dicts with rank, score, row, id and further columns), each with its picture, or why
    there is none."""
    shown = [
        {
            "rank": result["rank"],
            "score": result["score"],
            "id": result["id"],
            "picture": picture_uri(pictures.found.get(result["row"])),
            "missing": pictures.missing.get(result["row"]),
            "shown": {
                name: clock_text(value) if name == TIMESTAMP and FRAME in result else value
                for name, value in result.items()
                if name not in ("rank", "score", "row", "id") and value is not None
            },
        }
        for result in results
    ]
    template = _environment().get_template("results.html")
    text: str = template.render(asked=asked, results=shown, version=software()["clipmill"], script=script_with({}))
    return text


@cache
def _environment() -> Environment:
    return page_environment()


def picture_uri(picture: bytes | None) -> str | None:
    """An encoded picture as a ``data:`` URI; None where there is none, or of no kind that browsers show."""
    kind = next((name for start, name in _TYPES.items() if picture and picture.startswith(start)), None)
    if picture is None or kind is None:
        return None
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
