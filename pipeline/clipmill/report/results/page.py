"""Search results as one HTML page that opens with no network. Everything shown is escaped."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment

from clipmill.report.results.pictures import Pictures

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ query }}</title>
<style>
  body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }
  h1 { font-size: 1.3rem; margin: 0 0 .3rem } p.about { color: #666; margin: 0 0 1.5rem }
  ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1rem; padding: 0 }
  li { list-style: none; background: #fff; border: 1px solid #ddd; border-radius: 6px; padding: .7rem; overflow: hidden }
  .frame { height: 160px; display: flex; align-items: center; justify-content: center; background: #f0f0f0 }
  .frame img { max-width: 100%; max-height: 160px }
  .frame span { color: #767676; font-size: .85rem; padding: .5rem; overflow-wrap: anywhere }
  .score { float: right; font-variant-numeric: tabular-nums; color: #06c } dl { margin: .5rem 0 0; font-size: .85rem }
  dt { color: #888; float: left; clear: left; margin-right: .4rem } dd { margin: 0; overflow-wrap: anywhere }
</style>
<h1>{{ query }}</h1>
<p class="about">{{ about }}</p>
<ol>
{%- for result in results %}
  <li>
    <div class="frame">{% if result.picture %}<img src="{{ result.picture }}" alt="{{ result.id }}">
      {%- else %}<span>no picture{% if result.missing %}: {{ result.missing }}{% endif %}</span>{% endif %}</div>
    <div><b>{{ result.rank }}</b> <span class="score">{{ "%.4f" | format(result.score) }}</span></div>
    <dl>{% for name, value in result.shown.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
  </li>
{%- endfor %}
</ol>
</html>
"""
_TYPES = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"RIFF": "webp", b"GIF8": "gif"}


def render_page(query: str, about: str, results: Sequence[Mapping[str, Any]], pictures: Pictures) -> str:
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
                name: value
                for name, value in result.items()
                if name not in ("rank", "score", "row") and value is not None
            },
        }
        for result in results
    ]
    template = Environment(autoescape=True).from_string(_PAGE)
    return template.render(query=query, about=about, results=shown)


def picture_uri(picture: bytes | None) -> str | None:
    """An encoded picture as a ``data:`` URI; None where there is none, or of no kind that browsers show."""
    kind = next((name for start, name in _TYPES.items() if picture and picture.startswith(start)), None)
    if picture is None or kind is None:
        return None
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
