"""The style sheets as text: of a page, of the service, and of results within another page."""

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent
_SCOPE = ".clipmill"
"""The class around results within another page."""


@cache
def _sheet(name: str) -> str:
    return (_FOLDER / f"{name}.css").read_text(encoding="utf-8")


def page_style() -> str:
    """Of a whole page: colours, type, and cards of results."""
    return "".join(map(_sheet, ("colours", "page", "cards")))


def notebook_style() -> str:
    """Of results in a notebook: colours and cards, for what is inside of an element of class ``clipmill`` alone."""
    return _sheet("colours").replace(":root", _SCOPE) + f"{_SCOPE} {{ {_sheet('cards')} }}"
