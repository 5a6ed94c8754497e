"""What every page shares: a template engine that escapes all text, one style sheet, and numbers as filters."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from clipmill.evaluation.figures import DIRECTIONS
from clipmill.report import format as formats
from clipmill.report.look.styles import page_style

_TEMPLATES = Path(__file__).parent / "templates"
_FILTERS: dict[str, Callable[..., str]] = {
    "value": formats.value_text,
    "interval": formats.interval_text,
    "hover": formats.hover_text,
    "size": formats.size_text,
    "number": formats.number_text,
    "signed": formats.signed_text,
    "p": formats.p_text,
}


def page_environment(**names: Any) -> Environment:
    """The engine for the templates of all pages; ``names`` are what a page's own templates refer to besides."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    stylesheet = Markup(page_style() + (_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    environment.globals.update(
        stylesheet=stylesheet, directions=DIRECTIONS, definitions=definitions, script=None, **names
    )
    environment.filters.update(_FILTERS)
    return environment


def definitions(defined: Iterable[Any]) -> list[tuple[list[str], str]]:
    """Each definition of figures (or rows of a comparison) once, with the titles of those that it defines."""
    titles: dict[str, list[str]] = {}
    for one in defined:
        named = titles.setdefault(one.definition, [])
        if one.title not in named:
            named.append(one.title)
    return [(named, definition) for definition, named in titles.items()]
